"""The blend and the readers' short cuts: whatever they skip, the bits are those of the long way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.corpus import Corpus
from synth.tumour.blend import FULL, INSIDE, blend, lay, lay_over, narrow, paste, widen, write, write_normal
from synth.tumour.sample import Layer, Normal, empty_sample

SIDE = 8
EVERY_HALF = np.arange(2**16, dtype=np.uint16).view(np.float16)
FINITE = EVERY_HALF[np.isfinite(EVERY_HALF)]


def test_every_finite_half_is_widened_to_the_number_that_it_is():
    expected = FINITE.astype(np.float32).view(np.uint32)
    np.testing.assert_array_equal(widen(FINITE).view(np.uint32), expected)
    apart = np.zeros(2 * len(FINITE), np.float32)
    write(FINITE, apart[::2])
    np.testing.assert_array_equal(apart[::2].view(np.uint32), expected)
    assert not apart[1::2].any()


@given(seed=st.integers(0, 2**32 - 1), soft=st.booleans(), target=st.sampled_from(["texture", "composite"]))
def test_a_tumour_is_laid_voxel_by_voxel_where_the_roi_leaves_it(seed, soft, target):
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(SIDE,) * 3).astype(np.float16)
    roi = rng.random(normal.shape) < rng.choice([0, 0.5, 1])
    box = (slice(1, 6), slice(0, SIDE), slice(3, 7))
    form = rng.random(normal[box].shape) < 0.6
    edge = rng.integers(0, 256, int(form.sum()), np.uint8) if soft else None
    tissue = rng.normal(size=int(form.sum())).astype(np.float16)
    alpha = float(np.float32(rng.random()))

    layer, source = Layer(box, form, tissue, edge), Normal(normal, roi)

    tumour = lay(layer, source, alpha, target)

    composite, texture = normal[box].copy(), np.zeros(form.shape, np.float16)
    mask = np.zeros(form.shape, np.uint8)
    for number, place in enumerate(map(tuple, np.argwhere(form))):
        if roi[box][place]:
            weight = np.float32(alpha)
            if edge is not None:
                weight *= np.float32(edge[number] & FULL) / np.float32(FULL)
            n, t = np.float32(normal[box][place]), np.float32(tissue[number])
            composite[place] = n + weight * (t - n)
            if edge is None or edge[number] >= INSIDE:
                mask[place] = 1
                texture[place] = tissue[number] if target == "texture" else composite[place]
    for name, expected in (("composite", composite), ("texture", texture), ("mask", mask)):
        found = getattr(tumour, name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8), err_msg=name)
    assert tumour.alpha == alpha
    for dtype in (np.float16, np.float32):
        pasted, over = empty_sample(SIDE, dtype), empty_sample(SIDE, dtype)
        paste(normal, tumour, pasted)
        write_normal(normal, over)
        lay_over(layer, source, alpha, target, over)
        for name in ("composite", "normal", "texture", "mask"):
            expected, found = getattr(pasted, name), getattr(over, name)
            np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8), err_msg=name)


def test_blend_rounds_once_an_operation():
    rng = np.random.default_rng(0)
    normal, texture = FINITE, rng.permutation(FINITE)
    below, above = normal.astype(np.float32), texture.astype(np.float32)
    for weight in (np.float32(0.3), rng.random(len(normal), np.float32)):
        expected = (below + weight * (above - below)).astype(np.float16)
        np.testing.assert_array_equal(blend(normal, texture, weight).view(np.uint16), expected.view(np.uint16))


def test_large_and_small_numbers_in_one_part_do_not_touch_those_in_another():
    numbers = np.random.default_rng(0).normal(size=2**16 + 5).astype(np.float32)
    numbers[[3, 30_000, -1]] = 1e-7, 7e4, np.nan
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16)
    np.testing.assert_array_equal(narrow(numbers).view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_samples_are_read_into_whatever_arrays_are_given(corpus_path, dense_path, dtype):
    for corpus in (Corpus(corpus_path), Corpus(dense_path)):
        kept = empty_sample(corpus.size, dtype)
        apart = empty_sample(2 * corpus.size, dtype)
        for name in ("composite", "normal", "texture", "mask"):
            getattr(kept, name).fill(9)  # as an earlier sample might have left it
            object.__setattr__(apart, name, getattr(apart, name)[::2, ::2, 1::2])  # nowhere contiguous
        for index in (0, 21, 8):
            fresh, read, strided = corpus[index], corpus.read(index, kept), corpus.read(index, apart)
            for name in ("composite", "normal", "texture", "mask"):
                for found in (read, strided):
                    assert getattr(found, name).dtype == (np.uint8 if name == "mask" else dtype)
                    np.testing.assert_array_equal(getattr(found, name), getattr(fresh, name), err_msg=name)
            assert fresh.alpha == read.alpha == strided.alpha


def test_narrowing_has_the_bits_of_numpy_at_every_half_number_and_beside_each_tie():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    bits = halves[np.isfinite(halves)].view(np.int32)
    beside = np.concatenate([(bits + step).view(np.float32) for step in (-1, 0, 1, 0xFFF, 0x1000, 0x1001)])
    for numbers in (beside[np.abs(beside) < 65_000], np.array([1e6, -1e6, np.inf, 1.0], np.float32)):
        with np.errstate(over="ignore"):
            expected = numbers.astype(np.float16)
        np.testing.assert_array_equal(narrow(numbers).view(np.uint16), expected.view(np.uint16))
