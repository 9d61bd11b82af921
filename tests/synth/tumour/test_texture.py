"""The texture kernels against the libraries that define them, and Eq. 4 to rounding."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scans.image.box import within
from synth.tumour.blur import Blur, gaussian_blur, rows_of
from synth.tumour.philox import Stream
from synth.tumour.texture import control_displacements, displacement_field, linear_transform, warp

SIZE = 32
WHOLE = (slice(0, SIZE),) * 3
SPACING = (1.5, 1.2, 0.9)


@pytest.fixture(scope="module")
def donor() -> np.ndarray:
    noise = np.random.default_rng(4).uniform(0, 200, (SIZE,) * 3)
    return ndimage.gaussian_filter(noise, 1.0).astype(np.float32)


@pytest.fixture(scope="module")
def control() -> np.ndarray:
    return control_displacements(Stream(8, 0).units(3 * 7**3), 7, 7.5, locked_borders=2)


def in_voxels(control):
    return control / np.reshape(SPACING, (3, 1, 1, 1))


def elastic_of_simpleitk(donor: np.ndarray, control: np.ndarray) -> np.ndarray:
    image = sitk.GetImageFromArray(donor)
    image.SetSpacing(SPACING[::-1])
    transform = sitk.BSplineTransform(3, 3)
    transform.SetTransformDomainOrigin([-0.5 * side for side in SPACING[::-1]])
    transform.SetTransformDomainPhysicalDimensions([SIZE * side for side in SPACING[::-1]])
    transform.SetTransformDomainMeshSize([4, 4, 4])
    transform.SetParameters(control[::-1].ravel().tolist())  # ITK wants x first; points z, y, x with x fastest
    return sitk.GetArrayFromImage(sitk.Resample(image, image, transform, sitk.sitkLinear, 0.0))


def test_elastic_deformation_is_that_of_simpleitk(donor, control):
    expected = elastic_of_simpleitk(donor, control)
    got = warp(donor, WHOLE, (0, 0, 0), in_voxels(control))
    inside = expected != 0  # SimpleITK gives 0 where it samples beyond the image; we let the edge go on
    assert inside.mean() > 0.9
    np.testing.assert_allclose(got[inside], expected[inside], atol=5e-3)  # of 0 to 200
    assert np.abs(got - donor).max() > 5  # and it does deform


def test_displacement_stays_within_its_bound_and_locked_borders_stay_put(control):
    field = displacement_field(control, SIZE, WHOLE)
    assert np.abs(field).max() <= 7.5
    assert (control[:, :2] == 0).all()
    assert (control[:, :, :, -2:] == 0).all()
    assert np.abs(control).max() > 5


@settings(max_examples=30, deadline=None)
@given(
    box=st.tuples(*[st.tuples(st.integers(0, SIZE - 2), st.integers(1, SIZE)).filter(lambda p: p[0] < p[1])] * 3),
    shift=st.tuples(*[st.integers(-6, 6)] * 3),
)
def test_a_box_is_a_piece_of_the_whole(donor, control, box, shift):
    part = tuple(slice(*ends) for ends in box)
    for points in (None, in_voxels(control)):
        whole = warp(donor, WHOLE, shift, points)
        np.testing.assert_array_equal(warp(donor, part, shift, points), whole[part])
    field = displacement_field(control, SIZE, WHOLE)
    np.testing.assert_array_equal(displacement_field(control, SIZE, part), field[:, *part])


def test_elastic_deformation_samples_where_the_displacement_field_says(donor, control):
    """Against SciPy, at the positions of the field that also warps masks."""
    field = displacement_field(control, SIZE, WHOLE).astype(np.float64) / np.reshape(SPACING, (3, 1, 1, 1))
    positions = np.clip(np.indices(donor.shape) + field, 0, SIZE - 1)
    expected = ndimage.map_coordinates(donor.astype(np.float64), positions, order=1, mode="nearest")
    np.testing.assert_allclose(warp(donor, WHOLE, (0, 0, 0), in_voxels(control)), expected, atol=5e-3)  # of 0 to 200


@settings(max_examples=20, deadline=None)
@given(sigma=st.tuples(*[st.floats(0, 2.5)] * 3))
def test_blur_is_that_of_scipy(donor, sigma):
    got = gaussian_blur(donor, sigma)
    effective = [s if int(4 * s + 0.5) else 0.0 for s in sigma]
    expected = ndimage.gaussian_filter(donor.astype(np.float64), effective, mode="nearest", truncate=4.0)
    np.testing.assert_allclose(got, expected, rtol=2e-5)
    part = (slice(3, 9), slice(0, 30), slice(31, 32))
    np.testing.assert_array_equal(gaussian_blur(donor, sigma, part), got[part])


@settings(max_examples=20, deadline=None)
@given(
    sigma=st.tuples(*[st.floats(0, 2.5)] * 3),
    corner=st.tuples(*[st.integers(0, SIZE - 12)] * 3),
    seed=st.integers(0, 2**31),
)
def test_tissue_made_where_a_form_is_has_the_bits_of_tissue_made_everywhere(donor, control, sigma, corner, seed):
    """Forms of a few voxels, at the cube's faces too, in planes and rows that are partly empty."""
    z, y, x = (slice(first, first + side) for first, side in zip(corner, (12, 9, 11), strict=True))
    form = np.random.default_rng(seed).random((12, 9, 11)) > 0.98
    blur = Blur(sigma, (z, y, x), SIZE, rows_of(form))
    made = blur(warp(donor, blur.wide, (0, 0, 0), in_voxels(control), blur.rows))
    everywhere = gaussian_blur(
        warp(donor, blur.wide, (0, 0, 0), in_voxels(control)), sigma, within((z, y, x), blur.wide)
    )
    np.testing.assert_array_equal(made[form], everywhere[form])
    assert np.isfinite(made).all()


@settings(max_examples=50, deadline=None)
@given(ratio=st.floats(0.1, 5), normal_mean=st.floats(1, 2000), donor_mean=st.floats(1, 2000))
def test_eq4_gives_the_donor_r_times_the_mean_of_the_normal(donor, ratio, normal_mean, donor_mean):
    roi = donor > np.median(donor)
    scaled_donor = donor * np.float32(donor_mean / donor[roi].mean(dtype=np.float64))
    texture = linear_transform(scaled_donor, ratio, normal_mean, scaled_donor[roi].mean(dtype=np.float64))
    assert texture[roi].mean(dtype=np.float64) == pytest.approx(ratio * normal_mean, rel=1e-5)
