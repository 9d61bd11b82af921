"""Depth: how far a voxel lies below a form's surface, and the soft edge made of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.compound.depth import FAR, depth
from synth.compound.edge import soften
from synth.tumour.blend import FULL, INSIDE
from synth.tumour.blur import whole_rows
from synth.tumour.philox import Stream
from synth.tumour.shape import half_box, make_form, rasterise

SPACING = (2.0, 1.5, 1.2)


def measured(form, reach):
    half = half_box(form, SPACING, reach)
    offset = tuple(-h * side for h, side in zip(half, SPACING, strict=True))
    return half, depth(form, SPACING, offset, tuple(2 * h + 1 for h in half), reach)


def test_depth_in_a_ball_is_its_radius_less_the_distance_from_its_centre():
    ball = make_form(4 / 3 * np.pi * 12**3, 1.0, (1.0, 0.0, 0.0, 0.0), 4, 0.0, 1)
    half, deep = measured(ball, 5.0)
    mm = np.stack(np.meshgrid(*[np.arange(-h, h + 1) * s for h, s in zip(half, SPACING, strict=True)], indexing="ij"))
    expected = 12 - np.sqrt((mm**2).sum(axis=0))
    near = expected >= -5 + 1e-4
    np.testing.assert_allclose(deep[near], expected[near], atol=1e-3)
    assert (deep[expected < -5 - 1e-4] == FAR).all()


@given(st.integers(0, 2**32), st.floats(2000, 60_000), st.floats(0.5, 1.0))
@settings(max_examples=15, deadline=None)
def test_what_is_deeper_than_0_is_the_form(seed, volume, axis_ratio):
    form = make_form(volume, axis_ratio, Stream(seed, 0).rotation(), 5, 0.5, seed)
    half, deep = measured(form, 6.0)
    voxels = rasterise(form, SPACING, tuple(-h for h in half), deep.shape) > 0
    clear = np.abs(deep) > 0.03 * (3 * volume / (4 * np.pi)) ** (1 / 3) / axis_ratio  # the table strays by less
    np.testing.assert_array_equal((deep >= 0)[clear], voxels[clear])
    assert clear[voxels].mean() > 0.8
    faces = [deep.take(at, axis=axis) for axis in range(3) for at in (0, -1)]
    assert all((face < 0).all() for face in faces)  # the box holds the form


def test_a_box_elsewhere_holds_what_the_whole_has_there():
    form = make_form(9000, 0.7, Stream(3, 0).rotation(), 6, 0.5, 3)
    half, deep = measured(form, 4.0)
    offset = tuple((3 - h) * side for h, side in zip(half, SPACING, strict=True))
    part = depth(form, SPACING, offset, (4, 5, 6), 4.0)
    np.testing.assert_allclose(part, deep[3:7, 3:8, 3:9], atol=1e-3)


@pytest.mark.parametrize("width", [0.5, 2.0, 6.0])
def test_an_edge_has_half_of_its_weight_on_the_surface_and_rises_inward(width):
    deep = np.linspace(-8, 8, 161, dtype=np.float32).reshape(1, 1, -1)
    edge = soften(deep, whole_rows(deep.shape), np.ones(3), np.zeros(3), np.array([1.0, 0, 0]), width, width).ravel()
    weight = (edge & FULL).astype(int)
    np.testing.assert_array_equal(edge >= INSIDE, deep.ravel() >= 0)
    assert (np.diff(weight) >= 0).all()
    assert not weight[deep.ravel() <= -width / 2].any()
    assert (weight[deep.ravel() >= width / 2 + 1e-4] == FULL).all()
    assert abs(int(weight[80]) - FULL / 2) <= 1
