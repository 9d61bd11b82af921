"""Measures of tumours: what was built into a cube is what is measured in it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.compare.labelled import Labelled
from synth.compare.measuring import MEASURES, measure

SIZE = 40
SPACING_MM = (1.5, 1.0, 1.2)
ROI = np.zeros((SIZE, SIZE, SIZE), bool)
ROI[3:-3, 3:-3, 3:-3] = True
GRAIN = np.where(np.indices(ROI.shape).sum(axis=0) % 2, 1.0, -1.0)  # standard deviation 1, mean 0


def distance(centre, spacing_mm=SPACING_MM):
    return np.sqrt(sum(((g - c) * s) ** 2 for g, c, s in zip(np.indices(ROI.shape), centre, spacing_mm, strict=True)))


def ball(centre, radius_mm, spacing_mm=SPACING_MM):
    return distance(centre, spacing_mm) <= radius_mm


def labelled(values, mask, spacing_mm=SPACING_MM, roi=ROI):
    return Labelled("made", np.where(roi, values, 0).astype(np.float32), mask & roi, roi, spacing_mm)


@pytest.mark.parametrize(("contrast", "spread"), [(3.0, 0.5), (-2.0, 2.0), (0.5, 1.0)])
def test_contrast_heterogeneity_and_volume_are_those_built_in(contrast, spread):
    mask = ball((20, 20, 20), 9)
    found = measure(labelled(np.where(mask, contrast + spread * GRAIN, GRAIN), mask))
    assert found["contrast"] == pytest.approx(contrast, abs=0.06)
    assert found["heterogeneity"] == pytest.approx(spread, rel=0.01)
    assert found["volume"] == pytest.approx(mask.sum() * 1.8 / 1000)
    assert found["foci"] == 1


def test_contrast_is_to_the_tissue_around_and_not_to_that_far_away():
    mask, near = ball((20, 20, 20), 6), ball((20, 20, 20), 17)
    values = np.where(mask, 3, np.where(near, 1, -7)) + GRAIN
    found = measure(labelled(values, mask))
    spread = values[ROI & ~mask].std()
    assert found["contrast"] == pytest.approx(2 / spread, rel=0.03)


@pytest.mark.parametrize(
    ("width_mm", "share"),
    [(0.01, 1.0), (3.0, 2 / 3), (4.0, 0.5)],  # over 2 mm, of a ramp of that width
)
def test_the_edge_is_as_sharp_as_the_share_of_the_contrast_that_two_millimetres_hold(width_mm, share):
    away = distance((20, 20, 20), (1, 1, 1))
    ramp = np.clip((10 - away) / width_mm + 0.5, 0, 1)
    found = measure(labelled(3 * ramp + 0.01 * GRAIN, away <= 10, (1.0, 1.0, 1.0)))
    assert found["sharpness"] == pytest.approx(share, abs=0.06)


def test_a_dark_tumour_has_as_sharp_an_edge_as_a_bright_one_and_a_cavity_does_not_change_it():
    mask, cavity = ball((20, 20, 20), 14), ball((20, 20, 20), 3.5)
    sharp = measure(labelled(3 * mask + 0.01 * GRAIN, mask))["sharpness"]
    assert measure(labelled(-3 * mask + 0.01 * GRAIN, mask))["sharpness"] == pytest.approx(sharp, abs=0.01)
    hollow = measure(labelled(3 * mask - 6 * cavity + 0.01 * GRAIN, mask))
    assert hollow["sharpness"] == pytest.approx(sharp, rel=0.1)


def test_what_differs_from_nothing_has_no_edge_to_speak_of():
    found = measure(labelled(GRAIN, ball((20, 20, 20), 9)))
    assert abs(found["contrast"]) < 0.06
    assert math.isnan(found["sharpness"])


def test_foci_are_parts_and_splinters_are_none():
    mask = ball((12, 12, 12), 4) | ball((28, 12, 28), 4) | ball((28, 28, 12), 4)
    mask[20, 34, 34:37] = True
    assert measure(labelled(GRAIN + mask, mask))["foci"] == 3
    assert measure(labelled(GRAIN + mask, mask))["volume"] == pytest.approx(mask.sum() * 1.8 / 1000)


def test_depth_is_that_of_the_middle_and_a_hole_in_the_roi_is_no_edge():
    mask = ball((12, 20, 20), 4)
    solid = measure(labelled(GRAIN + mask, mask))["depth"]
    assert solid == pytest.approx((12 - 2) * 1.5)  # voxel 2 is the last outside
    holed = ROI & ~ball((17, 20, 20), 2)
    assert measure(labelled(GRAIN + mask, mask, roi=holed))["depth"] == solid


def test_of_a_scan_without_a_tumour_only_its_foci_are_counted():
    found = measure(labelled(GRAIN, np.zeros(ROI.shape, bool)))
    assert found.pop("foci") == 0
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("mask", [ROI, np.ones(ROI.shape, bool), ball((20, 20, 20), 0.1)])
def test_where_there_is_too_little_to_measure_volume_and_foci_remain(mask):
    found = measure(labelled(GRAIN, mask))
    assert found["volume"] == pytest.approx((mask & ROI).sum() * 1.8 / 1000)
    assert math.isnan(found["contrast"])
    assert math.isnan(found["sharpness"])


@settings(max_examples=12)
@given(
    factor=st.floats(0.5, 20), shift=st.floats(-5, 5), axis=st.integers(0, 2), contrast=st.floats(0.6, 5),
    centre=st.tuples(*[st.integers(8, 31)] * 3), radius_mm=st.floats(3, 10),
)  # fmt: skip
def test_neither_units_nor_a_mirror_change_what_is_measured(factor, shift, axis, contrast, centre, radius_mm):
    mask = ball(centre, radius_mm)
    scan = labelled(np.where(mask, contrast, 0) + GRAIN, mask)
    found = measure(scan)
    brighter = replace(scan, voxels=(factor * scan.voxels + shift).astype(np.float32))
    mirrored = replace(
        scan, voxels=np.flip(scan.voxels, axis), mask=np.flip(scan.mask, axis), roi=np.flip(scan.roi, axis)
    )
    for other in (measure(brighter), measure(mirrored)):
        for name in MEASURES:
            assert other[name] == pytest.approx(found[name], rel=1e-3, abs=1e-3, nan_ok=True), name
