"""The composition: Eq. 5 exact on what is stored, and every layer what its name says."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import ndimage

from scans.catalog.synthesis import Synthesis, override
from synth.generators.layers import LAYERS
from synth.generators.way import Way
from synth.tumour.blend import blend
from synth.tumour.compose import make_sample

BASE = override(Synthesis(), ["shape.volume_mm3=[600,6000]"])


@pytest.fixture(scope="module")
def loaded(sources):
    return [sources.load(name) for name in sources.names]


def sample_of(loaded, settings, index, seed=3):
    recipe = Way(LAYERS, settings).draw(loaded.__getitem__, len(loaded), seed, index)
    return recipe, make_sample(recipe, loaded[recipe.normal], loaded[recipe.donor], settings)


@pytest.mark.parametrize("index", range(8))
def test_eq5_holds_exactly_on_what_is_stored(loaded, index):
    _, sample = sample_of(loaded, BASE, index)
    n, s, m = sample.normal.astype(np.float64), sample.texture.astype(np.float64), sample.mask.astype(np.float64)
    slow = (1 - sample.alpha * m) * n + sample.alpha * m * s  # Eq. 5 in double precision
    # What is stored is that number rounded to float16 (half a unit in the last place, plus float32's own rounding).
    half_unit = np.spacing(np.abs(slow).astype(np.float16)).astype(np.float64) / 2
    assert (np.abs(sample.composite - slow) <= half_unit * 1.01 + 1e-6).all()
    inside = sample.mask > 0
    np.testing.assert_array_equal(
        sample.composite[inside],
        blend(sample.normal[inside], sample.texture[inside], np.float32(sample.alpha)),
    )
    for volume in (sample.composite, sample.normal, sample.texture):
        np.testing.assert_array_equal(volume, volume.astype(np.float16))


@pytest.mark.parametrize("index", range(8))
def test_composite_equals_normal_outside_the_mask_and_texture_is_zero_there(loaded, index):
    recipe, sample = sample_of(loaded, BASE, index)
    outside = sample.mask == 0
    np.testing.assert_array_equal(sample.composite[outside], sample.normal[outside])
    assert not sample.texture[outside].any()
    assert not (sample.mask.astype(bool) & ~loaded[recipe.normal].roi).any()
    np.testing.assert_array_equal(sample.normal, loaded[recipe.normal].normal.voxels.astype(np.float32))


def test_eq4_sets_the_contrast_in_raw_intensities(loaded):
    """The whole donor, neither warped nor blurred, has r times the normal's mean over its ROI."""
    plain = override(BASE, ["elastic.enabled=false", "blur.enabled=false"])
    recipe, sample = sample_of(loaded, plain, 1)
    normal, donor = loaded[recipe.normal], loaded[recipe.donor]
    tau = recipe.ratio * normal.mean / donor.mean * donor.lent.astype(np.float64)
    assert tau[donor.roi].mean() == pytest.approx(recipe.ratio * normal.mean, rel=1e-6)
    expected = (tau - normal.statistics.mean) / normal.statistics.std
    inside = sample.mask > 0
    np.testing.assert_allclose(sample.texture[inside], expected[inside], rtol=2e-3, atol=2e-3)


def test_ratio_by_mask_makes_the_tumour_exactly_r_times_the_normals_mean(loaded):
    recipe, sample = sample_of(loaded, override(BASE, ["linear.reference=mask"]), 2)
    normal = loaded[recipe.normal]
    raw = sample.texture[sample.mask > 0].astype(np.float64) * normal.statistics.std + normal.statistics.mean
    assert raw.mean() == pytest.approx(recipe.ratio * normal.mean, rel=1e-3)


@pytest.mark.parametrize("subset", list(itertools.product([True, False], repeat=3)))
def test_every_row_of_table_v_is_a_setting(loaded, subset):
    names = ("linear", "blur", "elastic")
    settings = override(BASE, [f"{n}.enabled={str(on).lower()}" for n, on in zip(names, subset, strict=True)])
    recipe, sample = sample_of(loaded, settings, 4)
    donor, normal = loaded[recipe.donor], loaded[recipe.normal]
    if not any(subset):  # nothing but paste
        inside = sample.mask > 0
        np.testing.assert_array_equal(sample.texture[inside], normal.to_network(donor.lent)[inside])
    full = sample_of(loaded, BASE, 4)[1]
    np.testing.assert_array_equal(sample.mask, full.mask)
    if subset != (True, True, True):
        assert (sample.texture != full.texture).any()


def test_blur_respects_anisotropic_voxels(loaded):
    only_blur = override(BASE, ["linear.enabled=false", "elastic.enabled=false", "blur.sigma_mm=[1.8,1.8]"])
    recipe, sample = sample_of(loaded, only_blur, 5)
    normal, donor = loaded[recipe.normal], loaded[recipe.donor]
    sigma = [1.8 / side for side in normal.spacing_mm]
    expected = normal.to_network(ndimage.gaussian_filter(donor.lent, sigma, mode="nearest", truncate=4.0))
    inside = sample.mask > 0
    np.testing.assert_allclose(sample.texture[inside], expected[inside], atol=2e-2)


def test_soft_edge_blurs_the_blend_and_leaves_the_target_binary(loaded):
    hard = sample_of(loaded, BASE, 6)[1]
    recipe, soft = sample_of(loaded, override(BASE, ["mask.soft_mm=1.5"]), 6)
    np.testing.assert_array_equal(soft.mask, hard.mask)
    outside = soft.mask == 0
    assert (soft.composite != soft.normal)[outside].any()  # the edge reaches out
    far = ndimage.distance_transform_edt(outside, loaded[recipe.normal].spacing_mm) > 4.5 * 1.5 * 3**0.5  # a cube
    np.testing.assert_array_equal(soft.composite[far], soft.normal[far])
    assert not (soft.composite != soft.normal)[~loaded[recipe.normal].roi].any()
    assert not soft.texture[outside].any()


def test_texture_target_composite_is_the_composite_inside_the_mask(loaded):
    _, sample = sample_of(loaded, override(BASE, ["texture_target=composite"]), 7)
    np.testing.assert_array_equal(sample.texture, sample.composite * sample.mask)


def test_lesions_are_neither_pasted_over_nor_lent(loaded):
    """Sources hold 5000 inside a lesion; a normal of about 100 keeps it, and no texture ever shows it."""
    for index in range(30):
        recipe, sample = sample_of(loaded, BASE, index)
        normal = loaded[recipe.normal]
        lesion = normal.foreground & ~normal.roi
        assert not sample.mask[lesion].any()
        np.testing.assert_array_equal(sample.composite[lesion], sample.normal[lesion])
        raw = sample.texture * normal.statistics.std + normal.statistics.mean
        assert raw.max() < 2000


def test_donor_shift_moves_the_texture(loaded):
    plain = ["elastic.enabled=false", "blur.enabled=false", "linear.enabled=false", "donor.shift=3"]
    recipe, sample = sample_of(loaded, override(BASE, plain), 9)
    donor, normal = loaded[recipe.donor], loaded[recipe.normal]
    assert any(recipe.shift)
    z, y, x = (np.clip(np.arange(s) + d, 0, s - 1) for s, d in zip(donor.lent.shape, recipe.shift, strict=True))
    expected = normal.to_network(donor.lent[np.ix_(z, y, x)])
    inside = sample.mask > 0
    np.testing.assert_array_equal(sample.texture[inside], expected[inside])


def test_a_sample_depends_on_its_recipe_alone(loaded):
    recipe, sample = sample_of(loaded, BASE, 3)
    again = make_sample(recipe, loaded[recipe.normal], loaded[recipe.donor], BASE)
    for field in dataclasses.fields(sample):
        np.testing.assert_array_equal(getattr(sample, field.name), getattr(again, field.name))
