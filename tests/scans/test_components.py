import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from scans.image.box import tight_box
from scans.image.components import box_of_large_parts, fill_holes, large_parts

MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=6))


@settings(max_examples=60)
@given(MASKS, st.sampled_from([0.001, 0.4, 0.5, 1.0]))
def test_small_parts_alone_are_left_out(mask, least):
    labels, count = ndimage.label(mask)
    sizes = [int((labels == part).sum()) for part in range(1, count + 1)]
    kept = [part for part, size in enumerate(sizes, 1) if size >= least * max(sizes)]
    np.testing.assert_array_equal(large_parts(mask, least), np.isin(labels, kept))


@settings(max_examples=60)
@given(
    arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=3, max_side=6)).filter(np.any),
    st.tuples(*[st.integers(0, 14)] * 3),
    st.sampled_from([0.001, 0.05, 0.4]),
)
def test_the_box_of_large_parts_is_found_without_looking_at_all_of_a_mask(stray, corner, least):
    mask = np.zeros((20, 20, 20), bool)
    mask[3:16, 2:14, 3:15] = True
    mask[tuple(slice(first, first + side) for first, side in zip(corner, stray.shape, strict=True))] |= stray
    assert box_of_large_parts(mask, least) == tight_box(large_parts(mask, least))


@settings(max_examples=60)
@given(MASKS)
def test_what_a_mask_encloses_is_filled_and_nothing_that_a_face_leads_out_of(mask):
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("function", [fill_holes, lambda mask: large_parts(mask, 0.5)])
def test_a_part_of_a_volume_in_any_layout_is_left_as_it_is(function):
    volume = np.zeros((7, 8, 9), bool)
    volume[1:6, 1:6, 1:6] = True
    volume[3, 3, 3], volume[6, 7, 8] = False, True
    before = volume.copy()
    np.testing.assert_array_equal(
        function(volume.transpose(2, 0, 1)[::-1]), function(before.transpose(2, 0, 1)[::-1].copy())
    )
    np.testing.assert_array_equal(volume, before)
