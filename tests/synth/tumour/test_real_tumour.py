"""Real tumours (Table V): cut by their masks, laid over normals as they are; off, nothing is as much as mentioned."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scans.catalog.catalog import load_catalog
from scans.catalog.region import Region
from scans.catalog.synthesis import Synthesis, override
from scans.errors import CatalogError, CheckpointError, StoreError
from synth.corpus import Corpus, Recombine
from synth.corpus.verify import verify
from synth.generate.plan import grown, make_manifest
from synth.generate.run import generate
from synth.generators.layers import LAYERS
from synth.generators.way import Way
from synth.report.caveats import METHOD, limitations, method
from synth.report.stats import measure
from synth.sources.format import finalise, open_to_write, write_source
from synth.sources.prepare import prepare_datasets
from synth.sources.reader import SourceStore
from synth.tumour.blend import blend
from synth.tumour.compose import make_sample
from synth.tumour.placement import cut_out
from tests.made.corpora import files_of
from tests.made.sources import REGION, make_scan
from tests.made.tables import CATALOG, TINY, Watched  # noqa: F401
from tests.made.tiny_checkpoint import save_bright
from tests.made.ways import mixture, way
from train.evaluation.evaluate import evaluate
from train.share.export import export
from train.tables.make import make_table
from train.tables.plan import TABLES, Column, Table

LENDING = ("ward--t3", "ward--t4")
REAL = override(REGION.synthesis, [f"donor.tumours={json.dumps(LENDING)}"])
TUMOURS = [3, 4]  # in the order of names


def write(path, region=REGION, tumours=(3, 4)):
    with open_to_write(path, region, 32):
        for seed in (0, 1, 2):
            scan = make_scan(seed)
            write_source(path, f"made--case{seed}", scan["arrays"], scan["provenance"])
        for seed in tumours:
            scan = make_scan(seed)
            tumour = (scan["arrays"]["foreground"] > 0) & (scan["arrays"]["roi"] == 0)
            scan["arrays"]["intensity"][tumour] = np.random.default_rng(seed).uniform(400, 900, int(tumour.sum()))
            told = {"dataset": "ward", "case": f"t{seed}", "tumour_voxels": int(tumour.sum())}
            write_source(path, f"ward--t{seed}", scan["arrays"], {**scan["provenance"], **told})
        finalise(path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("real") / "sources.zarr")


@pytest.fixture(scope="module")
def store(path):
    return SourceStore(path)


@pytest.fixture(scope="module")
def corpus(path, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "corpus.zarr"
    assert not generate(make_manifest(store, 24, 7, mixture(REAL), shard_size=8), path, out, workers=0).failed
    return Corpus(out)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_a_tumour_is_laid_over_a_normal_voxel_for_voxel_as_it_was_in_its_own_scan(store, seed, index):
    loaded = [store.load(name) for name in store.names]
    recipe = Way(LAYERS, REAL).draw(loaded.__getitem__, 5, seed, index, TUMOURS)
    assert recipe.normal not in TUMOURS
    assert recipe.donor in TUMOURS
    normal, donor = loaded[recipe.normal], loaded[recipe.donor]
    sample = make_sample(recipe, normal, donor, REAL)
    expected_mask, expected = np.zeros((32,) * 3, bool), np.zeros((32,) * 3, np.float16)
    tumour = np.argwhere(donor.foreground & ~donor.roi)
    middle = np.floor(tumour.mean(axis=0) + 0.5).astype(int)
    for voxel in tumour:
        there = tuple(voxel - middle + recipe.centre)
        if all(0 <= c < 32 for c in there) and normal.roi[there]:
            expected_mask[there] = True
            expected[there] = donor.to_network(donor.intensity[tuple(voxel)])
    np.testing.assert_array_equal(sample.mask > 0, expected_mask)
    np.testing.assert_array_equal(sample.texture, expected.astype(np.float32))
    inside = sample.mask > 0
    np.testing.assert_array_equal(sample.composite[~inside], normal.normal.voxels[~inside].astype(np.float32))
    blended = blend(normal.normal.voxels[inside], expected[inside], np.float32(recipe.alpha))
    np.testing.assert_array_equal(sample.composite[inside], blended.astype(np.float32))
    assert recipe.kept == pytest.approx(inside.sum() / len(tumour))
    assert recipe.kept >= REAL.mask.least_kept
    assert recipe.volume_mm3 == recipe.drawn_volume_mm3 == pytest.approx(len(tumour) * np.prod(normal.spacing_mm))


def test_all_that_is_not_the_tumour_is_drawn_as_for_artificial_ones(store):
    loaded = [store.load(name) for name in store.names]
    for index in range(20):
        real = Way(LAYERS, REAL).draw(loaded.__getitem__, 5, 1, index, TUMOURS)
        drawn = Way(LAYERS, REGION.synthesis).draw(loaded.__getitem__, 3, 1, index)
        assert (real.normal, real.alpha) == (drawn.normal, drawn.alpha)


def test_a_corpus_of_real_tumours_is_sound_and_no_annotated_scan_receives_one(corpus):
    assert verify(corpus.store) == []
    assert set(corpus.donor.tolist()) == set(TUMOURS)
    assert not set(corpus.normal.tolist()) & set(TUMOURS)
    assert corpus.manifest.generations[0].settings["donor"]["tumours"] == list(LENDING)


def test_recombining_keeps_the_tissue_and_pastes_it_into_normals_alone(corpus, store):
    stream = Recombine(corpus, 3, flip=False)
    loaded = [store.load(name) for name in store.names]
    for step in range(12):
        drawn, sample = stream.draw(step), stream[step]
        assert drawn.normal not in TUMOURS
        donor = loaded[drawn.donor]
        own = donor.to_network(donor.intensity[donor.foreground & ~donor.roi]).astype(np.float32)
        assert np.isin(sample.texture[sample.mask > 0], own).all()


def test_off_a_corpus_is_the_one_of_a_store_without_tumours_and_does_not_mention_them(path, store, tmp_path):
    plain = SourceStore(write(tmp_path / "plain.zarr", tumours=()))
    ours, theirs = (make_manifest(each, 6, 7, shard_size=8) for each in (store, plain))
    assert ours.identity == theirs.identity
    assert "tumours" not in ours.generations[0].settings["donor"]
    for manifest, sources, name in ((ours, path, "a"), (theirs, plain.path, "b")):
        generate(manifest, sources, tmp_path / name, workers=0)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_corpus_may_grow_by_real_tumours(path, store, tmp_path):
    first = make_manifest(store, 4, 7, shard_size=4)
    generate(first, path, tmp_path / "c", workers=0)
    generate(grown(first, store, 8, mixture=mixture(REAL)), path, tmp_path / "c", workers=0)
    corpus = Corpus(tmp_path / "c")
    names = [[corpus.sources[int(p)]["dataset"] for p in part] for part in (corpus.donor[:4], corpus.donor[4:])]
    assert names == [["made"] * 4, ["ward"] * 4]
    assert verify(corpus.store) == []


def test_a_name_without_a_tumour_is_refused_in_a_sentence(store, path):
    for name in ("made--case0", "nobody"):
        wrong = override(REGION.synthesis, [f"donor.tumours=[{name}]"])
        with pytest.raises(StoreError, match=rf"donor.tumours {name}: .* there are ward--t3, ward--t4"):
            make_manifest(store, 4, 1, mixture(wrong))
    with pytest.raises(StoreError, match="real tumours follow no law"):
        measure(path, way(REAL), 1, 4)


def test_annotated_scans_have_no_part_in_common_statistics(tmp_path):
    window = Region.model_validate({**REGION.model_dump(), "normalisation": {"kind": "window"}})
    with_them, without = (SourceStore(write(tmp_path / str(len(t)), window, t)).statistics for t in ((3, 4), ()))
    assert with_them == without


def test_the_card_says_whose_tumours_they_are():
    assert any("cut out by its mask" in sentence for sentence in method([way(REAL)]))
    assert not any("simplex" in sentence for sentence in method([way(REAL)]))
    assert "healthy tissue in another brightness" not in " ".join(limitations([way(REAL)]))
    assert method([way(Synthesis())]) == METHOD
    assert set(method([way(Synthesis()), way(REAL)])) > set(METHOD)


# From annotated files to a row of the table.


@pytest.fixture(scope="module")
def prepared(catalog, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "sources.zarr"
    report = prepare_datasets(load_catalog(catalog), ["heads"], out, 32, workers=0, tumours=["gliomas"])
    assert not report.failed
    return SourceStore(out)


def test_the_mask_is_that_of_the_label_and_the_healthy_rest_gives_the_statistics(prepared):
    donor = prepared.load("gliomas--t0")
    ball = 4 / 3 * np.pi * 13**3
    voxels = int(cut_out(donor).voxels.sum())
    assert voxels == donor.provenance["tumour_voxels"]
    assert voxels * np.prod(donor.spacing_mm) == pytest.approx(ball, rel=0.05)
    assert donor.statistics.mean == pytest.approx(100, abs=3), "the tumour is 200"
    assert "tumour_voxels" not in prepared.provenance("heads--n0")


def test_roles_are_not_mixed_up(catalog, tmp_path):
    loaded = load_catalog(catalog)
    with pytest.raises(CatalogError, match="--tumours names those"):
        prepare_datasets(loaded, ["gliomas"], tmp_path / "a", 32, workers=0)
    with pytest.raises(CatalogError, match="have role normal; name it with --dataset"):
        prepare_datasets(loaded, ["heads"], tmp_path / "b", 32, workers=0, tumours=["heads"])


def test_a_network_is_not_scored_on_cases_that_lent_it_their_tumours(catalog, tmp_path):
    source = {"dataset": "gliomas", "licence": "CC0", "terms": "none", "tumour_voxels": 9}
    region = {"name": "brain-flair", "modality": "FLAIR"}
    sources = [{"name": f"gliomas--t{n}", **source} for n in (0, 2)]
    data = {"corpus": "ab" * 32, "corpus_samples": 5, "split": "none", "sources": sources}
    network = save_bright(tmp_path / "best.safetensors", region=region, data=data)
    scored = evaluate(network, catalog, "gliomas", tmp_path / "out")
    assert [case.name for case in scored.cases] == ["t1"]
    assert "the 1 of 3 cases that lent the network no tumour" in scored.selection
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "cut from 2 annotated scans: not zero-shot" in page
    exported = export(network, tmp_path / "shared")
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "real ones cut from 2 annotated scans among them" in card
    assert "no annotation" not in card
    numbered = {**data, "sources": [{"name": "scan 1", **source}]}
    anonymous = save_bright(tmp_path / "anonymous.safetensors", region=region, data=numbered)
    with pytest.raises(CheckpointError, match="unknown of which cases"):
        evaluate(anonymous, catalog, "gliomas", tmp_path / "refused")


@pytest.mark.usefixtures("undrawn")
def test_the_row_of_table_v_cuts_from_the_training_part_and_scores_the_rest(catalog, tmp_path):
    (row,) = [row for row in TABLES["V"].rows if row.real]
    table = Table("V", "a part of it", (Column("WTS"),), (row,), row.name)
    watch = Watched()
    result = make_table(table, TINY, catalog, tmp_path, watch, device="cpu")
    assert watch.problems == []
    assert watch.names == ["sources", "folds", "corpus", "pretrain", "scores"]
    (corpus,) = (tmp_path / "corpus").glob("*-real-fold0-*/corpus.zarr")
    lending = {source["name"] for source in Corpus(corpus).sources if source["dataset"] == "gliomas"}
    scored = {score.case for score in result.gathered.cells[row.name, Column("WTS")].scores}
    assert len(lending) == 2
    assert lending | {f"gliomas--{case}" for case in scored} == {f"gliomas--t{n}" for n in range(3)}
