import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from train.evaluation.metrics import TumourFree, hausdorff95, nothing_found, score, summarise
from train.network.dice import dice


def ball(side=24, centre=(12, 12, 12), radius=5.0, spacing=(1, 1, 1)):
    grid = np.indices((side,) * 3).astype(float)
    squares = [((g - c) * s) ** 2 for g, c, s in zip(grid, centre, spacing, strict=True)]
    return sum(squares) < radius**2


def slow_hausdorff95(a, b, spacing):
    """Every surface voxel of one mask against every one of the other."""

    def surface(mask):
        inner = ndimage.binary_erosion(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inner) * np.array(spacing)

    pa, pb = surface(a), surface(b)
    distances = np.linalg.norm(pa[:, None] - pb[None], axis=-1)
    return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.tuples(*[st.sampled_from([0.7, 1.0, 3.0])] * 3))
def test_hd95_equals_the_definition_in_mm(seed, spacing):
    rng = np.random.default_rng(seed)
    a = ball(16, rng.uniform(5, 10, 3), 3.5)
    b = ball(16, rng.uniform(4, 11, 3), rng.uniform(2, 6))
    assert hausdorff95(a, b, spacing) == pytest.approx(slow_hausdorff95(a, b, spacing), rel=1e-4)


@st.composite
def masks(draw, shape):
    """Empty, full, one voxel, scattered voxels, a ball, a slab on the border."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    kind = draw(st.sampled_from(["empty", "full", "voxel", "scattered", "ball", "slab"]))
    mask = np.zeros(shape, bool)
    if kind == "full":
        mask[:] = True
    elif kind == "voxel":
        mask[tuple(rng.integers(0, side) for side in shape)] = True
    elif kind == "scattered":
        mask = rng.random(shape) < rng.uniform(0.01, 0.6)
    elif kind == "ball":
        grid = np.indices(shape)
        centre = [rng.uniform(2, side - 2) for side in shape]
        mask = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < rng.uniform(2, 5) ** 2
    elif kind == "slab":
        mask[: rng.integers(1, shape[0])] = True
    return mask


def itk_scores(mask, truth, spacing):
    """Dice, sensitivity, specificity and HD95 by SimpleITK, which shares no code with MONAI."""

    def image(array):
        found = sitk.GetImageFromArray(array.astype(np.uint8))
        found.SetSpacing(spacing[::-1])
        return found

    def overlap(a, b):
        measures = sitk.LabelOverlapMeasuresImageFilter()
        measures.Execute(image(a), image(b))  # source, target
        return measures

    def surface(array):
        padded = np.pad(array, 1)
        inner = sitk.GetArrayFromImage(sitk.BinaryErode(image(padded), (1, 1, 1), sitk.sitkCross))
        return padded & (inner == 0)

    def directed(of, to):
        distance = sitk.SignedMaurerDistanceMap(image(to), squaredDistance=False, useImageSpacing=True)
        return np.percentile(np.abs(sitk.GetArrayFromImage(distance))[of], 95)

    pa, pb = surface(mask), surface(truth)
    return (
        overlap(mask, truth).GetDiceCoefficient(),
        1 - overlap(mask, truth).GetFalseNegativeError(),
        1 - overlap(~mask, ~truth).GetFalseNegativeError(),
        max(directed(pa, pb), directed(pb, pa)),
    )


@settings(max_examples=60)
@given(st.data(), st.tuples(*[st.sampled_from([0.7, 1.0, 3.0])] * 3))
def test_every_score_equals_a_second_librarys(data, spacing):
    shape = (9, 12, 10)
    mask, truth = data.draw(masks(shape)), data.draw(masks(shape))
    found = score(mask, truth, spacing)
    if not mask.any() or not truth.any():  # where libraries raise, or give NaN or infinity
        diagonal = np.linalg.norm(np.multiply(shape, spacing))
        expected = (0, diagonal) if truth.any() else (math.nan, math.nan)
        assert (found.dice, found.hd95_mm) == pytest.approx(expected, nan_ok=True)
        return
    expected = itk_scores(mask, truth, spacing)
    assert (found.dice, found.sensitivity) == pytest.approx(expected[:2])
    if truth.all():
        assert math.isnan(found.specificity)
    else:
        assert found.specificity == pytest.approx(expected[2])
    assert found.hd95_mm == pytest.approx(expected[3], rel=1e-4, abs=1e-4)


def test_hd95_counts_the_surface_on_the_images_border():
    whole, one = np.ones((6, 6, 6), bool), np.zeros((6, 6, 6), bool)
    one[0, 0, 0] = True
    assert hausdorff95(whole, one, (1, 1, 1)) == pytest.approx(slow_hausdorff95(whole, one, (1, 1, 1)))


def test_hd95_does_not_depend_on_the_image_around():
    a, b = ball(20, (8, 8, 8), 4), ball(20, (10, 9, 8), 5)
    wide = [np.pad(m, 7) for m in (a, b)]
    assert hausdorff95(*wide, (2, 1, 1)) == pytest.approx(hausdorff95(a, b, (2, 1, 1)))


def test_scores_count_voxels():
    mask, truth = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    mask[0, 0, :4], truth[0, 0, 2:], truth[1, 1, :1] = True, True, True
    result = score(mask, truth, (2.0, 1.0, 5.0))
    assert result.dice == pytest.approx(2 * 2 / (4 + 3))
    assert result.sensitivity == pytest.approx(2 / 3)
    assert result.specificity == pytest.approx(59 / 61)
    assert result.volume_ml == pytest.approx(0.04)
    assert result.truth_ml == pytest.approx(0.03)


def test_nothing_found_of_a_tumour_costs_the_images_diagonal_and_is_counted():
    missed = score(np.zeros((10, 10, 10), bool), ball(10, (5, 5, 5), 3), (3.0, 4.0, 12.0))
    assert missed.dice == missed.sensitivity == 0
    assert missed.hd95_mm == pytest.approx(130.0)
    assert nothing_found([missed, score(ball(), ball(), (1, 1, 1))]) == 1


@pytest.mark.parametrize("voxels", [0, 1, 100])
def test_without_a_tumour_there_is_no_overlap_to_score_but_a_false_volume(voxels):
    nothing = np.zeros((10, 10, 10), bool)
    found = nothing.copy()
    found.flat[:voxels] = True
    result = score(found, nothing, (1, 2, 5))
    assert all(math.isnan(value) for value in (result.dice, result.hd95_mm, result.sensitivity))
    assert result.specificity == pytest.approx(1 - voxels / 1000)
    assert result.false_ml == pytest.approx(voxels / 100)
    assert nothing_found([result]) == 0, "there was nothing to find"


def test_cases_without_a_tumour_are_in_no_mean_of_overlaps_and_told_apart():
    nothing, truth = np.zeros((24, 24, 24), bool), ball()
    with_tumour = [score(ball(centre=(13, 12, 12)), truth, (1, 1, 1)), score(truth, truth, (1, 1, 1))]
    free = [score(nothing, nothing, (1, 1, 1)), score(truth, nothing, (1, 1, 1))]
    alone, together = summarise(with_tumour), summarise([*with_tumour, *free])
    for metric in ("dice", "hd95_mm", "sensitivity"):
        assert together[metric] == alone[metric]
    assert TumourFree.of([*with_tumour, *free]) == TumourFree(2, 1, pytest.approx(truth.sum() / 2000))
    assert math.isnan(TumourFree.of(with_tumour).false_ml)


def test_missing_a_tumour_never_improves_the_mean():
    truth = ball()
    found, missed = score(ball(centre=(13, 12, 12)), truth, (1, 1, 1)), score(truth & False, truth, (1, 1, 1))
    summary = summarise([found, missed])
    assert summary["hd95_mm"].mean > found.hd95_mm
    assert summary["dice"].mean < found.dice
    assert summary["dice"].count == 2


def test_undefined_sensitivity_is_left_out_of_the_mean_and_counted():
    nothing = np.zeros((8, 8, 8), bool)
    summary = summarise(
        [score(nothing, nothing, (1, 1, 1)), score(ball(8, (4, 4, 4), 2), ball(8, (4, 4, 4), 2), (1, 1, 1))]
    )
    assert (summary["sensitivity"].mean, summary["sensitivity"].count) == (1, 1)


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_quick_dice_equals_the_scored_one(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 6, 6, 6)) < rng.random()
    if b.any():
        assert dice(a, b) == pytest.approx(score(a, b, (1, 1, 1)).dice)
