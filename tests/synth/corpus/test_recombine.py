"""Recombine: an endless stream of samples that obey the same equations as those of the corpus."""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scans.catalog.region import Region
from scans.errors import StoreError
from scans.image.normalisation import Statistics
from synth.corpus import Corpus, Normal, Recombine
from synth.tumour.blend import FULL, INSIDE, blend
from synth.tumour.sample import empty_sample
from tests.made.corpora import append, make_corpus, pick_store
from tests.made.sources import REGION, make_store
from tests.made.trainings import SMALL, run, same
from train.data.split import split_by_source
from train.proxies.recorded import load_checkpoint
from train.settings import Pretrain, Schedule
from train.stages.decomposition import Decomposition

pytestmark = pytest.mark.usefixtures("undrawn")
LAYERS = ("composite", "normal", "texture", "mask")
WINDOW = Region.model_validate({**REGION.model_dump(), "normalisation": {"kind": "window", "percentiles": [0, 100]}})
KINDS = {
    "plain": [],
    "dense": [],
    "window": ["linear.ratio=[[0.4,1.2]]"],
    "soft": ["mask.soft_mm=2", "mask.least_kept=0.9"],
    "composite": ["texture_target=composite"],
    "no linear": ["linear.enabled=false"],
    "every option": [
        "elastic.mask=true", "mask.soft_mm=1.5", "linear.reference=mask", "donor.shift=2", "donor.outside=zero",
        "shape.volume_law=log-uniform", "linear.ratio=[[0.5,0.8],[1.2,2.5]]", "texture_target=composite",
    ],
}  # fmt: skip
seeds, steps = st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)
PINNED = [  # tumour, normal, donor, flip (z, y, x), start (z, y, x), ratio, alpha
    (1, 2, 1, 1, 1, 0, 9, 20, 5, 2.92116566, 0.7771040797233582),
    (4, 2, 1, 1, 0, 1, 11, 8, 0, 1.00789769, 0.25917714834213257),
    (7, 0, 2, 1, 1, 0, 15, -2, 15, 2.99815258, 0.3114871084690094),
]
few = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, corpus_path, dense_path, sources_path):
    folder = tmp_path_factory.mktemp("corpora")
    window = pick_store(folder / "window sources", [0, 1, 2], WINDOW)
    made = {"plain": Corpus(corpus_path), "dense": Corpus(dense_path)}
    for kind in KINDS.keys() - made.keys():
        made[kind] = Corpus(make_corpus(folder / kind, window if kind == "window" else sources_path, *KINDS[kind]))
    return made


@pytest.fixture(params=KINDS, scope="module")
def corpus(request, corpora):
    return corpora[request.param]


@pytest.fixture(scope="module")
def plain(corpora):
    return corpora["plain"]


def bits(sample):
    return [getattr(sample, name).tobytes() for name in LAYERS], sample.alpha


def statistics(corpus, position):
    return Statistics.from_json(corpus.statistics or corpus.sources[position]["statistics"])


def reference(corpus, drawn):
    """Lay the tumour voxel by voxel, in float64: its tissue and weight wherever it is seen, and the mask."""
    layer, recipe, roi = corpus.layer(drawn.tumour), corpus.recipe(drawn.tumour), corpus.source(drawn.normal).roi
    first = int(recipe["normal"])
    was, will = statistics(corpus, first), statistics(corpus, drawn.normal)
    change = 1.0
    if corpus.settings(drawn.tumour)["linear"]["enabled"]:
        means = corpus.sources[drawn.normal]["mean"] / corpus.sources[first]["mean"]
        change = drawn.ratio / recipe["ratio"] * means
    raw = np.clip((layer.tissue.astype(np.float64) * was.std + was.mean) * change, will.low, will.high)
    edges = np.full(len(raw), INSIDE | FULL) if layer.edge is None else layer.edge.astype(int)
    tissue, weight, mask = np.zeros((3, *roi.shape))
    for place, value, edge in zip(np.argwhere(layer.form).tolist(), raw, edges, strict=True):
        turned = [n - 1 - p if flip else p for p, n, flip in zip(place, layer.form.shape, drawn.flip, strict=True)]
        at = tuple(s + p for s, p in zip(drawn.start, turned, strict=True))
        if min(at) >= 0 and max(at) < corpus.size and roi[at]:
            tissue[at], weight[at], mask[at] = (value - will.mean) / will.std, (edge & FULL) / FULL, edge >= INSIDE
    return tissue, weight, mask, mask.sum() / np.count_nonzero(edges >= INSIDE)


def half_unit(values):
    """What rounding to float16 may change, and float32 where large numbers cancel."""
    return 0.501 * np.spacing(np.abs(values).astype(np.float16)).astype(np.float64) + 5e-6


def assert_close(found, expected, more=0.0):
    """Equal up to rounding to float16, once."""
    np.testing.assert_array_less(np.abs(found - expected), np.broadcast_to(half_unit(found) + more, found.shape))


# What a sample is.


@few
@given(seed=seeds, step=steps)
def test_each_sample_is_a_whole_tumour_in_a_normal_of_the_corpus(corpus, seed, step):
    stream = Recombine(corpus, seed)
    drawn = stream.draw(step)
    sample = stream.read(step, empty_sample(corpus.size, np.float16))
    normal, own = corpus.source(drawn.normal), corpus.settings(drawn.tumour)
    inside = sample.mask == 1
    assert sample.normal.tobytes() == normal.voxels.tobytes()
    assert inside.any()
    assert normal.roi[inside].all()
    assert set(np.unique(sample.mask)) <= {0, 1}
    assert not sample.texture[~inside].any()
    assert sample.alpha == drawn.alpha
    if own["texture_target"] == "composite":
        assert sample.texture.tobytes() == np.where(inside, sample.composite, np.float16(0)).tobytes()
    if not own["mask"]["soft_mm"]:
        assert sample.composite[~inside].tobytes() == sample.normal[~inside].tobytes()
        if own["texture_target"] == "texture":
            blended = blend(sample.normal[inside], sample.texture[inside], np.float32(sample.alpha))
            assert sample.composite[inside].tobytes() == blended.tobytes()


@few
@given(seed=seeds, step=steps)
def test_it_is_what_a_slow_reference_lays(corpus, seed, step):
    stream = Recombine(corpus, seed)
    drawn, sample = stream.draw(step), stream[step]
    tissue, weight, mask, kept = reference(corpus, drawn)
    np.testing.assert_array_equal(sample.mask, mask)
    assert drawn.kept == kept >= corpus.settings(drawn.tumour)["mask"]["least_kept"]
    weight *= drawn.alpha
    assert_close(sample.composite, sample.normal + weight * (tissue - sample.normal), weight * half_unit(tissue))
    assert (sample.composite == sample.normal)[weight == 0].all()
    target = corpus.settings(drawn.tumour)["texture_target"]
    assert_close(sample.texture, np.where(mask, tissue if target == "texture" else sample.composite, 0))


@pytest.mark.parametrize("kind", ["plain", "dense", "window"])
def test_the_tissues_mean_becomes_the_drawn_ratio_of_the_new_normals(corpora, kind):
    """Eq. 4, over the whole form: the donor's own mean has part in both tissues alike, and cancels."""
    corpus, compared = corpora[kind], 0
    stream = Recombine(corpus, 2)
    for step in range(500):
        drawn, sample = stream.draw(step), stream[step]
        first = int(corpus.normal[drawn.tumour])
        was, will = statistics(corpus, first), statistics(corpus, drawn.normal)
        before = corpus.layer(drawn.tumour).tissue.astype(np.float64) * was.std + was.mean
        after = sample.texture[sample.mask == 1].astype(np.float64) * will.std + will.mean
        clipped = kind == "window" and any(tissue.max() >= will.high - 1 for tissue in (before, after))
        if drawn.kept == 1 and not clipped:
            means = [corpus.sources[position]["mean"] for position in (first, drawn.normal)]
            ratio = corpus.recipe(drawn.tumour)["ratio"]
            assert after.mean() / means[1] / drawn.ratio == pytest.approx(before.mean() / means[0] / ratio, rel=1e-4)
            compared += 1
    assert compared > 20


# What it is a function of.


@few
@given(seed=seeds, wanted=st.lists(steps, min_size=2, max_size=6))
def test_a_sample_depends_on_seed_and_step_alone(corpus, seed, wanted):
    there, back = Recombine(corpus, seed), Recombine(Corpus(corpus.where), seed)
    forwards = {step: (there.draw(step), bits(there[step])) for step in wanted}
    assert {step: (back.draw(step), bits(back[step])) for step in reversed(wanted)} == forwards


def test_threads_read_what_one_thread_reads(corpus):
    stream = Recombine(corpus, 5)
    alone = [bits(stream[step]) for step in range(80)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda step: bits(stream[step]), range(80))) == alone


@few
@given(pair=st.lists(seeds, min_size=2, max_size=2, unique=True), step=steps)
def test_another_seed_gives_another_sample(plain, pair, step):
    one, other = (Recombine(plain, seed)[step] for seed in pair)
    assert one.composite.tobytes() != other.composite.tobytes()


def test_draws_are_what_they_were_in_every_release_before(plain):
    """Were they to change, a training that is resumed with a later release would go on with other samples."""
    drawn = [Recombine(plain, 2**63 + 5).draw(step) for step in (0, 1, 10**15)]
    told = [(d.tumour, d.normal, d.donor, *map(int, d.flip), *d.start, d.ratio, d.alpha) for d in drawn]
    assert told == PINNED


def test_a_corpus_gives_many_more_samples_than_it_holds(plain):
    stream = Recombine(plain, 0)
    read = [stream[step] for step in range(500)]
    assert len({sample.composite.tobytes() for sample in read}) == 500
    assert len({(sample.mask.tobytes(), sample.normal.tobytes()) for sample in read}) > 490
    assert len({stream.draw(step).tumour for step in range(500)}) == len(plain) == 22
    assert len({(d.tumour, d.normal) for d in map(stream.draw, range(500))}) == 44  # with each of the other sources
    assert len({d.flip for d in map(stream.draw, range(500))}) == 8


def test_it_is_iterated_from_step_0_and_has_no_end(plain):
    stream = Recombine(plain, 3)
    first = list(itertools.islice(stream, 4))
    assert [bits(sample) for sample in first] == [bits(stream[step]) for step in range(4)]
    with pytest.raises(IndexError, match="no end"):
        stream[-1]


def test_arrays_are_written_over_whatever_was_in_them(corpus):
    stream = Recombine(corpus, 3)
    for dtype in (np.float16, np.float32):
        out = empty_sample(corpus.size, dtype)
        for array in (out.composite, out.normal, out.texture, out.mask):
            array.fill(7)
        for step in range(20):
            read, fresh = stream.read(step, out), stream[step]
            assert read.composite is out.composite
            for name in LAYERS:
                np.testing.assert_array_equal(getattr(read, name), getattr(fresh, name))


# What may be chosen.


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    sources=st.none() | st.lists(st.integers(0, 2), min_size=1, max_size=5),
    tumours=st.none() | st.lists(st.integers(0, 21), min_size=1, max_size=5),
)
def test_no_source_receives_its_own_tissue_whatever_is_left_to_choose(plain, seed, sources, tumours):
    pools = set(range(3) if sources is None else sources), set(range(22) if tumours is None else tumours)
    if len(pools[0]) == 1 and {int(plain.donor[index]) for index in pools[1]} == pools[0]:
        with pytest.raises(StoreError, match="nothing to recombine"):
            Recombine(plain, seed, sources=sources, tumours=tumours)
        return
    stream = Recombine(plain, seed, sources=sources, tumours=tumours)
    for step in range(10):
        drawn = stream.draw(step)
        assert drawn.normal != drawn.donor == plain.donor[drawn.tumour]
        assert (drawn.normal in pools[0], drawn.tumour in pools[1]) == (True, True)


@pytest.mark.parametrize(
    ("pools", "sentence"),
    [
        ({"sources": []}, "nothing to recombine; give more tumours, or more sources"),
        ({"tumours": np.array([], int)}, "nothing to recombine"),
        ({"sources": [3]}, "no source 3 to recombine; there are 0 to 2"),
        ({"sources": [0, -1]}, "no source -1 to recombine"),
        ({"tumours": [0, 22]}, "no tumour 22 to recombine; there are 0 to 21"),
        ({"tumours": [-1]}, "no tumour -1 to recombine"),
        ({"seed": 2**64}, "seed 18446744073709551616: give a whole number"),
        ({"seed": -1}, "seed -1: give a whole number"),
        ({"alpha": (0.6, 0.5)}, "alpha .* its lower end first"),
        ({"alpha": (0.5, 1.5)}, r"give an interval of \[0, 1\]"),
        ({"ratio": [(1, 2), (4, 3)]}, "ratio .* its lower end first"),
    ],
)
def test_what_cannot_be_is_told_at_once(plain, pools, sentence):
    with pytest.raises(StoreError, match=sentence):
        Recombine(plain, pools.pop("seed", 0), **pools)


@few
@given(seed=seeds, step=steps)
def test_alpha_and_ratio_come_from_the_settings_of_the_tumour(corpus, seed, step):
    drawn = Recombine(corpus, seed).draw(step)
    own = corpus.settings(drawn.tumour)
    assert np.float32(own["alpha"][0]) <= drawn.alpha <= np.float32(own["alpha"][1])
    assert any(low <= drawn.ratio <= high for low, high in own["linear"]["ratio"])
    assert drawn.alpha == np.float32(drawn.alpha)


@few
@given(
    seed=seeds,
    step=steps,
    alpha=st.tuples(*[st.floats(0, 1)] * 2).map(sorted).map(tuple),
    ends=st.lists(st.floats(0.1, 10), min_size=4, max_size=4).map(sorted),
)
def test_alpha_and_ratio_come_from_what_is_given(plain, seed, step, alpha, ends):
    intervals = [tuple(ends[:2]), tuple(ends[2:])]
    drawn = Recombine(plain, seed, alpha=alpha, ratio=intervals).draw(step)
    assert np.float32(alpha[0]) <= drawn.alpha <= np.float32(alpha[1])
    assert any(low <= drawn.ratio <= high for low, high in intervals)


@few
@given(seed=seeds, index=st.integers(0, 21))
def test_with_nothing_changed_it_is_the_tumour_of_the_corpus(corpora, seed, index):
    for kind in ("plain", "dense", "window", "soft", "no linear"):
        corpus = corpora[kind]
        recipe, own = corpus.recipe(index), corpus[index]
        stream = Recombine(
            corpus, seed, tumours=[index], sources=[int(recipe["normal"])], flip=False, move=False,
            alpha=(own.alpha, own.alpha), ratio=[(recipe["ratio"], recipe["ratio"])],
        )  # fmt: skip
        sample, drawn = stream[0], stream.draw(0)
        assert (drawn.ratio, drawn.alpha) == (recipe["ratio"], own.alpha)
        assert sample.normal.tobytes() == own.normal.tobytes()
        assert sample.mask.tobytes() == own.mask.tobytes()
        assert (sample.composite == own.composite)[own.composite == own.normal].all()
        for name in ("texture", "composite"):  # once out of the network's units and back
            assert_close(getattr(sample, name), getattr(own, name))


@pytest.mark.parametrize("kind", ["plain", "dense", "soft", "composite"])
def test_a_flip_mirrors_form_and_tissue_exactly(corpora, kind):
    corpus, flips = corpora[kind], set()
    upright, turned = (Recombine(corpus, 2, move=False, flip=flip) for flip in (False, True))
    for step in range(500):
        before, after = upright.draw(step), turned.draw(step)
        if (before.tumour, before.normal, before.kept, after.kept) != (after.tumour, after.normal, 1, 1):
            continue  # cut by the ROI, or another pair because of it
        assert dataclasses.replace(after, flip=before.flip) == before
        box, mirror = corpus.box(before.tumour), tuple(slice(None, None, -1 if flip else 1) for flip in after.flip)
        assert (turned[step].mask[box] == upright[step].mask[box][mirror]).all()
        if corpus.settings(before.tumour)["texture_target"] == "texture":
            assert turned[step].texture[box].tobytes() == upright[step].texture[box][mirror].tobytes()
        flips.add(after.flip)
    assert len(flips) == 8


def test_a_tumour_that_is_not_moved_stays_in_its_box_or_goes_to_the_opposite_face(plain):
    stream, mirrored = Recombine(plain, 1, move=False), 0
    for step in range(80):
        drawn, sample = stream.draw(step), stream[step]
        box, place = plain.box(drawn.tumour), []
        for part, turned in zip(box, drawn.flip, strict=True):
            at_a_face = part.start == 0 or part.stop == plain.size
            start = plain.size - part.stop if turned and at_a_face else part.start
            mirrored += start != part.start
            place.append(slice(start, start + part.stop - part.start))
        assert drawn.start == tuple(part.start for part in place)
        assert sample.mask.sum() == sample.mask[tuple(place)].sum()
    assert mirrored


def test_a_moved_tumour_is_centred_in_the_roi_and_gets_everywhere(plain):
    stream, free = Recombine(plain, 1, flip=False), 0
    for step in range(200):
        drawn = stream.draw(step)
        recipe, box = plain.recipe(drawn.tumour), plain.box(drawn.tumour)
        if all(part.start > 0 and part.stop < plain.size for part in box):
            corner = [part.start for part in box]
            centre = [
                s + int(recipe[f"centre_{axis}"]) - c for s, axis, c in zip(drawn.start, "zyx", corner, strict=True)
            ]
            assert plain.source(drawn.normal).roi[tuple(centre)]
            free += 1
    assert free > 20
    reached = np.any([sample.mask for sample in itertools.islice(stream, 400)], axis=0)
    deep = np.logical_and.reduce([plain.source(position).roi for position in range(3)])
    assert reached[deep].mean() > 0.99


def test_a_form_that_reaches_a_face_of_the_cube_ends_in_no_plane_elsewhere(plain):
    stream, pinned = Recombine(plain, 1), 0
    for step in range(200):
        drawn = stream.draw(step)
        for part, begin, flip in zip(plain.box(drawn.tumour), drawn.start, drawn.flip, strict=True):
            length = part.stop - part.start
            if part.start == 0 or part.stop == plain.size:
                at_low = (part.start == 0) != flip or length == plain.size
                assert begin == (0 if at_low else plain.size - length)
                pinned += 1
    assert pinned > 20


def test_each_tumour_keeps_the_settings_of_its_generation(sources_path, tmp_path):
    path = make_corpus(tmp_path / "c", sources_path, "alpha=[0.2,0.3]", samples=8)
    append(path, sources_path, 16, 9, ["alpha=[0.7,0.8]", "mask.soft_mm=2", "texture_target=composite"])
    corpus = Corpus(path)
    stream = Recombine(corpus, 0)
    for step in range(60):
        drawn, sample = stream.draw(step), stream[step]
        changed = drawn.tumour >= 8
        assert (0.69 < drawn.alpha < 0.81) if changed else (0.19 < drawn.alpha < 0.31)
        inside = sample.mask == 1
        assert (sample.composite != sample.normal)[~inside].any() == changed
        assert (sample.texture == sample.composite)[inside].all() == changed


def test_a_tumour_of_no_intensity_stays_one(sources_path, tmp_path):
    corpus = Corpus(make_corpus(tmp_path / "c", sources_path, "linear.ratio=[[0,0]]", samples=4))
    for step in range(5):
        position, tumour = Recombine(corpus, 0).tumour(step)
        assert_close(
            tumour.texture[tumour.mask == 1], -statistics(corpus, position).mean / statistics(corpus, position).std
        )


def test_one_source_fills_itself(tmp_path):
    corpus = Corpus(make_corpus(tmp_path / "c", make_store(tmp_path / "s", 1), samples=4))
    drawn = [Recombine(corpus, 0, sources=[0]).draw(step) for step in range(10)]
    assert {(d.normal, d.donor) for d in drawn} == {(0, 0)}


@pytest.mark.parametrize("voxels", [0, 5])
def test_a_roi_that_no_tumour_fits_is_told(corpus_path, voxels):
    corpus = Corpus(corpus_path)
    load = corpus.source

    def shrunk(position):
        normal = load(position)
        roi = np.zeros(normal.roi.size, bool)
        roi[np.flatnonzero(normal.roi)[:voxels]] = True
        return Normal(normal.voxels, roi.reshape(normal.roi.shape))

    corpus.source = shrunk
    for move in (True, False):
        with pytest.raises(StoreError, match="no tumour fits any source"):
            Recombine(corpus, 0, move=move)[0]


# Pretraining on it.


def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(corpus_path, tmp_path):
    run(corpus_path, tmp_path / "whole", steps=6, recombine=True, vary=True)
    run(corpus_path, tmp_path / "parts", steps=2, recombine=True, vary=True)
    run(corpus_path, tmp_path / "parts", steps=6, recombine=True, vary=True, resume=True)
    whole, resumed = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert resumed.record.step == 6
    assert same(whole.network, resumed.network)
    assert same(whole.optimiser, resumed.optimiser)
    assert whole.record.progress == resumed.record.progress


def test_it_is_another_training_than_on_the_corpus_itself(corpus_path, tmp_path):
    assert "--recombine" not in SMALL
    weights = []
    for recombine in (False, True):
        run(corpus_path, tmp_path / str(recombine), recombine=recombine)
        weights.append(load_checkpoint(tmp_path / str(recombine) / "last.safetensors").network)
    assert not same(*weights)
    with pytest.raises(Exception, match="recombine = True, not False"):
        run(corpus_path, tmp_path / "True", resume=True, steps=4)


def task(corpus, **changed):
    split = split_by_source(corpus, changed.pop("validation_sources", ()), 0, 4)
    schedule = Schedule(steps=40, batch=3, loader_threads=2, device="cpu")
    return Decomposition(corpus, split, Pretrain(recombine=True, schedule=schedule, **changed)), split


def test_a_batch_is_the_same_wherever_training_began(plain):
    decomposition, _ = task(plain)

    def numbers(batch):
        return [getattr(batch, name).numpy().tobytes() for name in (*LAYERS, "alpha")]

    whole = [numbers(batch) for batch in decomposition.batches(range(10))]
    for first in (1, 7):
        assert [numbers(batch) for batch in decomposition.batches(range(first, 10))] == whole[first:]


@pytest.mark.parametrize("held_out", ["made--case0", "made--case1", "made--case2"])
def test_training_never_sees_a_held_out_source(plain, monkeypatch, held_out):
    made = []

    class Watched(Recombine):
        def __init__(self, *given, **pools):
            super().__init__(*given, **pools)
            made.append(self)

    monkeypatch.setattr("train.stages.decomposition.Recombine", Watched)
    decomposition, split = task(plain, validation_sources=(held_out,))
    assert split.held_out == (held_out,)
    (stream,) = made
    place = [source["name"] for source in plain.sources].index(held_out)
    assert all(place not in (d.normal, d.donor) for d in map(stream.draw, range(120)))
    # As they come: the memory of a batch is used again.
    seen = [normal.numpy().tobytes() for batch in decomposition.batches(range(40)) for normal in batch.normal]
    assert seen == [stream[step].normal.tobytes() for step in range(120)]
    assert all(plain.normal[index] == place for index in split.validation)


def test_held_out_as_normals_only_where_there_are_too_few(tmp_path):
    corpus = Corpus(make_corpus(tmp_path / "c", make_store(tmp_path / "s", 2), samples=12))
    decomposition, split = task(corpus, validation_sources=("made--case1",))
    assert "as normal; too few sources" in split.note
    other = corpus.source(0).voxels.astype(np.float32)
    assert all(
        (normal[0].numpy() == other).all() for batch in decomposition.batches(range(5)) for normal in batch.normal
    )
