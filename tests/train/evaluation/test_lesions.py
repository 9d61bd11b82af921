"""Lesions against a slow matching by sets of voxels, and what is undefined where there is nothing to count."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scans.image.volume import read_masks
from tests.made.flood_fill import slow_parts
from train.evaluation.lesions import DETECTED, Lesion, Lesions, match, summarise_lesions
from train.evaluation.statistics import bootstrap_ratio


def slow_match(mask, truth, voxel_ml, least_ml):
    """Merge parts of truth and mask, pair by pair, until nothing overlaps what it is not merged with."""
    groups = [({number}, part, set()) for number, part in enumerate(slow_parts(truth))]
    groups += [(set(), set(), part) for part in slow_parts(mask)]
    merging = True
    while merging:
        merging = False
        for one in groups:
            for other in groups:
                if one is not other and (one[1] & other[2] or one[2] & other[1]):
                    groups = [g for g in groups if g is not one and g is not other]
                    groups.append(tuple(a | b for a, b in zip(one, other, strict=True)))
                    merging = True
                    break
            if merging:
                break
    lesions, false, poor = {}, [], 0
    for numbers, real, found in groups:
        dice = 2 * len(real & found) / (len(real) + len(found))
        large = {n: p for n, p in enumerate(slow_parts(truth)) if n in numbers and len(p) * voxel_ml >= least_ml}
        lesions |= {n: (len(part) * voxel_ml, dice) for n, part in large.items()}
        poor += bool(large) and 0 < dice < DETECTED
        if not real and len(found) * voxel_ml >= least_ml:
            false.append(len(found) * voxel_ml)
    return [lesions[n] for n in sorted(lesions)], sorted(false), poor, len(slow_parts(truth)) - len(lesions)


def numbers(found):
    return [number for lesion in found.each for number in astuple(lesion)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.04, 0.1, 1.0]),
    st.sampled_from([0.0, 0.04, 0.1, 0.2, 1.0]),
    st.sampled_from([0, 1, 2, 4]),
)
def test_lesions_equal_a_slow_matching(seed, of_truth, of_mask, least):
    rng = np.random.default_rng(seed)
    truth, mask = rng.random((5, 6, 7)) < of_truth, rng.random((5, 6, 7)) < of_mask
    found = match(mask, truth, 0.5, 0.5 * least)
    each, false, poor, specks = slow_match(mask, truth, 0.5, 0.5 * least)
    assert numbers(found) == pytest.approx([number for lesion in each for number in lesion])
    assert sorted(found.false_ml) == pytest.approx(false)
    assert (found.poor, found.specks) == (poor, specks)


def line(*spans):
    """A row of 1000 voxels of 0.01 ml, filled from each first to behind each last."""
    row = np.zeros((1, 1, 1000), bool)
    for first, last in spans:
        row[..., first:last] = True
    return row


def test_a_part_that_touches_two_lesions_gives_both_its_dice_and_each_keeps_its_volume():
    found = match(line((0, 130)), line((0, 100), (120, 130)), 0.01)
    dice = 2 * 110 / (130 + 110)
    assert numbers(found) == pytest.approx([1.0, dice, 0.1, dice])
    assert found.false_ml == ()


def test_a_lesion_in_pieces_counts_once():
    found = match(line((0, 30), (40, 70), (80, 100)), line((0, 100)), 0.01)
    assert [lesion.dice for lesion in found.each] == pytest.approx([2 * 80 / 180])
    assert (found.touched, found.false_ml) == (1, ())


def test_a_mask_of_everything_touches_each_lesion_and_detects_none():
    found = match(line((0, 1000)), line((0, 20), (500, 540)), 0.01)
    assert (found.touched, found.detected, found.poor) == (2, 0, 1)
    overall = summarise_lesions([found])[0]
    assert (overall.recall_touched.mean, overall.precision_touched.mean) == (1, 1)
    assert (overall.recall_detected.mean, overall.precision_detected.mean) == (0, 0)


def test_specks_are_no_lesions_and_what_is_found_of_them_is_not_false():
    found = match(line((0, 8), (100, 104), (200, 300)), line((0, 4), (400, 404)), 0.01)
    assert (found.each, found.specks, found.poor) == ((), 2, 0)
    assert found.false_ml == pytest.approx((1.0,)), "4 voxels are as little a false part"


CASES = [
    Lesions((Lesion(0.5, 0.0), Lesion(2.0, 0.6), Lesion(10.0, 0.1)), (0.2, 1.0), poor=1),
    Lesions((Lesion(0.9, 0.3), Lesion(50.0, 0.8)), (), poor=0),
    Lesions((), (20.0,), specks=3),
]


def test_recall_and_precision_are_of_all_lesions_and_by_size():
    overall, small, medium, large = summarise_lesions(CASES)
    assert (overall.lesions, overall.touched, overall.detected) == (5, 4, 3)
    assert (overall.recall_touched.mean, overall.recall_detected.mean) == pytest.approx((4 / 5, 3 / 5))
    assert (overall.precision_touched.mean, overall.precision_detected.mean) == pytest.approx((4 / 7, 3 / 7))
    assert overall.dice.mean == pytest.approx(1.8 / 5)
    assert overall.false_per_scan.mean == 1
    assert [(each.name, each.lesions, each.touched, each.detected) for each in (small, medium, large)] == [
        ("under 1 ml", 2, 1, 1),
        ("1 to 10 ml", 1, 1, 1),
        ("10 ml and more", 2, 2, 1),
    ]
    assert [each.false_per_scan.mean * 3 for each in (small, medium, large)] == pytest.approx([1, 1, 1])
    assert math.isnan(large.precision_detected.mean), "what is merged has no one size"


def test_what_there_is_nothing_to_count_of_is_undefined():
    nothing = np.zeros((3, 3, 3), bool)
    (empty, *_), (missed, *_), (false, *_) = (
        summarise_lesions([match(mask, truth, 1.0)])
        for mask, truth in ((nothing, nothing), (nothing, ~nothing), (~nothing, nothing))
    )
    for summary in (empty, false):
        assert all(math.isnan(n.mean) for n in (summary.recall_touched, summary.recall_detected, summary.dice))
    for summary in (empty, missed):
        assert math.isnan(summary.precision_touched.mean)
    assert (missed.recall_touched.mean, missed.dice.mean, missed.false_per_scan.mean) == (0, 0, 0)
    assert (false.precision_touched.mean, false.precision_detected.mean, false.false_per_scan.mean) == (0, 0, 1)
    assert "no lesion to find" in false.said()


def test_the_interval_of_a_share_draws_cases_and_says_of_how_many():
    alike = bootstrap_ratio([1, 2, 3], [2, 4, 6])
    assert (alike.mean, alike.low, alike.high, alike.count) == (0.5, 0.5, 0.5, 12)
    spread = bootstrap_ratio([9, 0, 1, 0], [9, 1, 1, 1])
    assert spread.mean == pytest.approx(10 / 12)
    assert spread.low < spread.mean < spread.high
    assert spread == bootstrap_ratio([9, 0, 1, 0], [9, 1, 1, 1]), "the same seed gives the same interval"
    assert math.isnan(bootstrap_ratio([2, 0], [3, 0]).low), "one case alone says nothing of others"
    assert math.isnan(bootstrap_ratio([0, 0], [0, 0]).mean)
    assert math.isnan(bootstrap_ratio([], []).mean)


def test_the_seven_tumours_of_a_liver_are_counted_with_their_volumes(dev_data):
    (label,) = read_masks(dev_data / "liver/tumour/ircad01_tumour.nii.gz", [None], kind="label mask")
    truth = label.array != 0
    found = match(truth, truth, label.grid.voxel_mm3 / 1000)
    assert len(found.each) == 7
    assert found.touched == found.detected == 7
    volumes = sorted(lesion.volume_ml for lesion in found.each)
    assert (round(volumes[0], 1), round(volumes[-1])) == (0.4, 84)
