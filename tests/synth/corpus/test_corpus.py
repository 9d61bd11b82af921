"""The reader: every sample as its recipe makes it, from either layout, in any order, by any number of threads."""

import dataclasses
import itertools
import pickle
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from scans.catalog.region import Region
from scans.catalog.synthesis import override
from scans.errors import StoreError
from synth.corpus import Corpus
from synth.corpus.receipt import receipt_key
from synth.sources.reader import SourceStore
from synth.tumour.blend import lay, paste, write
from synth.tumour.compose import make_sample
from synth.tumour.recipe import Recipe
from synth.tumour.sample import empty_sample
from tests.made.corpora import LAYERS, OPTIONS, append, bits, make_corpus, pick_store
from tests.made.sources import REGION

LAYOUTS = ("layered", "dense")
VARIETY = {
    "default": [],
    "soft edge": ["mask.soft_mm=3"],
    "composite as target": ["texture_target=composite"],
    "soft edge and composite": ["mask.soft_mm=1", "texture_target=composite"],
    "donor shifted": ["donor.shift=5", "donor.outside=zero"],
    "no elastic": ["elastic.enabled=false"],
    "no blur": ["blur.enabled=false"],
    "nothing but shape": ["elastic.enabled=false", "blur.enabled=false", "linear.enabled=false"],
    "alpha 0": ["alpha=[0,0]"],
    "alpha 1": ["alpha=[1,1]"],
    "tiny": ["shape.volume_mm3=[2,30]", "shape.volume_law=log-uniform"],
    "huge": ["shape.volume_mm3=[20000,60000]", "mask.least_kept=0.1"],
    "every option": OPTIONS["every option"],
    "window": ["linear.ratio=[[0.4,2.5]]"],
}


@pytest.fixture(scope="module")
def window_path(tmp_path_factory):
    region = Region.model_validate({**REGION.model_dump(), "normalisation": {"kind": "window"}})
    return pick_store(tmp_path_factory.mktemp("window") / "sources.zarr", [0, 1, 2], region)


@pytest.fixture(scope="module", params=VARIETY)
def pair(request, sources_path, window_path, tmp_path_factory):
    """Return a store of sources, settings, and the corpus made of them in either layout."""
    path = window_path if request.param == "window" else sources_path
    folder, chosen = tmp_path_factory.mktemp("pair"), VARIETY[request.param]
    made = [make_corpus(folder / layout, path, *chosen, samples=7, shard_size=3, layout=layout) for layout in LAYOUTS]
    sources = SourceStore(path)
    return sources, override(sources.region.synthesis, chosen), *map(Corpus, made)


@pytest.fixture(params=LAYOUTS)
def path(request, corpus_path, dense_path):
    return corpus_path if request.param == "layered" else dense_path


@pytest.fixture
def corpus(path):
    return Corpus(path)


# What is read.


def test_every_sample_is_what_its_recipe_makes_from_either_layout(pair):
    sources, chosen, *corpora = pair
    for index, recipe in enumerate(map(Recipe.from_row, corpora[0].recipes)):
        normal, donor = (sources.load(sources.names[position]) for position in (recipe.normal, recipe.donor))
        made = make_sample(recipe, normal, donor, chosen)
        for corpus in corpora:
            assert bits(corpus[index]) == bits(made)
            assert corpus.recipe(index) == dataclasses.asdict(recipe)
            assert corpus.settings(index) == chosen.model_dump(mode="json")


def test_a_tumour_over_its_normal_is_the_sample(pair):
    for corpus in pair[2:]:
        for index in range(len(corpus)):
            normal, own = corpus.source(int(corpus.normal[index])), corpus[index]
            assert bits(paste(normal.voxels, corpus.tumour(index), empty_sample(corpus.size))) == bits(own)
            if corpus.layout == "layered":
                target = corpus.settings(index)["texture_target"]
                tumour = lay(corpus.layer(index), normal, own.alpha, target)
                assert bits(paste(normal.voxels, tumour, empty_sample(corpus.size))) == bits(own)
                assert tumour.box == corpus.box(index)


def test_a_layer_holds_what_the_roi_cut_off_and_a_dense_corpus_knows_the_rest(pair):
    _, chosen, layered, dense = pair
    for index in range(len(layered)):
        layer, mask = layered.layer(index), layered[index].mask
        form = np.zeros(mask.shape, bool)
        form[layer.box] = layer.form
        assert len(layer.tissue) == form.sum()
        assert not mask[~form].any()
        if chosen.mask.soft_mm or chosen.texture_target == "composite":
            with pytest.raises(StoreError, match="is dense, and was made with soft edges"):
                dense.layer(index)
        else:
            seen = layered.source(int(layered.normal[index])).roi[form]
            assert dense.layer(index).tissue.tobytes() == layer.tissue[seen].tobytes()


def test_both_layouts_are_the_same_corpus(pair):
    _, _, layered, dense = pair
    assert (layered.layout, dense.layout) == LAYOUTS
    assert (layered.identity, layered.content_hash) == (dense.identity, dense.content_hash)
    for name in ("recipes", "alpha", "normal", "donor"):
        assert getattr(layered, name).tobytes() == getattr(dense, name).tobytes()
    for position in range(3):
        one, other = layered.source(position), dense.source(position)
        assert (one.voxels.tobytes(), one.roi.tobytes()) == (other.voxels.tobytes(), other.roi.tobytes())
    assert [layered.spacing_mm(index) for index in range(7)] == [dense.spacing_mm(index) for index in range(7)]


def test_arrays_are_written_over_whatever_was_in_them(pair):
    for corpus, dtype in itertools.product(pair[2:], (np.float16, np.float32)):
        out = empty_sample(corpus.size, dtype)
        for array in (out.composite, out.normal, out.texture, out.mask):
            array.fill(np.float16(77))
        for index in [*range(7), 6, 0, 3]:
            read, fresh = corpus.read(index, out), corpus[index]
            assert all(getattr(read, name) is getattr(out, name) for name in LAYERS)
            assert read.composite.dtype == dtype
            assert fresh.composite.dtype == np.float32
            assert read.alpha == fresh.alpha
            for name in LAYERS:
                same = getattr(fresh, name).astype(getattr(read, name).dtype)  # exact in float16
                assert getattr(read, name).tobytes() == same.tobytes()


def test_arrays_that_are_parts_of_others_are_filled_too(corpus):
    batch = np.full((4, 3, 32, 32, 64), 9, np.float32)
    out = dataclasses.replace(
        empty_sample(32), composite=batch[2, 0, ..., ::2], normal=batch[2, 1, :, :, :32], texture=batch[2, 2, ..., 1::2]
    )
    read, fresh = corpus.read(5, out), corpus[5]
    for name in LAYERS:
        np.testing.assert_array_equal(getattr(read, name), getattr(fresh, name))
    assert (batch[[0, 1, 3]] == 9).all()


def test_what_is_read_is_the_readers_own(corpus):
    first, second = corpus[4], corpus[4]
    before = bits(second)
    for name in LAYERS:
        getattr(first, name).fill(1)
    tumour, layer = corpus.tumour(4), corpus.layer(4)
    for array in (tumour.composite, tumour.texture, tumour.mask, layer.tissue):
        array.fill(1)
    assert bits(second) == bits(corpus[4]) == before


def test_what_was_returned_stays_as_it_is(corpus):
    tumours = [corpus.tumour(index) for index in range(22)]
    layers = [corpus.layer(index) for index in range(22)]
    for index in range(22):
        assert tumours[index].composite.tobytes() == corpus.tumour(index).composite.tobytes()
        assert layers[index].tissue.tobytes() == corpus.layer(index).tissue.tobytes()
        assert layers[index].form.tobytes() == corpus.layer(index).form.tobytes()


# By which index.


def test_indices_are_those_of_a_list(corpus):
    assert len(corpus) == 22
    for index in (0, 7, 8, 21):
        assert bits(corpus[index]) == bits(corpus[index - 22]) == bits(corpus[np.int64(index)])
        for ask in (corpus.recipe, corpus.settings, corpus.spacing_mm, corpus.box):
            assert ask(index) == ask(index - 22)
        assert corpus.tumour(index).texture.tobytes() == corpus.tumour(index - 22).texture.tobytes()
    for index in (22, -23, 10**9):
        for ask in (corpus.__getitem__, corpus.tumour, corpus.layer, corpus.recipe, corpus.settings, corpus.spacing_mm):
            with pytest.raises(IndexError):
                ask(index)


def test_it_is_iterated_in_order(corpus):
    assert [bits(sample) for sample in corpus] == [bits(corpus[index]) for index in range(22)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_corpus_of_several_blocks_and_generations_is_read_across_them(sources_path, tmp_path, layout):
    path = make_corpus(tmp_path / "c", sources_path, samples=5, shard_size=3, layout=layout)
    append(path, sources_path, 6)
    append(path, pick_store(tmp_path / "more", [2, 4, 0, 1]), 13, 8, ["mask.soft_mm=2", "alpha=[0.9,1]"])
    append(path, sources_path, 17, 9, ["texture_target=composite"])
    corpus = Corpus(path)
    assert [block.samples for block in corpus.manifest.blocks] == [5, 1, 7, 4]
    assert (len(corpus), corpus.shard_count, len(corpus.manifest.generations)) == (17, 8, 3)
    stores = {name: store for store in map(SourceStore, (sources_path, tmp_path / "more")) for name in store.names}
    for index in [16, 0, 5, 4, 12, 6, *range(17), -1, -17]:
        recipe = Recipe.from_row(corpus.recipes[index])
        names = [corpus.sources[position]["name"] for position in (recipe.normal, recipe.donor)]
        normal, donor = (stores[name].load(name) for name in names)
        chosen = normal_settings(stores[names[0]], index % 17)
        assert corpus.settings(index) == chosen.model_dump(mode="json")
        assert bits(corpus[index]) == bits(make_sample(recipe, normal, donor, chosen))


def normal_settings(store, index):
    changed = [] if index < 6 else ["mask.soft_mm=2", "alpha=[0.9,1]"] if index < 13 else ["texture_target=composite"]
    return override(store.region.synthesis, changed)


# By whom.


def test_many_threads_read_at_random_what_one_reads_in_order(pair):
    for corpus in map(Corpus, (opened.where for opened in pair[2:])):
        alone = [bits(sample) for sample in corpus]
        wanted = np.random.default_rng(0).integers(0, len(corpus), 120).tolist()
        fresh, out = Corpus(corpus.where), [empty_sample(corpus.size) for _ in range(120)]
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(lambda index, into, fresh=fresh: bits(fresh.read(index, into)), wanted, out))
        assert read == [alone[index] for index in wanted]


def test_it_travels_to_another_process_as_it_was_opened(path, corpus, tmp_path):
    corpus[3]
    for opened in (corpus, Corpus(str(path), partial=True, cache=tmp_path / "copies")):
        sent = pickle.dumps(opened)
        assert len(sent) < 500, "the other process reads for itself"
        there = pickle.loads(sent)
        assert (there.identity, there.where) == (corpus.identity, corpus.where)
        assert type(there.store) is type(opened.store)
        assert bits(there[3]) == bits(corpus[3])


def test_a_path_a_text_and_a_file_url_are_the_same_corpus(path, corpus):
    assert Corpus(str(path)).content_hash == Corpus(f"file://{path}").content_hash == corpus.content_hash


def test_reading_for_long_takes_no_more_memory(corpus):
    out = empty_sample(corpus.size)
    for index in range(22):
        corpus.read(index, out)
    tracemalloc.start()
    try:
        for index in range(200):
            corpus.read(index % 22, out)
            if index == 99:
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert peak - before < 15 * 32**3, "a few volumes of float16 at a time"


# What is not whole.


def test_a_corpus_that_is_not_whole_opens_only_on_request(path, corpus, tmp_path):
    torn = shutil.copytree(path, tmp_path / "c.zarr")
    (torn / receipt_key(1)).unlink()
    with pytest.raises(StoreError, match="holds 2 of 3 shards; run the command that was making it again"):
        Corpus(torn)
    part = Corpus(torn, partial=True)
    assert (len(part), sorted(part.receipts)) == (22, [0, 2])
    for index in (*range(8), *range(16, 22)):
        assert bits(part[index]) == bits(corpus[index])
    for index in (8, 15, -7):
        with pytest.raises(StoreError, match="run synth verify"):
            part[index]


def test_a_shard_of_another_corpus_counts_as_missing(path, sources_path, tmp_path):
    mixed = shutil.copytree(path, tmp_path / "c.zarr")
    other = make_corpus(tmp_path / "other", sources_path, seed=8, layout=Corpus(path).layout)
    for key in [receipt_key(1), *Corpus(other).receipts[1].files]:
        shutil.copy(other / key, mixed / key)
    with pytest.raises(StoreError, match="shard 1 belongs to another corpus"):
        Corpus(mixed)
    assert sorted(Corpus(mixed, partial=True).receipts) == [0, 2]


def test_a_damaged_source_stops_only_readers_who_need_it(path, corpus, tmp_path):
    broken = shutil.copytree(path, tmp_path / "c.zarr")
    for file in (broken / "sources" / "normal").glob("c.*"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    if corpus.layout == "dense":
        assert bits(Corpus(broken)[2]) == bits(corpus[2])
    else:
        with pytest.raises(StoreError, match=r"sources/normal/.* is missing or damaged"):
            Corpus(broken)[2]


def test_a_damaged_normal_of_a_dense_sample_is_noticed_unless_it_is_known_to_be_its_source(dense_path, tmp_path):
    torn = shutil.copytree(dense_path, tmp_path / "c.zarr")
    reading, out = Corpus(torn), empty_sample(32, np.float16)
    before = bits(reading[0]), bits(reading.read(2, out))
    for file in (torn / "normal").glob("c.*"):
        whole = file.read_bytes()
        file.write_bytes(bytes(len(whole) // 2) + whole[len(whole) // 2 :])
    assert (bits(reading[0]), bits(reading.read(2, out))) == before
    for corpus, index in ((reading, 1), (Corpus(torn), 0)):
        with pytest.raises(StoreError, match=f"sample {index} cannot be read .*run synth verify"):
            corpus[index]


@pytest.mark.parametrize("left", [0, 0.5, -1])
def test_a_file_cut_short_is_never_read_as_zeros(path, corpus, tmp_path, left):
    torn = shutil.copytree(path, tmp_path / "c.zarr")
    for file in sorted(torn.glob("[!s]*/c.1*")):
        whole = file.read_bytes()
        cut = whole[: int(left * len(whole)) if left >= 0 else -1]
        file.write_bytes(cut)
        key = file.relative_to(torn).as_posix()
        with pytest.raises(StoreError, match=rf"{key} has {len(cut)} bytes instead of {len(whole)}"):
            Corpus(torn)
        part = Corpus(torn, partial=True)
        assert bits(part[2]) == bits(corpus[2])
        with pytest.raises(StoreError, match="run synth verify"):
            part[9]
        file.write_bytes(whole)
    assert bits(Corpus(torn)[9]) == bits(corpus[9])


@pytest.mark.parametrize("name", ["recipes", "alpha", "box"])
def test_damaged_numbers_are_never_taken_for_zeros(corpus_path, tmp_path, name):
    torn = shutil.copytree(corpus_path, tmp_path / "c.zarr")
    (file,) = torn.glob(f"{name}/c.1*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match=rf"{name}/c.1.*damaged.*run synth verify"):
        Corpus(torn)
    part = Corpus(torn, partial=True)
    for ask in (part.__getitem__, part.tumour, part.layer):
        with pytest.raises(StoreError, match="run synth verify"):
            ask(9)


@pytest.mark.parametrize("name", ["normal", "roi"])
def test_a_damaged_source_is_named_when_it_is_needed(corpus_path, tmp_path, name):
    torn = shutil.copytree(corpus_path, tmp_path / "c.zarr")
    file = torn / "sources" / name / "c.1.0.0.0"
    for change in (lambda content: content[:-1], lambda content: content[:50] + b"x" + content[51:], None):
        whole = file.read_bytes()
        file.write_bytes(change(whole)) if change else file.unlink()
        corpus = Corpus(torn)
        broken = int(np.flatnonzero(corpus.normal == 1)[0])
        with pytest.raises(StoreError, match=rf"sources/{name}/c.1.* is missing or damaged .*; run synth verify"):
            corpus[broken]
        corpus[int(np.flatnonzero(corpus.normal == 0)[0])]
        file.write_bytes(whole)


# Arithmetic.


def test_widening_is_what_numpy_does_for_every_finite_number():
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)]
    assert len(values) == 2**16 - 2**11
    out = np.full(len(values), 3, np.float32)
    write(values, out)
    assert out.tobytes() == values.astype(np.float32).tobytes()
    apart = np.full((len(values), 2), 3, np.float32)
    write(values, apart[:, 1])
    assert apart[:, 1].tobytes() == out.tobytes()
    assert (apart[:, 0] == 3).all()
    backwards = np.empty(len(values), np.float32)
    write(values[::-1], backwards)
    assert backwards.tobytes() == out[::-1].tobytes()
    same = np.empty(len(values), np.float16)
    write(values, same)
    assert same.tobytes() == values.tobytes()
