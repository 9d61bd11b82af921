"""Edge: where depths lie near a tumour, where its surface comes to lie, and which tissue is around it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.compound.depth import FAR
from synth.compound.edge import mean_around, near_rows, settle
from synth.tumour.blur import whole_rows

FIRST, SHAPE, CORNER = (1, 2, 0), (5, 6, 7), (3, 1, 2)
WITHIN = tuple(slice(f, f + n) for f, n in zip(FIRST, SHAPE, strict=True))
BOX = tuple(slice(c, c + n) for c, n in zip(CORNER, SHAPE, strict=True))


def drawn(seed):
    """Return depths of a box, a ROI and a normal of a cube of 12 voxels, and the normal's bits."""
    rng = np.random.default_rng(seed)
    deep = np.where(rng.random((8, 9, 7)) < 0.3, FAR, rng.normal(-1, 3, (8, 9, 7)).astype(np.float32))
    roi = rng.random((12, 12, 12)) < 0.8
    normal = rng.normal(0, 1, (12, 12, 12)).astype(np.float16)
    return deep, roi, normal, normal.view(np.int16)


@given(st.integers(0, 2**32), st.floats(-8, 8))
@settings(max_examples=30, deadline=None)
def test_rows_and_their_box_hold_all_that_is_near_and_end_at_it(seed, least):
    deep = drawn(seed)[0]
    rows, ends = near_rows(deep, FIRST, SHAPE, least)
    near = deep[WITHIN] >= np.float32(least)
    for row, (low, high) in zip(near.reshape(-1, SHAPE[2]), rows.reshape(-1, 2), strict=True):
        there = np.flatnonzero(row)
        assert (low, high) == (there[0], there[-1] + 1) if len(there) else low >= high
    if near.any():
        expected = [end for places in np.nonzero(near) for end in (places.min(), places.max() + 1)]
        np.testing.assert_array_equal(ends, expected)


@pytest.mark.parametrize("fluid", [-0.5, 9.0])
def test_tissue_around_is_the_shells_without_fluid_or_else_the_fluid(fluid):
    deep, roi, normal, halves = drawn(1)
    shell = (deep[WITHIN] >= -2) & (deep[WITHIN] < 0) & roi[BOX]
    tissue = shell & (normal[BOX] >= fluid)
    expected = normal[BOX][tissue if tissue.any() else shell].mean(dtype=np.float64)
    found = mean_around(deep, FIRST, whole_rows(SHAPE), roi, halves, CORNER, 2.0, fluid)
    assert found == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 2**32), st.floats(-2, 2), st.floats(-3, 1))
@settings(max_examples=30, deadline=None)
def test_a_surface_ends_at_each_limit_that_leaves_half_of_what_is_inside(seed, by, fluid):
    deep, roi, normal, _ = drawn(seed)
    smooth, side = normal[BOX].astype(np.float32), np.linspace(-1, 3, SHAPE[2], dtype=np.float32)
    inside = (deep[WITHIN] >= 0) & roi[BOX]
    moved = np.full(SHAPE, FAR)
    ended = settle(deep, FIRST, whole_rows(SHAPE), roi, CORNER, smooth, by, side, fluid, 4.0, moved)
    middle = smooth[inside].mean(dtype=np.float64) if inside.any() else 0.0
    expected = deep[WITHIN] + by * np.clip(middle - smooth.astype(np.float64), -1, 1)
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-5)
    kept = moved
    for limit in (np.broadcast_to(side, SHAPE), (smooth - np.float32(fluid)) * np.float32(4)):
        limited = np.minimum(kept, limit)
        if 2 * ((limited >= 0) & roi[BOX]).sum() >= ((kept >= 0) & roi[BOX]).sum():
            kept = limited
    np.testing.assert_array_equal(ended, kept)
