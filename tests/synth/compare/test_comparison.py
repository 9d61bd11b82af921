"""Corpora and real tumours side by side: one page, or one picture, of what is there."""

import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from scans.catalog.region import Normalisation
from scans.errors import StoreError
from synth.cli.application import app
from synth.compare.column import column_of_annotated, column_of_corpus
from synth.compare.figure import common_window, comparison_png, scale_of
from synth.compare.labelled import annotated, annotated_scans, samples_of
from synth.compare.measuring import MEASURES, measure
from synth.compare.page import write_comparison
from synth.corpus import Corpus
from synth.sources.format import finalise, open_to_write, write_source
from synth.sources.reader import SourceStore
from tests.made.corpora import make_corpus, pick_store
from tests.made.sources import REGION, make_scan


def quiet(steps, total):
    pass


def write_annotated(path, seeds, region=REGION):
    """Write a store of scans whose lesions are annotated tumours."""
    with open_to_write(path, region, 32):
        for seed in seeds:
            scan = make_scan(seed)
            tumour = (scan["arrays"]["foreground"] > 0) & (scan["arrays"]["roi"] == 0)
            told = {"dataset": "ward", "case": f"t{seed}", "tumour_voxels": int(tumour.sum())}
            write_source(path, f"ward--t{seed}", scan["arrays"], {**scan["provenance"], **told})
        finalise(path)
    return path


@pytest.fixture(scope="module")
def faint(tmp_path_factory, sources_path):
    settings = ("alpha=[0.2,0.3]", "linear.ratio=[[1.2,1.3]]")
    return make_corpus(tmp_path_factory.mktemp("faint") / "<faint>.zarr", sources_path, *settings, samples=10)


@pytest.fixture(scope="module")
def lent(tmp_path_factory):
    return write_annotated(tmp_path_factory.mktemp("lent") / "annotated.zarr", [3])


@pytest.fixture(scope="module")
def columns(corpus_path, faint, lent):
    return [
        column_of_corpus(Corpus(corpus_path), 12, quiet),
        column_of_corpus(Corpus(faint), 12, quiet),
        column_of_annotated(SourceStore(lent), quiet),
    ]


def stats(*arguments):
    result = CliRunner().invoke(app, ["stats", *map(str, arguments)])
    said = str(result.exception) if result.exception and result.exit_code == 1 else ""
    return result.exit_code, " ".join((result.output + said).split())


def test_a_column_holds_what_each_scan_of_its_corpus_measures(columns, corpus_path):
    corpus = Corpus(corpus_path)
    indices = [int(each.name.removeprefix("sample ")) for each in columns[0].slices]
    assert len(set(indices)) == 12
    assert (indices[0], indices[-1]) == (0, len(corpus) - 1)
    for place, index in enumerate(indices):
        sample = corpus[index]
        (scan,) = samples_of(corpus, [index])
        np.testing.assert_array_equal(scan.voxels, sample.composite)
        np.testing.assert_array_equal(scan.mask, sample.mask > 0)
        assert not (scan.mask & ~scan.roi).any()
        found = measure(scan)
        for name in MEASURES:
            np.testing.assert_equal(columns[0].values[name][place], found[name])


def test_a_real_tumour_is_where_foreground_and_roi_differ(lent):
    store = SourceStore(lent)
    (scan,) = annotated_scans(store, annotated(store))
    arrays = make_scan(3)["arrays"]
    np.testing.assert_array_equal(scan.mask, (arrays["foreground"] > 0) & (arrays["roi"] == 0))
    np.testing.assert_array_equal(scan.roi, arrays["foreground"] > 0)
    assert measure(scan)["contrast"] > 20  # 5000 in tissue of 140
    assert scan.voxels[~scan.roi].max() == scan.voxels[~scan.roi].min() == 0


def test_normals_of_a_store_are_no_real_tumours(sources, sources_path):
    with pytest.raises(StoreError, match=r"holds no annotated scan.*--tumours"):
        annotated(sources)


def test_examples_go_from_the_smallest_tumour_to_the_largest(columns):
    shown = columns[0].examples(5)
    volumes = [each.volume for each in shown]
    assert len(volumes) == 5
    assert volumes == sorted(volumes)
    assert all(each.mask.any() for each in shown)
    assert len(columns[2].examples(5)) == 1


def test_columns_share_one_scale_on_which_each_counts_alike(columns):
    for name in MEASURES:
        scale = scale_of(columns, name)
        for column in columns:
            values = column.measured(name)
            shares = 100 * np.histogram(np.clip(values, scale.edges[0], scale.edges[-1]), scale.edges)[0] / len(values)
            assert shares.sum() == pytest.approx(100)
            assert shares.max() <= scale.top


def test_the_page_shows_every_measure_of_every_column_and_holds_all_it_shows(columns, tmp_path):
    page = tmp_path / "compare.html"
    write_comparison(columns, page, 6)
    text = page.read_text(encoding="utf-8")
    assert "&lt;faint&gt;.zarr" in text
    assert "<faint>" not in text
    assert all(text.count(f">{measure.name}<span>") == 1 for measure in MEASURES.values())
    drawn = sum(len(column.measured(name)) > 0 for column in columns for name in MEASURES)
    assert text.count('role="img" aria-label') == drawn
    assert text.count('<svg class="slice"') == 6 + 6 + 1
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    volume = np.percentile(columns[0].values["volume"], 50)
    assert f"median {volume:.3g}," in text


def test_scans_without_a_tumour_are_counted_and_not_drawn(columns, corpus_path, tmp_path):
    without = type(columns[0])(
        "empty.zarr", "3 of 3 samples", 32,
        {name: np.array([0.0] * 3 if name == "foci" else [np.nan] * 3) for name in MEASURES}, [],
    )  # fmt: skip
    page = tmp_path / "compare.html"
    write_comparison([columns[0], without], page, 6)
    text = page.read_text(encoding="utf-8")
    assert "3 of 3 samples, 3 of them without a tumour" in text
    assert text.count("nothing to measure") == len(MEASURES) - 1
    assert comparison_png([without], 6).startswith(b"\x89PNG")


def test_the_common_window_leaves_no_tissue_black_where_scans_differ_in_level(columns):
    first = columns[0].slices[0]
    levels = [replace(first, values=np.where(first.values == 0, 0, first.values / 10 + shift)) for shift in (-3, -3, 5)]
    low, high = common_window([replace(columns[0], slices=levels)])
    for each in levels:
        tissue = each.values[each.values != 0]
        assert low < np.median(tissue) < high


def test_without_pictures_no_voxel_of_a_scan_is_shown(columns, tmp_path):
    page = tmp_path / "compare.html"
    write_comparison(columns, page, 0)
    text = page.read_text(encoding="utf-8")
    assert "<image" not in text
    assert "sample 0" not in text
    small, large = (comparison_png(columns, count) for count in (0, 6))
    assert int.from_bytes(small[20:24], "big") < int.from_bytes(large[20:24], "big")  # heights


def test_the_command_writes_a_page_or_a_picture(corpus_path, faint, lent, tmp_path):
    page, picture = tmp_path / "c.html", tmp_path / "c.png"
    for target in (page, picture):
        arguments = ("--compare", corpus_path, faint, "--real", lent, "-n", 4, "--out", target)
        assert stats(*arguments)[0] == 0
    assert "4 of 10 samples" in page.read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")
    again = tmp_path / "again.png"
    assert stats("--compare", corpus_path, faint, "--real", lent, "-n", 4, "--out", again)[0] == 0
    assert again.read_bytes() == picture.read_bytes()


def test_real_tumours_are_shown_in_the_units_of_the_corpus_where_normals_share_theirs(tmp_path):
    region = REGION.model_copy(update={"normalisation": Normalisation(kind="window")})
    normals = pick_store(tmp_path / "normals.zarr", (0, 1), region)
    corpus = make_corpus(tmp_path / "corpus.zarr", normals, samples=2)
    lent = write_annotated(tmp_path / "lent.zarr", [3], region)  # no normal, so no units of its own
    assert stats("--compare", corpus, "--real", lent, "--out", tmp_path / "c.html")[0] == 0
    assert "1 annotated scan of lent.zarr" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_who_prepares_annotated_scans_alone_is_told_what_they_are_for(catalog, tmp_path):
    result = CliRunner().invoke(
        app,
        ["prepare", "--catalog", str(catalog), "--tumours", "gliomas", "--size", "16", "--workers", "0",
         "--out", str(tmp_path / "lent.zarr")],
    )  # fmt: skip
    assert "next: synth stats --compare corpus.zarr --real" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--compare",), "name one corpus or more"),
        (("CORPUS",), "--real belong to --compare"),
        (("--real", "LENT"), "--real belong to --compare"),
        ((), "give --sources"),
        (("--compare", "CORPUS", "--sources", "LENT"), "--compare takes finished ones"),
        (("--compare", "CORPUS", "--set", "alpha=[0,1]"), "--compare takes finished ones"),
        (("--compare", "CORPUS", "-n", "0"), "ask for at least one sample"),
        (("--compare", "CORPUS", "--pictures", "-1"), "from 0 to"),
        (("--compare", "CORPUS", "nowhere.zarr"), "nowhere.zarr"),
        (("--compare", "CORPUS", "--real", "SOURCES"), "holds no annotated scan"),
        (("--compare", "CORPUS", "--real", "LIVER"), "compare tumours of one region"),
        (("--compare", "CORPUS", "--out", "no/such/folder/c.html"), "no/such/folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    arguments, said, corpus_path, lent, sources_path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    other = write_annotated(tmp_path / "liver.zarr", [3], REGION.model_copy(update={"name": "liver"}))
    names = {"CORPUS": corpus_path, "LENT": lent, "SOURCES": sources_path, "LIVER": other}
    code, told = stats(*(names.get(each, each) for each in arguments))
    assert code != 0
    assert said in told
    assert "Traceback" not in told
    assert {path.name for path in tmp_path.iterdir()} == {"liver.zarr"}
