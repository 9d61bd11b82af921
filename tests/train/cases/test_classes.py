"""Masks of several classes become one label map, and come back from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scans.errors import CheckpointError
from scans.image.volume import Volume
from train.cases.classes import TUMOUR, labels_of, masks_of, outside_in, recorded_classes, whole
from train.inference.clean import clean

BRATS = {"whole tumour": (1, 2, 4), "tumour core": (1, 4), "enhancing tumour": (4,)}
SHAPE = (4, 5, 6)
LABELS = st.integers(-3, -1) | st.integers(1, 300) | st.sampled_from([-(2**31), 2**31 - 1])
VALUES = st.one_of(
    st.none(),
    st.lists(LABELS, min_size=1, max_size=4).map(tuple),
)
CLASSES = st.lists(VALUES, min_size=1, max_size=5).map(lambda some: {f"class {n}": v for n, v in enumerate(some)})


@given(arrays.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 4])))
def test_brats_labels_come_back_as_they_were(labels):
    masks = masks_of(labels, BRATS)
    assert (masks[0] >= masks[1]).all()
    assert (masks[1] >= masks[2]).all()
    written = labels_of(masks, BRATS)
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, labels)


@given(CLASSES, st.data())
def test_masks_of_any_label_map_come_back_from_the_one_written(classes, data):
    named = [label for some in classes.values() if some for label in some]
    labels = data.draw(arrays.arrays(np.int32, SHAPE, elements=st.sampled_from([0, 1, 7, *named])))
    masks = masks_of(labels, classes)
    np.testing.assert_array_equal(masks_of(labels_of(masks, classes), classes), masks)


@given(CLASSES, st.data())
def test_whatever_is_found_the_label_map_is_written_once_and_for_all(classes, data):
    masks = data.draw(arrays.arrays(bool, (len(classes), *SHAPE)))
    labels = labels_of(masks, classes)
    np.testing.assert_array_equal(labels_of(masks_of(labels, classes), classes), labels)
    innermost = list(outside_in(classes))[-1]
    assert (masks_of(labels, classes)[innermost] >= masks[innermost]).all()


@pytest.mark.parametrize(
    ("found", "label"),
    [((0, 0, 0), 0), ((1, 0, 0), 2), ((1, 1, 0), 1), ((1, 1, 1), 4), ((0, 1, 0), 1), ((1, 0, 1), 4), ((0, 0, 1), 4)],
)
def test_a_part_outside_of_what_it_is_part_of_brings_that_with_it(found, label):
    assert labels_of(np.array(found, bool).reshape(3, 1, 1, 1), BRATS).item() == label


def test_one_class_is_0_and_1_and_overlapping_ones_get_the_label_they_share():
    mask = np.arange(8).reshape(1, 2, 2, 2) % 3 == 0
    np.testing.assert_array_equal(labels_of(mask, TUMOUR), mask[0].astype(np.uint8))
    both = labels_of(np.ones((2, 1, 1, 1), bool), {"left": (1, 2), "right": (2, 3)})
    assert both.item() == 2


def test_the_whole_is_the_class_that_all_lie_in():
    assert whole(BRATS) == "whole tumour"
    assert whole({"core": (1,), "all": None}) == "all"
    assert whole({"liver": (1,), "tumour": (2,)}) is None


def test_cleaning_goes_from_outside_in_and_keeps_parts_within_what_is_left():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[1:9, 1:9, 1:9] = 2
    labels[2:4, 2:4, 2:4] = 1  # the smaller of two cores lies in the larger tumour
    labels[10:, 10:, 10:] = 1  # a core of the same size, in a tumour of its own
    labels[5:8, 5:8, 5:7] = 4
    volume = Volume(labels, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    cleaned = clean(volume, BRATS, largest=True).array
    assert (cleaned[10:, 10:, 10:] == 0).all()
    assert (cleaned[2:4, 2:4, 2:4] == 2).all()
    assert (cleaned[5:8, 5:8, 5:7] == 4).all()
    untouched = clean(volume, BRATS, least_ml=0.001).array
    np.testing.assert_array_equal(untouched, labels)


@pytest.mark.parametrize(
    "classes",
    [
        None,
        {},
        {"a": [1]},
        {"a": [1], "b": [2], "c": []},
        {"a": "x", "b": 1, "c": []},
        {"a": [1], "b": [2**31], "c": [1]},
    ],
)
def test_masks_without_names_and_labels_are_a_damaged_record(classes):
    with pytest.raises(CheckpointError, match="its record is damaged"):
        recorded_classes({"classes": 3}, {"classes": classes}, "best.safetensors")
