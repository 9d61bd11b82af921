"""Convert, merge, subset: what a corpus takes from another is the same, bit for bit, and so can be made again."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scans.catalog.region import Region
from scans.catalog.synthesis import Synthesis
from scans.errors import StoreError
from synth.cli.application import app
from synth.convert.assemble import gather
from synth.convert.locate import Whereabouts, drawn_by
from synth.convert.merge import merged
from synth.convert.subset import choose, subset
from synth.corpus import Corpus
from synth.corpus.manifest import Block, Manifest
from synth.corpus.receipt import receipt_key
from synth.corpus.verify import verify
from synth.generate.plan import arranged, grown
from synth.generate.repair import repair
from synth.generate.run import generate
from synth.generators.generation import Generation
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from tests.made.corpora import assert_same, files_of, make_corpus, pick_store
from tests.made.sources import REGION, make_store

LAYOUTS = ("layered", "dense")


def assert_made(outcome, out):
    assert not outcome.failed
    assert verify(out) == []
    return Corpus(out)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, sources_path):
    """One corpus, generated in either layout."""
    folder = tmp_path_factory.mktemp("corpora")
    return {layout: make_corpus(folder / f"{layout}.zarr", sources_path, layout=layout) for layout in LAYOUTS}


@pytest.fixture(scope="module")
def soft(tmp_path_factory, sources_path):
    return make_corpus(tmp_path_factory.mktemp("soft") / "soft.zarr", sources_path, "mask.soft_mm=2", seed=8, samples=9)


# Convert.


@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_converted_corpus_holds_the_same_samples(corpora, tmp_path, layout, to):
    before = Corpus(corpora[layout])
    after = assert_made(gather(arranged(before.manifest, to), [before], tmp_path / "c", workers=0), tmp_path / "c")
    assert (after.layout, after.identity, after.content_hash) == (to, before.identity, before.content_hash)
    for index in range(len(before)):
        assert_same(before, index, after, index)
    if layout == to or to == "dense":
        assert files_of(tmp_path / "c") == files_of(corpora[to])


def test_there_and_back_again_the_samples_are_the_same(corpora, tmp_path):
    opened = Corpus(corpora["layered"])
    for number, layout in enumerate(["dense", "layered", "dense"]):
        gather(arranged(opened.manifest, layout), [opened], tmp_path / str(number), workers=0)
        opened = Corpus(tmp_path / str(number))
    assert files_of(tmp_path / "2") == files_of(tmp_path / "0") == files_of(corpora["dense"])


def test_sources_bring_back_what_the_roi_cut_off(corpora, sources_path, tmp_path):
    dense, layered = (Corpus(corpora[layout]) for layout in ("dense", "layered"))
    assert any(len(dense.layer(i).tissue) < len(layered.layer(i).tissue) for i in range(22))
    gather(arranged(dense.manifest, "layered"), [dense], tmp_path / "c", sources_path, workers=0)
    assert files_of(tmp_path / "c") == files_of(corpora["layered"])


@pytest.mark.parametrize("setting", ["mask.soft_mm=2", "texture_target=composite"])
def test_a_dense_corpus_that_mixes_its_layers_needs_the_sources(sources_path, tmp_path, setting):
    layered = Corpus(make_corpus(tmp_path / "a", sources_path, setting))
    dense = assert_made(
        gather(arranged(layered.manifest, "dense"), [layered], tmp_path / "b", workers=0), tmp_path / "b"
    )
    for index in range(22):
        assert_same(layered, index, dense, index)
    with pytest.raises(StoreError, match=r"cannot be told from their normals; .*--sources"):
        gather(arranged(dense.manifest, "layered"), [dense], tmp_path / "c", workers=0)
    assert not (tmp_path / "c").exists()
    gather(arranged(dense.manifest, "layered"), [dense], tmp_path / "c", sources_path, workers=0)
    assert files_of(tmp_path / "c") == files_of(tmp_path / "a")


def test_a_corpus_goes_to_a_url_and_back(corpora, tmp_path):
    url = f"memory://{tmp_path.name}/c.zarr"
    opened = Corpus(corpora["layered"])
    there = assert_made(gather(arranged(opened.manifest, "dense"), [opened], url, workers=0), url)
    gather(arranged(there.manifest, "dense"), [there], tmp_path / "back", workers=0)
    assert files_of(tmp_path / "back") == files_of(corpora["dense"])


def test_worker_processes_copy_the_same_bytes(corpora, tmp_path):
    opened = Corpus(corpora["layered"])
    gather(arranged(opened.manifest, "dense"), [opened], tmp_path / "c", workers=2)
    assert files_of(tmp_path / "c") == files_of(corpora["dense"])


def test_the_same_call_makes_only_what_is_missing(corpora, tmp_path):
    opened = Corpus(corpora["dense"])
    manifest = arranged(opened.manifest, "layered")
    gather(manifest, [opened], tmp_path / "c", workers=0)
    before = files_of(tmp_path / "c")
    (tmp_path / "c" / receipt_key(1)).unlink()
    (tmp_path / "c" / "form" / "c.2.0.1234.partial").write_bytes(b"left by a killed worker")
    times = {f: f.stat().st_mtime_ns for f in (tmp_path / "c").rglob("c.[02]*")}
    outcome = gather(manifest, [opened], tmp_path / "c", workers=0)
    assert (outcome.kept, outcome.made) == (2, 1)
    assert files_of(tmp_path / "c") == before
    assert all(f.stat().st_mtime_ns == time for f, time in times.items() if f.exists())


def test_a_shard_that_is_not_what_it_was_is_not_made(corpora, tmp_path):
    shutil.copytree(corpora["layered"], tmp_path / "a")
    opened = Corpus(tmp_path / "a")
    forged = dataclasses.replace(opened.receipts[1], content="0" * 64)
    (tmp_path / "a" / receipt_key(1)).write_bytes(forged.to_bytes())
    outcome = gather(arranged(opened.manifest, "dense"), [opened], tmp_path / "c", workers=0)
    assert outcome.made == 2
    assert "shard 1 would not hold the samples" in outcome.failed[1]
    assert not list((tmp_path / "c").glob("*/c.1*.0")), "nothing of it has a name"
    assert not (tmp_path / "c" / receipt_key(1)).exists()


def test_what_is_read_is_never_written(corpora, sources_path, tmp_path):
    path = shutil.copytree(corpora["layered"], tmp_path / "a")
    opened, before = Corpus(path), files_of(path)
    manifest = arranged(opened.manifest, "dense")
    (tmp_path / "link").symlink_to(path)
    for out in (path, path / "below", f"{path}/", f"file://{path}", tmp_path / "link"):
        with pytest.raises(StoreError, match="or lies in it; choose another --out"):
            gather(manifest, [opened], out, workers=0)
    make_corpus(tmp_path / "other", sources_path, seed=9)
    with pytest.raises(StoreError, match=r"other holds .*choose another --out"):
        gather(manifest, [opened], tmp_path / "other", workers=0)
    with pytest.raises(StoreError, match="is not a corpus; choose another --out"):
        gather(manifest, [opened], tmp_path, workers=0)
    assert files_of(path) == before


def test_an_unfinished_corpus_is_named(corpora, tmp_path):
    shutil.copytree(corpora["layered"], tmp_path / "a")
    (tmp_path / "a" / receipt_key(1)).unlink()
    result = CliRunner().invoke(
        app, ["convert", str(tmp_path / "a"), "--out", str(tmp_path / "c"), "--layout", "dense"]
    )
    assert "holds 2 of 3 shards; run the command that was making it again" in str(result.exception)
    assert not (tmp_path / "c").exists()


# Merge.


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two stores that share scans 1 and 2, under other terms, and one of all scans."""
    folder = tmp_path_factory.mktemp("both")
    terms = {"licence": "CC-BY-4.0", "terms": "made for a test", "citation": "Doe", "redistribute_derived": False}
    return {
        "one": pick_store(folder / "one.zarr", [0, 1, 2]),
        "other": pick_store(folder / "other.zarr", [1, 2, 3], **terms),
        "all": pick_store(folder / "all.zarr", [0, 1, 2, 3]),
    }


@pytest.fixture(scope="module")
def pair(both, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return (
        Corpus(make_corpus(folder / "a.zarr", both["one"])),
        Corpus(make_corpus(folder / "b.zarr", both["other"], seed=8, samples=9, layout="dense")),
    )


def test_merged_samples_are_those_of_the_corpora_one_behind_the_other(pair, tmp_path):
    manifest = merged(pair, shard_size=5)
    assert (manifest.layout, len(manifest), manifest.shard_count) == ("layered", 31, 7)
    assert len(manifest.blocks[0].draws) == 2
    after = assert_made(gather(manifest, pair, tmp_path / "c", workers=0), tmp_path / "c")
    for index in range(31):
        assert_same(after, index, pair[index >= 22], index - 22 * (index >= 22))


def test_sources_are_kept_once_and_under_all_their_terms(pair):
    manifest = merged(pair)
    assert [source["case"] for source in manifest.sources] == ["case0", "case1", "case2", "case3"]
    assert [g.sources for g in manifest.generations] == [(0, 1, 2), (1, 2, 3)]
    alone, shared, _, new = manifest.sources
    assert (alone["licence"], alone["redistribute_derived"]) == ("none", True)
    assert (new["licence"], new["redistribute_derived"]) == ("CC-BY-4.0", False)
    assert (shared["licence"], shared["terms"]) == ("none / CC-BY-4.0", "made for a test")
    assert shared["redistribute_derived"] is False


def test_uniting_terms_again_adds_nothing(pair, tmp_path):
    gather(merged(pair), pair, tmp_path / "c", workers=0)
    again = merged([Corpus(tmp_path / "c"), *pair], drop_duplicates=True)
    assert again.sources == merged(pair).sources
    assert again.identity == merged(pair).identity


def test_a_merged_corpus_is_made_again_from_sources(pair, both, tmp_path):
    """The manifest still says how each sample was drawn; here it is drawn."""
    first = Corpus(make_corpus(tmp_path / "a", both["one"], seed=3))
    second = Corpus(make_corpus(tmp_path / "b", both["other"], "alpha=[0.5,0.6]", seed=8))
    gather(merged([first, second]), [first, second], tmp_path / "c", workers=0)
    before = files_of(tmp_path / "c")
    for shard in (2, 4):
        (tmp_path / "c" / receipt_key(shard)).unlink()
        for file in (tmp_path / "c").glob(f"*/c.{shard}*"):
            file.unlink()
    assert repair(tmp_path / "c", both["all"], workers=0).left == []
    assert files_of(tmp_path / "c") == before


@pytest.mark.parametrize("cuts", [[7], [1, 8, 9], [11, 21]])
def test_pieces_of_a_corpus_merge_into_it_again(corpora, tmp_path, cuts):
    whole, pieces = Corpus(corpora["layered"]), []
    for first, stop in zip([0, *cuts], [*cuts, 22], strict=True):
        manifest = subset(whole, choose(whole, [f"{first}:{stop}"]))
        gather(manifest, [whole], tmp_path / str(first), workers=0)
        pieces.append(Corpus(tmp_path / str(first)))
    gather(merged(pieces), pieces, tmp_path / "c", workers=0)
    assert files_of(tmp_path / "c") == files_of(corpora["layered"])


def test_hard_and_soft_edges_share_a_corpus(corpora, soft, tmp_path):
    parts = [Corpus(corpora["dense"]), Corpus(soft)]
    for layout in LAYOUTS:
        after = assert_made(
            gather(merged(parts, layout=layout), parts, tmp_path / layout, workers=0), tmp_path / layout
        )
        for index in range(31):
            assert_same(after, index, parts[index >= 22], index - 22 * (index >= 22))
    hard = Corpus(tmp_path / "layered")
    back = assert_made(gather(subset(hard, np.arange(22)), [hard], tmp_path / "back", workers=0), tmp_path / "back")
    assert back.content_hash == parts[0].content_hash
    assert not (tmp_path / "back" / "edge").exists()


def test_a_sample_that_is_there_twice_is_refused_or_dropped(corpora, sources_path, tmp_path):
    longer = Corpus(make_corpus(tmp_path / "longer", sources_path, samples=30, layout="dense"))
    parts = [Corpus(corpora["layered"]), longer]
    with pytest.raises(
        StoreError, match=r"sample 0 of .*longer is sample 0 of .*layered\.zarr; give --drop-duplicates"
    ):
        merged(parts)
    with pytest.raises(StoreError, match=r"sample 0 of .*layered\.zarr is sample 0 of .*layered\.zarr"):
        merged([parts[0], parts[0]])
    manifest = merged(parts, drop_duplicates=True)
    assert manifest.blocks == (Block(((0, 0, 30),)),)
    after = assert_made(gather(manifest, parts, tmp_path / "c", workers=0), tmp_path / "c")
    for index in range(30):
        assert_same(after, index, longer, index)


def test_corpora_that_cannot_be_one_are_refused(pair, tmp_path):
    one = pair[0]
    small = Corpus(make_corpus(tmp_path / "small", make_store(tmp_path / "s16", 2, size=16)))
    with pytest.raises(StoreError, match=r"small has samples of 16 voxels a side, .*a\.zarr of 32"):
        merged([one, small])
    region = REGION.model_copy(update={"modality": "echo", "orientation": "RAS"})
    other = Corpus(make_corpus(tmp_path / "region", pick_store(tmp_path / "s1", [5], region), samples=2))
    with pytest.raises(StoreError, match=r"differ in how their scans were prepared \(modality, orientation\)"):
        merged([one, other])
    changed = pick_store(tmp_path / "s2", [1], mean=99.0)
    with pytest.raises(StoreError, match=r"source made--case1 of .*name is not the source of that name in .*a\.zarr"):
        merged([one, Corpus(make_corpus(tmp_path / "name", changed, samples=2))])
    window = Region.model_validate({**REGION.model_dump(), "normalisation": {"kind": "window"}})
    two = [
        Corpus(make_corpus(tmp_path / f"w{seed}", pick_store(tmp_path / f"s{seed}.zarr", [seed], window), samples=2))
        for seed in (3, 4)
    ]
    with pytest.raises(StoreError, match=r"w4 were normalised by other statistics than those of .*w3"):
        merged(two)


def test_forms_of_a_corpus_that_cannot_be_are_one_sentence(pair):
    with pytest.raises(StoreError, match="--layout flat: give layered or dense"):
        merged(pair, layout="flat")
    with pytest.raises(StoreError, match="--shard-size 0: "):
        merged(pair, shard_size=0)


# Subset.


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"samples": ["3:7", "5:9", "-1"]}, lambda c, i: 3 <= i < 9 or i == 21),
        ({"samples": ["::3"], "every": 2}, lambda c, i: i % 6 == 0),
        ({"where": ["kept > 0.8", "alpha<=.5"]}, lambda c, i: c.recipe(i)["kept"] > 0.8 and c.alpha[i] <= 0.5),
        ({"where": ["normal=1"]}, lambda c, i: c.normal[i] == 1),
        ({"where": ["volume_mm3>=1e3", "index != 4"]}, lambda c, i: c.recipe(i)["volume_mm3"] >= 1e3 and i != 4),
        ({"sources": ["made--case2"]}, lambda c, i: c.normal[i] == 2),
        ({"sources": ["made--case0", "made--case2"], "donors_too": True}, lambda c, i: c.normal[i] != 1 != c.donor[i]),
        ({"samples": ["10:"], "first": 4}, lambda c, i: 10 <= i < 14),
    ],
)  # fmt: skip
def test_samples_are_chosen_as_asked(corpora, asked, expected):
    corpus = Corpus(corpora["layered"])
    assert choose(corpus, **asked).tolist() == [i for i in range(22) if expected(corpus, i)]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"samples": ["a:b"]}, "--samples a:b: give a slice"),
        ({"samples": ["5:1:0"]}, "--samples 5:1:0: give a slice"),
        ({"samples": ["22"]}, "--samples 22: there are samples 0 to 21"),
        ({"samples": ["30:40"]}, "no sample of .* is chosen"),
        ({"where": ["__import__('os').x>1"]}, "--where .*: give a column"),
        ({"where": ["kept>0.5 and 1"]}, "--where .*: give a column"),
        ({"where": ["volume>3"]}, "--where volume>3: the recipes have index, normal"),
        ({"sources": ["made--case9"]}, "--source made--case9: .* has made--case0, made--case1"),
        ({"donors_too": True}, "--donors-too .*give --source"),
        ({"every": 0}, "--every and --first"),
    ],
)
def test_a_choice_that_says_nothing_is_one_sentence(corpora, asked, sentence):
    with pytest.raises(StoreError, match=sentence):
        choose(Corpus(corpora["layered"]), **asked)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_subset_holds_the_samples_chosen_and_can_be_made_again(corpora, sources_path, tmp_path, layout):
    whole = Corpus(corpora[layout])
    indices = choose(whole, where=["kept>0.8"], sources=["made--case0", "made--case1"])
    part = assert_made(gather(subset(whole, indices, 3), [whole], tmp_path / "c", workers=0), tmp_path / "c")
    assert (len(part), part.layout, part.shard_size) == (len(indices), layout, 3)
    for place, index in enumerate(indices):
        assert_same(part, place, whole, index)
    before = files_of(tmp_path / "c")
    for file in (tmp_path / "c").glob("*/c.1*"):
        file.write_bytes(b"")
    assert repair(tmp_path / "c", sources_path, workers=0).left == []
    assert files_of(tmp_path / "c") == before


def test_sources_go_with_the_last_list_that_names_them(both, tmp_path):
    """Case 3 joins later; the samples before it were drawn without it, those behind it need all four."""
    make_corpus(tmp_path / "a", both["one"])
    manifest = grown(Corpus(tmp_path / "a").manifest, SourceStore(both["all"]), 30, seed=5)
    generate(manifest, both["all"], tmp_path / "a", workers=0)
    whole = Corpus(tmp_path / "a")
    before, behind = subset(whole, np.arange(5)), subset(whole, np.arange(20, 30))
    assert [s["case"] for s in before.sources] == ["case0", "case1", "case2"]
    assert len(before.generations) == 1
    assert [g.sources for g in behind.generations] == [(0, 1, 2), (0, 1, 2, 3)]
    only = subset(whole, np.arange(22, 30))
    part = assert_made(gather(only, [whole], tmp_path / "c", workers=0), tmp_path / "c")
    assert [len(g.sources) for g in part.manifest.generations] == [4]
    for place in range(8):
        assert_same(part, place, whole, 22 + place)


# Where samples stand.


def described(draws):
    """Return a manifest of two generations, of one source."""
    settings = Synthesis().model_dump(mode="json")
    generations = tuple(Generation.of_layers(seed, settings, (0,), {}) for seed in (1, 2))
    source = {"name": "a", "content_sha256": "0" * 64, "statistics": None}
    return Manifest("layered", 8, 4, {}, None, (source,), generations, (Block(tuple(draws)),))


DRAWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=6)


@given(st.lists(DRAWS, min_size=1, max_size=4), st.integers(0, 1), st.integers(0, 30), st.integers(1, 30))
def test_a_sample_is_found_where_it_first_stands(corpora_of_draws, generation, first, count):
    known, first_place = Whereabouts(), {}
    for number, draws in enumerate(corpora_of_draws):
        found = [(g, f + i, run and (run.corpus, run.at + i))
                 for g, f, n, run in known.add(described(draws)) for i in range(n)]  # fmt: skip
        samples = [(g, f + i) for g, f, n in draws for i in range(n)]
        expected = []
        for at, sample in enumerate(samples):
            expected.append((*sample, first_place.get(sample)))
            first_place.setdefault(sample, (number, at))
        assert found == expected
    name = drawn_by(described([(0, 0, 1)]))[generation]
    found = [(f + i, run and (run.corpus, run.at + i))
             for f, stop, run in known.find(name, first, first + count) for i in range(stop - f)]  # fmt: skip
    assert found == [(i, first_place.get((generation, i))) for i in range(first, first + count)]


@given(st.data())
def test_a_subset_names_the_draws_of_its_samples(data):
    draws = data.draw(DRAWS)
    corpus = type("Opened", (), {"manifest": described(draws)})()
    chosen = data.draw(st.sets(st.integers(0, len(corpus.manifest) - 1), min_size=1))
    part = subset(corpus, np.array(sorted(chosen)))
    seeds = [[m.generations[m.draw(i)[0]].seed for i in indices] for m, indices in
             ((corpus.manifest, sorted(chosen)), (part, range(len(part))))]  # fmt: skip
    assert seeds[0] == seeds[1]
    assert [corpus.manifest.draw(i)[1] for i in sorted(chosen)] == [part.draw(i)[1] for i in range(len(part))]


# The command line.


def test_each_command_teaches_by_an_example_and_says_what_comes_next(corpora, sources_path, tmp_path):
    other = make_corpus(tmp_path / "b", sources_path, seed=8)
    commands = {
        "convert": [corpora["layered"], "--layout", "dense"],
        "merge": [corpora["layered"], other, "--shard-size", 16],
        "subset": [corpora["layered"], "--samples", "0:9", "--where", "kept>0.5", "--first", 3],
    }
    for name, arguments in commands.items():
        taught = CliRunner().invoke(app, [name, "--help"]).output
        assert f"synth {name}" in taught
        assert "Example" in taught
        out = tmp_path / f"{name}.zarr"
        line = list(map(str, [name, *arguments, "--out", out, "--workers", 0]))
        for _ in range(2):
            result = CliRunner().invoke(app, line)
            assert result.exit_code == 0, result.exception
            assert f"next: synth verify {out}" in result.output
        assert f"({Corpus(out).shard_count} kept from before)" in result.output
        assert verify(out) == []


def test_a_subset_says_which_sources_no_longer_bind_it(both, tmp_path):
    make_corpus(tmp_path / "a", both["one"])
    manifest = grown(Corpus(tmp_path / "a").manifest, SourceStore(both["all"]), 30, seed=5)
    generate(manifest, both["all"], tmp_path / "a", workers=0)
    result = CliRunner().invoke(
        app, ["subset", str(tmp_path / "a"), "--out", str(tmp_path / "c"), "--samples", ":5", "--workers", "0"]
    )
    assert "left out 1 sources that no sample was drawn among: made--case3" in result.output
    assert not os.path.lexists(tmp_path / "c" / "sources" / "normal" / "c.3.0.0.0")
    assert open_store(tmp_path / "c").size("sources/normal/c.2.0.0.0") > 0
