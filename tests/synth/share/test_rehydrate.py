"""Rehydration: recipes and the same scans make the same corpus elsewhere; other scans are named, and make nothing."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from scans.catalog.catalog import load_catalog
from scans.catalog.region import Region
from scans.catalog.synthesis import override
from scans.errors import StoreError
from synth.corpus import Corpus
from synth.corpus.manifest import load_manifest
from synth.corpus.verify import verify
from synth.generate.plan import grown, make_manifest
from synth.generate.run import generate
from synth.share.match_sources import unmatched
from synth.share.recipe_pack import Recipes, pack_recipes
from synth.share.rehydrate import prepare_for, rehydrate
from synth.sources.format import open_to_write, write_source
from synth.sources.prepare import prepare_datasets
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from tests.made.catalogs import make
from tests.made.commands import Started, synth
from tests.made.packs import content_of
from tests.made.running import wait_for_receipts
from tests.made.scan_files import brain, mask, save
from tests.made.sources import make_scan
from tests.made.ways import mixture

VOLUMES = ["shape.volume_mm3=[300,3000]"]


def write_scans(folder: Path) -> Path:
    """Write three scans and a catalog of them, as a second lab has them too: the same files, made anew."""
    for seed, name in enumerate("abc"):
        save(brain(seed=seed), folder / "data" / f"{name}_flair.nii.gz")
    save(mask(radius=0.7, centre=0.0), folder / "data" / "c_brain.nii.gz")
    return make(folder, 'image: "{case}_flair.nii.gz"\n      roi: "{case}_brain.nii.gz"')


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """A lab: its scans, their sources, a corpus of 14 samples, and a pack of its recipes."""
    folder = tmp_path_factory.mktemp("lab")
    catalog = write_scans(folder)
    prepare_datasets(load_catalog(catalog), ["mine"], folder / "sources.zarr", 32, workers=0)
    store = SourceStore(folder / "sources.zarr")
    manifest = make_manifest(store, 14, 3, mixture(override(store.region.synthesis, VOLUMES)), shard_size=4)
    assert not generate(manifest, folder / "sources.zarr", folder / "corpus.zarr", workers=0).failed
    pack_recipes(folder / "corpus.zarr", folder / "recipes.zip")
    return folder


@pytest.fixture
def elsewhere(lab, tmp_path) -> Path:
    """Another lab, which has the same scans and the pack."""
    write_scans(tmp_path)
    shutil.copy(lab / "recipes.zip", tmp_path)
    return tmp_path


def prepared(folder: Path, size: int = 32) -> Path:
    prepare_datasets(load_catalog(folder / "catalog.yaml"), ["mine"], folder / "sources.zarr", size, workers=0)
    return folder / "sources.zarr"


def of(pack: Path, sources: Path):
    manifest = Recipes(pack).manifest
    return [(source.name, source.outcome, source.reason) for source in
            unmatched(manifest, SourceStore(sources, manifest.statistics))]  # fmt: skip


def test_the_same_scans_prepared_again_make_every_byte_of_the_corpus(lab, elsewhere):
    outcome, found = rehydrate(elsewhere / "recipes.zip", prepared(elsewhere), elsewhere / "c.zarr", workers=0)
    assert (outcome.made, outcome.failed) == (4, {})
    assert (found.shards, found.differing, found.same_files) == (4, (), True)
    assert content_of(elsewhere / "c.zarr") == content_of(lab / "corpus.zarr")
    assert verify(elsewhere / "c.zarr") == []


def test_one_command_prepares_the_scans_and_makes_the_corpus(lab, elsewhere):
    said = synth(
        "rehydrate", "recipes.zip", "--catalog", "catalog.yaml", "--dataset", "mine", "--sources", "s.zarr",
        "--out", "c.zarr", "--workers", "0", "--no-card", cwd=elsewhere,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "identical: all 4 checksums are those of the original, its files byte for byte" in said.stdout
    assert "synth verify c.zarr" in said.stdout
    assert content_of(elsewhere / "c.zarr") == content_of(lab / "corpus.zarr")


def test_scans_are_prepared_as_the_pack_says_whatever_the_catalog_says(elsewhere):
    text = (elsewhere / "catalog.yaml").read_text(encoding="utf-8")
    other = text.replace("brain: {modality: FLAIR}", "brain: {modality: FLAIR, orientation: RAS}")
    assert other != text
    (elsewhere / "catalog.yaml").write_text(other, encoding="utf-8")
    recipes = Recipes(elsewhere / "recipes.zip")
    catalog = load_catalog(elsewhere / "catalog.yaml")
    report = prepare_for(recipes, catalog, ["mine"], elsewhere / "s.zarr", workers=0)
    assert len(report.done) == 3
    assert of(elsewhere / "recipes.zip", elsewhere / "s.zarr") == []


def test_the_other_layout_holds_the_same_samples_in_other_files(lab, elsewhere):
    said = synth(
        "rehydrate", "recipes.zip", "--sources", prepared(elsewhere), "--out", "c.zarr", "--layout", "dense",
        "--workers", "0", cwd=elsewhere,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "identical: all 4 checksums are those of the original, its samples" in said.stdout
    assert (elsewhere / "c.zarr" / "README.md").is_file(), "its data card"
    ours, theirs = Corpus(elsewhere / "c.zarr"), Corpus(lab / "corpus.zarr")
    assert (ours.layout, ours.content_hash) == ("dense", theirs.content_hash)


def test_scans_that_lack_or_differ_are_all_named_and_nothing_is_made(elsewhere):
    (elsewhere / "data" / "a_flair.nii.gz").unlink()
    save(brain(seed=9), elsewhere / "data" / "b_flair.nii.gz")
    save(mask(radius=0.6, centre=0.0), elsewhere / "data" / "c_brain.nii.gz")
    prepared(elsewhere)
    said = synth(
        "rehydrate", "recipes.zip", "--sources", "sources.zarr", "--out", "c.zarr", "--workers", "0", cwd=elsewhere
    )
    assert said.returncode == 1
    lines = said.stderr.splitlines()
    assert any(line.startswith("lacks: mine--a: ") and "a_flair.nii.gz, SHA-256" in line for line in lines)
    assert any(line.startswith("differs: mine--b: ") and "made of another scan" in line for line in lines)
    assert any(line.startswith("differs: mine--c: ") and "its roi mask is another file" in line for line in lines)
    assert "3 of 3 scans do not match" in said.stderr
    assert not (elsewhere / "c.zarr").exists()
    with pytest.raises(StoreError, match="lacks 3 of the 3 sources"):
        rehydrate(elsewhere / "recipes.zip", elsewhere / "sources.zarr", elsewhere / "c.zarr", workers=0)
    assert not (elsewhere / "c.zarr").exists()


def test_a_scan_prepared_otherwise_is_told_from_another_scan(elsewhere):
    prepared(elsewhere, size=48)
    outcomes = of(elsewhere / "recipes.zip", elsewhere / "sources.zarr")
    assert [(name, outcome) for name, outcome, _ in outcomes] == [(f"mine--{case}", "differs") for case in "abc"]
    assert all("prepared to 48 voxels a side, not 32" in reason for _, _, reason in outcomes)
    shutil.rmtree(elsewhere / "sources.zarr")
    text = (elsewhere / "catalog.yaml").read_text(encoding="utf-8")
    zero = "brain: {modality: FLAIR, normalisation: {raw_zero: -10}}"
    (elsewhere / "catalog.yaml").write_text(text.replace("brain: {modality: FLAIR}", zero), encoding="utf-8")
    outcomes = of(elsewhere / "recipes.zip", prepared(elsewhere))
    assert len(outcomes) == 3
    assert all("with other settings of the region" in reason for _, _, reason in outcomes)


def test_a_scan_is_found_by_its_content_whatever_it_is_called(lab, elsewhere):
    catalog = (elsewhere / "catalog.yaml").read_text(encoding="utf-8")
    for name in "abc":
        for file in (elsewhere / "data").glob(f"{name}_*"):
            file.rename(file.with_name(file.name.replace(f"{name}_", f"subject{name}_")))
    (elsewhere / "catalog.yaml").write_text(catalog.replace("mine:", "ours:"), encoding="utf-8")
    sources = elsewhere / "sources.zarr"
    prepare_datasets(load_catalog(elsewhere / "catalog.yaml"), ["ours"], sources, 32, workers=0)
    assert SourceStore(sources).names == ["ours--subjecta", "ours--subjectb", "ours--subjectc"]
    _, found = rehydrate(elsewhere / "recipes.zip", sources, elsewhere / "c.zarr", workers=0)
    assert found.same_files
    assert content_of(elsewhere / "c.zarr") == content_of(lab / "corpus.zarr")


def test_window_statistics_are_those_of_the_pack(lab, tmp_path):
    """A corpus of two CTs, made elsewhere from a store that holds a third: its own statistics differ."""
    region = Region.model_validate(
        {"name": "liver", "modality": "CT", "normalisation": {"kind": "window"},
         "synthesis": {"shape": {"volume_mm3": [600, 6000]}}}
    )  # fmt: skip

    def store(path: Path, seeds: list[int]) -> Path:
        from synth.sources.format import finalise

        with open_to_write(path, region, 32):
            for seed in seeds:
                scan = make_scan(seed)
                write_source(path, f"made--case{seed}", scan["arrays"], scan["provenance"] | {"statistics": None})
            finalise(path)
        return path

    first, second = store(tmp_path / "s.zarr", [0, 1]), store(tmp_path / "t.zarr", [0, 1, 2])
    assert SourceStore(first).statistics != SourceStore(second).statistics
    manifest = make_manifest(SourceStore(first), 6, 1, shard_size=4)
    generate(manifest, first, tmp_path / "c.zarr", workers=0)
    pack_recipes(tmp_path / "c.zarr", tmp_path / "r.zip")
    assert rehydrate(tmp_path / "r.zip", second, tmp_path / "d.zarr", workers=0)[1].same_files
    assert content_of(tmp_path / "d.zarr") == content_of(tmp_path / "c.zarr")


def test_killed_half_way_the_same_command_makes_only_what_is_missing(sources, sources_path, tmp_path):
    manifest = make_manifest(sources, 240, 7, shard_size=4)
    generate(manifest, sources_path, tmp_path / "c.zarr", workers=0)
    pack_recipes(tmp_path / "c.zarr", tmp_path / "r.zip")
    out = tmp_path / "d.zarr"
    command = ["rehydrate", tmp_path / "r.zip", "--sources", sources_path, "--out", out, "--workers", 0]
    with Started("synth", *command) as run:
        wait_for_receipts(out, 2)
        run.kill()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("receipts/0*.json")}
    assert 0 < len(before) < 60
    time.sleep(0.01)
    outcome, found = rehydrate(tmp_path / "r.zip", sources_path, out, workers=0)
    assert (outcome.kept, outcome.made) == (len(before), 60 - len(before))
    assert found.same_files
    assert {name: (out / "receipts" / name).stat().st_mtime_ns for name in before} == before
    assert content_of(out) == content_of(tmp_path / "c.zarr")


def test_a_corpus_that_grew_is_made_again_whole(sources, sources_path, tmp_path):
    """Three generations, blocks with a short shard each, a soft edge in one, and sources that joined one alone."""
    store, out = tmp_path / "s.zarr", tmp_path / "c.zarr"
    shutil.copytree(sources_path, store)
    shutil.rmtree(store / "made--case1")
    shutil.rmtree(store / "made--case2")
    generate(make_manifest(SourceStore(store), 6, 1, shard_size=4), store, out, workers=0)
    soft = override(sources.region.synthesis, ["mask.soft_mm=1.5"])
    for samples, seed, settings in ((11, 2, soft), (13, None, None)):
        manifest = grown(load_manifest(open_store(out)), sources, samples, seed, mixture(settings))
        assert not generate(manifest, sources_path, out, workers=0).failed
    there = load_manifest(open_store(out))
    assert (len(there.blocks), len(there.sources)) == (3, 3)
    pack_recipes(out, tmp_path / "r.zip")
    outcome, found = rehydrate(tmp_path / "r.zip", sources_path, tmp_path / "d.zarr", workers=0)
    assert (outcome.failed, found.differing, found.same_files) == ({}, (), True)
    assert content_of(tmp_path / "d.zarr") == content_of(out)


def test_shards_that_come_out_otherwise_are_named(lab, elsewhere, monkeypatch):
    """A lab whose arithmetic differs in one voxel of one tumour."""
    import synth.generators.layers as module

    right = module.make_layer

    def otherwise(recipe, normal, donor, settings):
        layer = right(recipe, normal, donor, settings)
        if recipe.index == 9:
            layer.tissue[len(layer.tissue) // 2] += np.float16(0.25)
        return layer

    monkeypatch.setattr(module, "make_layer", otherwise)
    _, found = rehydrate(elsewhere / "recipes.zip", prepared(elsewhere), elsewhere / "c.zarr", workers=0)
    assert (found.shards, found.differing, found.same_files) == (4, (2,), False)
    said = synth(
        "rehydrate", "recipes.zip", "--sources", "sources.zarr", "--out", "c.zarr", "--workers", "0", cwd=elsewhere
    )
    assert said.returncode == 1
    assert "1 of 4 shards differ from the original: 2" in said.stderr


def test_another_corpus_in_the_way_and_sources_that_are_not_there_are_named(lab, elsewhere, corpus_path):
    sources = prepared(elsewhere)
    with pytest.raises(StoreError, match="holds another corpus"):
        rehydrate(elsewhere / "recipes.zip", sources, corpus_path, workers=0)
    said = synth("rehydrate", "recipes.zip", "--sources", "nothing.zarr", "--out", "c.zarr", cwd=elsewhere)
    assert said.returncode == 2
    assert "no sources here; give --dataset NAME" in said.stderr
    with pytest.raises(StoreError, match=r"--layout flat: give layered or dense"):
        rehydrate(elsewhere / "recipes.zip", sources, elsewhere / "c.zarr", layout="flat", workers=0)


@pytest.mark.parametrize("command", ["pack", "unpack", "rehydrate"])
def test_the_help_of_each_command_has_an_example(command):
    said = synth(command, "--help")
    assert f"Example: synth {command} " in " ".join(said.stdout.split()).replace("│ ", "").replace(" │", "")
