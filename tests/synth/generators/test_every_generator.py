"""What a corpus promises, of every generator: same bytes, sound samples, packs, recombination, mixtures, growth."""

import itertools
import re

import numpy as np
import pytest

from scans.errors import CatalogError, StoreError
from synth.cluster import open_cluster
from synth.convert.assemble import gather
from synth.convert.merge import merged
from synth.corpus import Corpus
from synth.corpus.manifest import load_manifest
from synth.corpus.recombine import Recombine
from synth.corpus.verify import verify
from synth.generate.plan import arranged, grown, make_manifest
from synth.generate.run import generate
from synth.generators.mixture import parse_mixture
from synth.generators.registry import recorded_ways, way_of
from synth.report.card import card_files
from synth.report.quantities import quantities
from synth.report.stats import measure
from synth.report.stats_page import write_page
from synth.share.recipe_pack import pack_recipes
from synth.share.rehydrate import rehydrate
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from synth.tumour.blend import blend
from tests.made.compiled import SMALL
from tests.made.corpora import assert_same, files_of

MIXED = ("layers:0.3", "compound:0.5", "smooth:0.2")
SETS = [f"{name}:{each}" for name, sets in SMALL.items() for each in sets]
WAYS = [*SMALL, "mixture"]


def plan(sources, name, samples=12, seed=5, **more):
    given, sets = (MIXED, SETS) if name == "mixture" else ((name,), SMALL[name])
    return make_manifest(sources, samples, seed, parse_mixture(sources.region, given, sets), 4, **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory, sources, sources_path):
    """Return a corpus of each generator, and of all of them."""
    folder = tmp_path_factory.mktemp("made")
    for name in WAYS:
        assert not generate(plan(sources, name), sources_path, folder / name, workers=0).failed
    return folder


@pytest.fixture(scope="module")
def workers():
    """Return the address of two workers, who take half a second each to start and serve all generators."""
    with open_cluster("local", workers=2) as client:
        yield client.scheduler.address


@pytest.mark.parametrize("name", WAYS)
def test_other_workers_and_a_late_start_give_the_same_bytes(made, sources, sources_path, workers, tmp_path, name):
    out = tmp_path / "c"
    generate(plan(sources, name), sources_path, out, workers=0, only=slice(2, 3))  # as if others had died
    assert not generate(plan(sources, name), sources_path, out, cluster=workers).failed
    assert files_of(out) == files_of(made / name)


@pytest.mark.parametrize("name", WAYS)
def test_a_corpus_is_sound_and_says_who_made_it(made, name):
    assert verify(made / name) == []
    corpus = Corpus(made / name)
    names = [generation.generator for generation in corpus.manifest.generations]
    assert names == (list(SMALL) if name == "mixture" else [name])
    for index in range(len(corpus)):
        generation = corpus.generation(index)
        assert tuple(corpus.recipe(index)) == generation.columns
        assert corpus.recipe(index)["index"] == index


@pytest.mark.parametrize("name", WAYS)
def test_samples_hold_to_equation_5_by_their_layer(made, name):
    corpus = Corpus(made / name)
    for index, sample in enumerate(corpus):
        layer, normal = corpus.layer(index), corpus.source(int(corpus.normal[index]))
        weight = np.zeros(sample.mask.shape, np.float32)
        tissue = sample.normal.astype(np.float16)
        here = np.zeros(sample.mask.shape, bool)
        here[layer.box] = layer.form
        strength = np.ones(len(layer.tissue)) if layer.edge is None else (layer.edge & 127).astype(np.float32) / 127
        weight[here], tissue[here] = np.float32(sample.alpha) * strength.astype(np.float32), layer.tissue
        weight[~normal.roi] = 0
        expected = blend(sample.normal.astype(np.float16), tissue, weight)
        np.testing.assert_array_equal(sample.composite.astype(np.float16), expected)
        assert not sample.texture[sample.mask == 0].any()
        assert not sample.mask[~normal.roi].any()


@pytest.mark.parametrize("name", WAYS)
def test_recipes_alone_make_the_same_corpus_elsewhere(made, sources_path, tmp_path, name):
    pack_recipes(made / name, tmp_path / "r.zip")
    outcome, found = rehydrate(tmp_path / "r.zip", sources_path, tmp_path / "c", workers=0)
    assert (outcome.failed, found.differing, found.same_files) == ({}, (), True)


@pytest.mark.parametrize("name", WAYS)
def test_tumours_recombine_into_other_scans(made, name):
    corpus = Corpus(made / name)
    stream = Recombine(corpus, 1)
    for step in range(8):
        drawn, sample = stream.draw(step), stream[step]
        normal = corpus.source(drawn.normal)
        assert not sample.mask[~normal.roi].any()
        assert np.isfinite(sample.composite).all()
        if corpus.generation(drawn.tumour).facts.alpha is None:
            assert drawn.alpha == corpus.alpha[drawn.tumour]
    assert stream[3].composite.tobytes() == Recombine(corpus, 1)[3].composite.tobytes()


@pytest.mark.parametrize("name", WAYS)
def test_a_dense_copy_holds_the_same_samples_and_finds_its_layers_again(made, sources_path, tmp_path, name):
    corpus = Corpus(made / name)
    gather(arranged(corpus.manifest, "dense"), [corpus], tmp_path / "dense", workers=0)
    dense = Corpus(tmp_path / "dense")
    assert dense.content_hash == corpus.content_hash
    for index in range(len(corpus)):
        assert_same(corpus, index, dense, index)
    assert verify(tmp_path / "dense") == []
    gather(arranged(dense.manifest, "layered"), [dense], tmp_path / "back", sources_path, workers=0)
    assert Corpus(tmp_path / "back").content_hash == corpus.content_hash


@pytest.mark.parametrize("name", WAYS)
def test_its_card_describes_every_generator(made, name):
    files = card_files(Corpus(made / name), samples=2)
    page = files["README.md"].decode()
    assert files["card/samples.png"].startswith(b"\x89PNG")
    for generation in Corpus(made / name).manifest.generations:
        assert generation.generator == "layers" or f"Generator {generation.generator}, version 1" in page
    line = next((line for line in page.splitlines() if line.startswith("synth generate")), "")
    assert ("--generator" in line) == (name not in ("layers", "mixture"))


@pytest.mark.parametrize("name", [name for name in SMALL if name != "layers"])
def test_what_it_draws_keeps_to_its_laws(made, sources_path, name):
    (_, way), *_ = recorded_ways(Corpus(made / name).manifest.generations, name)
    measured = measure(sources_path, way, seed=5, count=40)
    shown = quantities(measured)
    assert {"Volume", "Contrast", "Position"} <= {quantity.section for quantity in shown}
    assert [quantity.name for quantity in shown if quantity.strange] == []
    again = Corpus(made / name)
    for column in ("volume_mm3", "alpha", "centre_x"):
        assert [again.recipe(i)[column] for i in range(12)] == measured.values[column][:12].tolist()


def test_a_page_holds_what_was_drawn_apart_from_what_is_seen_and_has_room_for_scans_without_a_tumour(
    made, sources, sources_path, tmp_path
):
    way = way_of(sources.region, "compound", [*SMALL["compound"], "empty=0.4"])
    measured = measure(sources_path, way, seed=5, count=24)
    without = measured.recipes["foci"] == 0
    assert 0 < without.sum() < 24
    assert (measured.values["kept_mm3"][without] == 0).all()
    low, high = way.settings.contrast.strength
    assert ((measured.recipes["contrast"] >= low) & (measured.recipes["contrast"] <= high)).all()
    drawn = [Corpus(made / "compound").recipe(index)["contrast"] for index in range(12)]
    assert measured.recipes["contrast"][:12].tolist() == drawn
    shown = {quantity.name: quantity for quantity in quantities(measured)}
    np.testing.assert_array_equal(shown["contrast drawn"].values, measured.recipes["contrast"])
    assert len(shown["volume in the ROI"].measured) == 24 - without.sum()
    write_page(measured, sources, tmp_path / "page.html")
    assert "contrast drawn" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_mixture_has_exactly_its_shares_in_an_order_of_the_seed(sources):
    manifest = plan(sources, "mixture", samples=200)
    made_by = [g for g, _, count in manifest.blocks[0].draws for _ in range(count)]
    assert np.bincount(made_by).tolist() == [60, 100, 40]
    assert made_by == [g for g, _, n in plan(sources, "mixture", samples=200).blocks[0].draws for _ in range(n)]
    assert made_by != [g for g, _, n in plan(sources, "mixture", 200, seed=6).blocks[0].draws for _ in range(n)]
    longest = max(len(list(run)) for _, run in itertools.groupby(made_by))
    assert longest < 30  # of 100 in 200 samples
    odd = plan(sources, "mixture", samples=7)
    assert sorted(np.bincount([g for g, _, n in odd.blocks[0].draws for _ in range(n)])) == [1, 2, 4]


def test_a_sample_of_a_mixture_is_that_of_its_generator_alone(made):
    mixed = Corpus(made / "mixture")
    for index in range(len(mixed)):
        alone = Corpus(made / mixed.generation(index).generator)
        assert mixed.recipe(index) == alone.recipe(index)
        assert mixed[index].composite.tobytes() == alone[index].composite.tobytes()


def test_a_mixture_grows_by_its_shares_and_another_generator_is_refused(made, sources, sources_path, tmp_path):
    out = tmp_path / "c"
    generate(plan(sources, "mixture"), sources_path, out, workers=0)
    longer = grown(load_manifest(open_store(out)), SourceStore(sources_path), 22)
    assert not generate(longer, sources_path, out, workers=0).failed
    assert verify(out) == []
    by = [Corpus(out).generation(index).generator for index in range(12, 22)]
    assert {name: by.count(name) for name in SMALL} == {"layers": 3, "compound": 5, "smooth": 2}
    other = parse_mixture(sources.region, ["smooth"], [])
    with pytest.raises(StoreError, match=r"no columns for recipes of generator smooth.* synth merge"):
        grown(load_manifest(open_store(made / "layers")), sources, 22, mixture=other)


def test_corpora_of_two_generators_merge_and_are_chosen_from(made, tmp_path):
    both = [Corpus(made / name) for name in ("layers", "compound")]
    gather(merged(both), both, tmp_path / "both", workers=0)
    corpus = Corpus(tmp_path / "both")
    assert verify(tmp_path / "both") == []
    for index in (0, 11):
        assert_same(corpus, index, both[0], index)
        assert_same(corpus, 12 + index, both[1], index)
    ratio = corpus.recipes[:, corpus.manifest.columns.index("ratio")]
    assert np.isfinite(ratio[:12]).all()
    assert np.isnan(ratio[12:]).all()


@pytest.mark.parametrize(
    ("given", "sets", "said"),
    [
        (["nobody"], [], "no generator is called 'nobody'; there are compound, layers, smooth"),
        (["layers:0"], [], "--generator layers:0: write it as NAME or NAME:SHARE"),
        (["layers:a"], [], "--generator layers:a: write it as NAME or NAME:SHARE"),
        (["layers", "compound"], [], "give each its share"),
        (["layers:1", "layers:2"], [], "name each generator once"),
        (["layers:1", "compound:2"], ["alpha=[0,1]"], "say whose setting it is, as --set layers:alpha"),
        (["compound"], ["no.such=1"], "no such setting"),
    ],
)
def test_a_generator_that_cannot_be_is_told_in_one_sentence(sources, given, sets, said):
    with pytest.raises(CatalogError, match=re.escape(said)):
        parse_mixture(sources.region, given, sets)
