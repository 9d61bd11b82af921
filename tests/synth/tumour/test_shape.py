"""The shape: a noisy sphere of the right volume, the same as its definition evaluated voxel by voxel."""

import numpy as np
import opensimplex
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from opensimplex.internals import _init as permutations
from opensimplex.internals import _noise3 as simplex3

from scans.catalog.synthesis import Elastic, Shape
from synth.tumour.philox import Stream
from synth.tumour.placement import Placement, cut
from synth.tumour.shape import half_box, make_form, rasterise
from synth.tumour.surface import doubt, estimate
from synth.tumour.surface import radial_function as exact


def noise_of_opensimplex(directions: np.ndarray, seed: int, octaves: int) -> np.ndarray:
    """Sum octaves with the package's public interface, one call a direction and octave."""
    generator = opensimplex.OpenSimplex(seed)
    total = sum(0.5**k for k in range(octaves))
    return np.array(
        [
            sum(0.5**k * generator.noise3(*(direction * 2**k)) for k in range(octaves)) / total
            for direction in directions
        ]
    )


def slow_mask(form, seed: int, spacing_mm, half) -> np.ndarray:
    """Evaluate the radial function at every voxel's own direction; no short cut."""
    grids = np.meshgrid(*(np.arange(-h, h + 1) * s for h, s in zip(half, spacing_mm, strict=True)), indexing="ij")
    offsets = np.stack([grid.ravel() for grid in grids], axis=1)
    points = offsets @ form.inverse.T
    distance = np.linalg.norm(points, axis=1)
    directions = points / np.where(distance == 0, 1, distance)[:, None]
    rho = 1 + form.amplitude * noise_of_opensimplex(directions, seed, form.octaves)
    return (distance <= rho).reshape(grids[0].shape).astype(np.uint8)


def radial_function(form, directions: np.ndarray) -> np.ndarray:
    x, y, z = np.ascontiguousarray(directions.T)
    return exact(x, y, z, form.octaves, form.amplitude, form.permutation, form.gradients)


def random_numbers(index: int, low: float = 500.0, high: float = 4000.0) -> tuple:
    draw = Stream(2024, index)
    seed, octaves = draw.word(63), 4 + draw.below(4)
    return draw.uniform(low, high), draw.uniform(0.8, 1.0), draw.rotation(), octaves, 0.5, seed


def random_form(index: int, low: float = 500.0, high: float = 4000.0):
    numbers = random_numbers(index, low, high)
    return make_form(*numbers), numbers[-1]


def random_cut(index: int, low: float, high: float, spacing_mm):
    return cut(make_form(*random_numbers(index, low, high)), spacing_mm)


@pytest.mark.parametrize("index", range(6))
def test_mask_is_the_radial_function_at_every_voxel(index):
    form, seed = random_form(index)
    spacing = (1.9, 1.3, 1.5)
    half = half_box(form, spacing)
    start = tuple(-h for h in half)
    fast = rasterise(form, spacing, start, tuple(2 * h + 1 for h in half))
    assert (fast != slow_mask(form, seed, spacing, half)).sum() <= 1


@njit
def octaves_at_every_voxel(points, octaves, permutation, gradient):
    noise = np.zeros(len(points))
    for n, point in enumerate(points):
        for k in range(octaves):
            z, y, x = point * 2.0**k
            noise[n] += 0.5**k * simplex3(z, y, x, permutation, gradient)
    return noise / (2 - 0.5 ** (octaves - 1))


def test_two_hundred_masks_of_the_default_volumes_are_the_radial_function_at_every_voxel():
    """All octaves at all voxels within reach of the surface; the noise is the package's own compiled function."""
    defaults = Shape()
    dice = []
    for index in range(200):
        draw = Stream(31, index)
        spacing = tuple(2.2 + 0.6 * draw.unit() for _ in range(3))  # twice the voxels of a brain, for time
        octaves, seed = defaults.octaves[0] + draw.below(4), draw.word(63)
        form = make_form(
            draw.uniform(*defaults.volume_mm3), draw.uniform(*defaults.axis_ratio), draw.rotation(), octaves,
            defaults.amplitude, seed,
        )  # fmt: skip
        half = half_box(form, spacing)
        fast = rasterise(form, spacing, tuple(-h for h in half), tuple(2 * h + 1 for h in half))
        grids = np.meshgrid(*(np.arange(-h, h + 1) * s for h, s in zip(half, spacing, strict=True)), indexing="ij")
        points = np.stack([grid.ravel() for grid in grids], axis=1) @ form.inverse.T
        distance = np.linalg.norm(points, axis=1)
        slow = distance <= 1 - defaults.amplitude
        near = ~slow & (distance <= 1 + defaults.amplitude)
        noise = octaves_at_every_voxel(points[near] / distance[near, None], octaves, *permutations(seed))
        slow[near] = distance[near] <= 1 + defaults.amplitude * noise
        fast = fast.ravel().astype(bool)
        dice.append(2 * (fast & slow).sum() / (fast.sum() + slow.sum()))
    assert min(dice) > 0.9995
    assert np.median(dice) > 0.99995


@pytest.mark.parametrize("octaves", [1, 4, 7, 12])
def test_the_table_strays_from_the_radial_function_no_further_than_rasterising_takes_for_granted(octaves):
    directions = np.random.default_rng(octaves).normal(size=(100_000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    form = make_form(10_000, 1.0, (1.0, 0.0, 0.0, 0.0), octaves, 0.5, Stream(8, octaves).word(63))
    z, y, x = (np.ascontiguousarray(column) for column in directions.T)
    estimates = np.empty(len(directions))
    estimate(form.table, z, y, x, estimates, np.empty_like(estimates), np.empty(len(directions), np.int32))
    errors = np.abs(estimates - radial_function(form, directions))
    assert errors.max() < 2 * doubt(octaves, 0.5)
    assert (errors > doubt(octaves, 0.5)).mean() < 0.01


def test_surface_noise_is_that_of_the_opensimplex_package():
    form, seed = random_form(7)
    directions = np.random.default_rng(0).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    expected = 1 + 0.5 * noise_of_opensimplex(directions, seed, form.octaves)
    np.testing.assert_allclose(radial_function(form, directions), expected, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    volume=st.floats(2_000, 60_000),
    ratio=st.floats(0.5, 1.0),
    index=st.integers(0, 2**40),
    octaves=st.integers(1, 7),
    spacing=st.tuples(*[st.floats(0.8, 1.6)] * 3),
)
def test_mask_has_the_volume_asked_for(volume, ratio, index, octaves, spacing):
    draw = Stream(1, index)
    form = make_form(volume, ratio, draw.rotation(), octaves, 0.5, draw.word(63))
    half = half_box(form, spacing)
    mask = rasterise(form, spacing, tuple(-h for h in half), tuple(2 * h + 1 for h in half))
    assert mask.sum() * np.prod(spacing) == pytest.approx(volume, rel=0.05)
    for axis in range(3):  # the box holds the form: its faces are empty
        assert not np.take(mask, [0, -1], axis=axis).any()


def test_surfaces_do_not_repeat():
    directions = np.eye(3)
    surfaces = {tuple(radial_function(random_form(i)[0], directions)) for i in range(300)}
    assert len(surfaces) == 300


def test_rotations_are_uniform_over_so3():
    quaternions = np.array([Stream(3, i).rotation() for i in range(4000)])
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1, rtol=1e-12)
    # For uniform rotations E[q q^T] = I / 4; the standard error here is about 0.004.
    np.testing.assert_allclose(quaternions.T @ quaternions / 4000, np.eye(4) / 4, atol=0.015)


@pytest.mark.parametrize("warp", [False, True])
def test_what_a_centre_keeps_is_what_of_the_form_lies_in_the_roi(warp):
    roi = np.zeros((48, 48, 48), bool)
    roi[10:40, 8:44, 12:30] = True
    stamp = Placement(
        random_cut(11, 8_000, 9_000, (1.2, 1.0, 1.4)), roi, (1.2, 1.0, 1.4), Elastic(mask=warp), elastic_seed=5
    )
    for centre in [(10, 8, 12), (25, 25, 20), (39, 43, 29)]:
        box, voxels = stamp.voxels_at(centre)
        kept = stamp.kept_at(centre)
        assert kept == (voxels.astype(bool) & roi[box]).sum() / (stamp.volume_mm3 / (1.2 * 1.0 * 1.4))
        assert 0 < kept <= (1 if not warp else 1.5)  # warping may stretch the form
    assert kept < 0.6  # a corner of the ROI leaves only a part


def test_elastic_mask_moves_the_surface_by_at_most_the_displacement():
    roi = np.ones((64, 64, 64), bool)
    whole = random_cut(3, 20_000, 21_000, (1.0, 1.0, 1.0))
    plain = Placement(whole, roi, (1.0, 1.0, 1.0), Elastic(mask=False), 9).voxels_at((32, 32, 32))
    warped = Placement(whole, roi, (1.0, 1.0, 1.0), Elastic(mask=True), 9).voxels_at((32, 32, 32))
    masks = []
    for box, mask in (plain, warped):
        whole = np.zeros(roi.shape, bool)
        whole[box] = mask
        masks.append(whole)
    assert (masks[0] != masks[1]).any()
    from scipy.ndimage import distance_transform_edt

    surface = masks[0] ^ np.roll(masks[0], 1, 0) | masks[0] ^ np.roll(masks[0], 1, 1)
    moved = distance_transform_edt(~surface)[masks[0] != masks[1]]
    assert moved.max() <= 7.5 * 3**0.5 + 1
