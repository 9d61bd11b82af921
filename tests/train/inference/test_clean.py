import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scans.image.components import Parts
from scans.image.grid import Grid
from scans.image.volume import Volume
from train.inference.clean import clean

GRID = Grid((8, 9, 7), (2.0, 5.0, 10.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))  # a voxel has 0.1 ml


def blobs(*sizes):
    """Rows of voxels that touch nowhere."""
    array = np.zeros(GRID.shape, np.uint8)
    for row, size in enumerate(sizes):
        array[2 * row, 1, :size] = 1
    return Volume.on(GRID, array)


def slow_parts(mask):
    """Grow each part from a voxel over all its 26 neighbours."""
    left, parts = set(map(tuple, np.argwhere(mask))), []
    while left:
        part, front = set(), [left.pop()]
        while front:
            voxel = front.pop()
            part.add(voxel)
            near = [n for n in left if max(abs(a - b) for a, b in zip(n, voxel, strict=True)) <= 1]
            left.difference_update(near)
            front += near
        parts.append(part)
    return parts


@given(arrays(np.uint8, (5, 4, 6), elements=st.sampled_from([0, 0, 1])), st.floats(0, 0.6), st.booleans())
def test_what_is_kept_is_the_large_parts_and_nothing_is_added(array, least_ml, largest):
    mask = Volume(array, GRID.spacing_mm, GRID.origin, GRID.direction)
    kept = clean(mask, largest=largest, least_ml=least_ml)
    parts = slow_parts(array)
    most = max(map(len, parts), default=0)
    found = set(map(tuple, np.argwhere(kept.array)))
    chosen = [part for part in parts if len(part) * 0.1 >= least_ml and (not largest or len(part) == most)]
    if largest:
        assert found in chosen or (not chosen and not found), "one of the largest, whole"
    else:
        assert found == set().union(*chosen)
    assert sorted(Parts.of(array).sizes) == sorted(map(len, parts))
    assert kept.array.dtype == np.uint8
    assert kept.grid == mask.grid


def test_volumes_count_the_scans_own_millimetres():
    mask = blobs(1, 3, 5)
    assert clean(mask, least_ml=0.3).array.sum() == 8
    assert clean(mask, least_ml=0.31).array.sum() == 5
    assert clean(mask, least_ml=0.6).array.sum() == 0
    assert clean(mask, largest=True).array.sum() == 5
    assert clean(mask, largest=True, least_ml=0.6).array.sum() == 0


def test_parts_far_smaller_than_the_largest_may_go():
    mask = blobs(1, 3, 5)
    assert clean(mask, of_largest=0.25).array.sum() == 8
    assert clean(mask, of_largest=0.6).array.sum() == 8
    assert clean(mask, of_largest=0.61).array.sum() == 5
    assert clean(mask, of_largest=0.1).array.sum() == 9


def test_voxels_that_share_a_corner_are_one_part():
    mask = blobs()
    mask.array[1, 1, 1] = mask.array[2, 2, 2] = 1
    assert Parts.of(mask.array).sizes.tolist() == [2]


@pytest.mark.parametrize("options", [{}, {"largest": True}, {"of_largest": 0.25}, {"least_ml": 1.0}])
def test_an_empty_mask_stays_empty(options):
    assert not clean(blobs(), **options).array.any()
    assert Parts.of(blobs().array).sizes.size == 0
