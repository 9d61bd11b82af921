"""The statistics page: right numbers, duplicates told, one file that holds everything."""

import dataclasses
import os
import re
import signal
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from scans.catalog.synthesis import override
from synth.cli.application import app
from synth.generators.layers import LAYERS
from synth.generators.way import Way
from synth.report.quantities import ellipsoid_sphericity, quantities
from synth.report.stats import ENOUGH_VOXELS, measure, sphericity
from synth.report.stats_page import write_page
from synth.sources.reader import SourceStore
from synth.tumour.compose import make_sample
from synth.tumour.recipe import COLUMNS, Recipe
from tests.made.commands import synth
from tests.made.running import running, wait_for, workers_of
from tests.made.sources import REGION, make_store
from tests.made.ways import way

COUNT = 36
VOID = {"meta", "link", "br", "img", "hr"}


def stats(*arguments):
    return synth("stats", *arguments)


@pytest.fixture(scope="module")
def measured(sources, sources_path):
    return measure(sources_path, way(sources.region.synthesis), seed=7, count=COUNT)


@pytest.fixture(scope="module")
def samples(measured, sources):
    """Every measured sample, as recipe, normal and the whole arrays."""
    rows = np.stack([measured.values[name] for name in COLUMNS], axis=1)
    made = []
    for recipe in map(Recipe.from_row, rows):
        normal, donor = (sources.load(measured.sources[i]) for i in (recipe.normal, recipe.donor))
        made.append((recipe, normal, make_sample(recipe, normal, donor, measured.way.settings)))
    return made


def test_the_recipes_are_those_of_a_corpus(measured, sources, samples):
    names = sources.names
    for index in (0, 20, 35):
        again = Way(LAYERS, sources.region.synthesis).draw(lambda i: sources.load(names[i]), len(names), 7, index)
        assert samples[index][0] == again


def test_volume_and_contrast_are_those_of_the_whole_arrays(measured, samples):
    for index, (recipe, normal, sample) in enumerate(samples):
        inside = sample.mask > 0
        z, y, x = normal.spacing_mm
        assert measured.values["kept_mm3"][index] == pytest.approx(inside.sum() * z * y * x)
        assert measured.values["form_mm3"][index] * recipe.kept == pytest.approx(inside.sum() * z * y * x)
        seen = (sample.composite[inside] - sample.normal[inside]).astype(float).mean()
        deviation = sample.normal[normal.roi].astype(float).std()
        assert measured.values["contrast"][index] == pytest.approx(seen / deviation)


def test_the_texture_has_the_drawn_ratio_where_the_settings_promise_it(sources, sources_path):
    settings = override(sources.region.synthesis, ["linear.reference=mask"])
    values = measure(sources_path, way(settings), seed=7, count=12).values
    np.testing.assert_allclose(values["texture_ratio"], values["ratio"], rtol=1e-4)  # the texture is float16


def test_the_centre_lies_where_a_slow_search_finds_it(measured, samples):
    for index, (recipe, normal, _) in enumerate(samples[:12]):
        roi = np.argwhere(normal.roi)
        low, high = roi.min(axis=0), roi.max(axis=0)
        fraction = (np.array(recipe.centre) - low + 0.5) / (high - low + 1)
        found = [measured.values[f"along_{axis}"][index] for axis in "zyx"]
        np.testing.assert_allclose(found, fraction)
        outside = np.argwhere(~np.pad(normal.roi, 1)) - 1
        depth, _ = cKDTree(outside * normal.spacing_mm).query(np.array(recipe.centre) * normal.spacing_mm)
        assert measured.values["depth_mm"][index] == pytest.approx(depth, abs=0.051)


def test_the_law_of_a_centre_is_the_share_of_the_rois_voxels(measured, sources):
    law = next(q.law for q in quantities(measured) if q.name == "centre, bottom to top")
    below = []
    for name in sources.names:
        planes = np.argwhere(sources.load(name).roi)[:, 0]
        below.append(np.mean((planes - planes.min() + 0.5) / (planes.max() - planes.min() + 1) <= 0.4))
    assert law.cdf(np.array([0.4]))[0] == pytest.approx(np.mean(below))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.4, 1.1, 1.2), (1.4, 1.0, 1.0)])
@pytest.mark.parametrize("axis_ratio", [1.0, 0.8, 0.6])
def test_the_sphericity_of_a_digital_ellipsoid_is_that_of_the_smooth_one(spacing, axis_ratio):
    semi_axes = 14.0 * np.array([1.0, 1.0 / axis_ratio, axis_ratio])
    reach = np.ceil(semi_axes / spacing).astype(int) + 1
    grids = np.meshgrid(*(np.arange(-n, n + 1) * side for n, side in zip(reach, spacing, strict=True)), indexing="ij")
    inside = sum(((grid - 0.3) / axis) ** 2 for grid, axis in zip(grids, semi_axes, strict=True)) <= 1
    assert sphericity(inside.astype(np.uint8), spacing) == pytest.approx(ellipsoid_sphericity(axis_ratio), rel=0.02)


def test_the_sphericity_of_the_ellipsoid_is_that_of_its_textbook_surface():
    """Thomsen's formula for the surface of an ellipsoid is good to 1.1 %."""
    a, b, c = 1.0, 1 / 0.7, 0.7
    p = 1.6075
    surface = 4 * np.pi * (((a * b) ** p + (a * c) ** p + (b * c) ** p) / 3) ** (1 / p)
    assert ellipsoid_sphericity(0.7) == pytest.approx(4 * np.pi / surface, rel=0.011)
    assert ellipsoid_sphericity(1.0) == pytest.approx(1)


def test_masks_of_few_voxels_have_no_sphericity():
    few = np.zeros((9, 9, 9), np.uint8)
    few.flat[: ENOUGH_VOXELS - 1] = 1
    assert np.isnan(sphericity(few, (1.0, 1.0, 1.0)))
    few.flat[ENOUGH_VOXELS] = 1
    assert 0 < sphericity(few, (1.0, 1.0, 1.0)) < 1


def test_every_drawn_quantity_follows_its_law(sources_path, sources):
    settings = override(sources.region.synthesis, ["shape.volume_law=log-uniform", "donor.shift=3"])
    shown = quantities(measure(sources_path, way(settings), seed=1, count=150))
    drawn = {quantity.name: quantity.distance for quantity in shown if quantity.drawn}
    assert {"volume, drawn", "intensity ratio r", "alpha", "donor", "donor shift, x", "long axis against z"} < set(
        drawn
    )
    assert not [quantity.name for quantity in shown if quantity.strange]


def test_a_quantity_that_leaves_its_law_is_named_on_the_page(measured, sources, tmp_path):
    crooked = dataclasses.replace(measured, values={**measured.values, "alpha": 0.2 + measured.values["alpha"] / 10})
    assert [quantity.name for quantity in quantities(crooked) if quantity.strange] == ["alpha"]
    write_page(crooked, sources, tmp_path / "p.html")
    assert "Not as their law: alpha" in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_samples_that_repeat_are_found_whatever_they_share(measured):
    assert not any(measured.duplicates().values())
    values = {name: column.copy() for name, column in measured.values.items()}
    for name in COLUMNS[1:]:  # all but the index
        values[name][9] = values[name][4]
    for name in ("noise_high", "noise_low"):
        values[name][20] = values[name][3]
    masks = [*measured.masks[:-1], measured.masks[0]]
    found = dataclasses.replace(measured, values=values, masks=masks).duplicates()
    assert found == {"recipes": [(4, 9)], "noise seeds": [(4, 9), (3, 20)], "masks": [(0, COUNT - 1)]}


class Page(HTMLParser):
    """Checks that what opens is closed, and collects what a browser would fetch."""

    def __init__(self, path):
        super().__init__()
        self.open, self.links, self.text = [], [], ""
        content = path.read_text(encoding="utf-8")
        self.feed(content)
        self.links += re.findall(r"url\(([^)]*)\)", content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_one_whole_file_that_fetches_nothing(measured, sources, tmp_path):
    (tmp_path / "stats.html").write_text("an older page", encoding="utf-8")
    write_page(measured, sources, tmp_path / "stats.html")
    assert [file.name for file in tmp_path.iterdir()] == ["stats.html"]
    page = Page(tmp_path / "stats.html")
    assert page.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert "No two samples share a recipe, a noise seed or a mask." in page.text
    assert "uniform, 0.6 to 6" in page.text
    assert all(name in page.text for name in sources.names)


def test_names_from_outside_are_escaped(tmp_path):
    path = make_store(tmp_path / "s.zarr", 2, region=REGION.model_copy(update={"name": "<b>bold & brave</b>"}))
    store = SourceStore(path)
    write_page(measure(path, way(store.region.synthesis), 0, 3), store, tmp_path / "p.html")
    content = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;bold &amp; brave&lt;/b&gt;" in content
    assert "<b>" not in content


def test_the_page_is_the_same_from_one_process_and_from_two(sources_path, tmp_path):
    line = ["stats", "--sources", sources_path, "-n", 60, "--seed", 3, "--out"]
    for workers in (0, 2):
        arguments = [*line, tmp_path / f"{workers}.html", "--workers", workers]
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exit_code == 0, done.output
        assert "no duplicates among 60" in done.output
    assert (tmp_path / "0.html").read_bytes() == (tmp_path / "2.html").read_bytes()


def test_tumours_too_small_to_differ_are_told_and_the_exit_code_is_1(sources_path, tmp_path):
    page, volume = tmp_path / "p.html", "shape.volume_mm3=[0.5,0.6]"
    done = stats("--sources", sources_path, "--out", page, "-n", 4, "--set", volume, "--workers", 0)
    assert done.returncode == 1
    assert "duplicates: 3 masks (1 as 0, 2 as 0, 3 as 0)" in done.stderr
    assert "3 masks (1 as 0" in Page(page).text


def test_ctrl_c_ends_all_processes_with_a_word_and_without_a_page(sources_path, tmp_path):
    command = [sys.executable, "-m", "synth.cli", "stats", "--sources", sources_path, "--out", tmp_path / "p.html"]
    with running([*map(str, command), "-n", "20000", "--workers", "2"]) as run:
        wait_for(lambda: len(workers_of(run)) == 2)
        workers = workers_of(run)
        time.sleep(0.5)
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=60)[1]
        assert not any(worker.is_running() and worker.status() != "zombie" for worker in workers)
    assert run.returncode == 130
    assert "stopped" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sources", "nowhere.zarr"], "nowhere.zarr"),
        (["--sources", "SOURCES", "-n", 0], "-n 0: ask for at least one sample"),
        (["--sources", "SOURCES", "--seed", -1], "--seed -1: give a whole number"),
        (["--sources", "SOURCES", "--set", "alpha=[2,3]"], "--set"),
        (["--sources", "SOURCES", "--out", "no/folder/p.html"], "there is no folder no/folder"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, sources_path):
    done = stats(*[sources_path if argument == "SOURCES" else argument for argument in arguments])
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
