"""The generator smooth: a form of exact volume, the normal's own tissue, blurred and scaled, and nothing else."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from scans.image.normalisation import Statistics
from synth.generators.facts import COMMON
from synth.generators.generator import Draw
from synth.generators.random_field import field_form, noise_field
from synth.generators.smooth import SMOOTH, Smooth, SmoothRecipe
from synth.tumour.blend import lay
from synth.tumour.number import numbers_of
from synth.tumour.source import Source

LAWS = Smooth(volume_mm3=(300, 4000))


@pytest.fixture(scope="module")
def loaded(sources):
    return [sources.load(name) for name in sources.names]


def drawn(loaded, index, laws=LAWS, seed=5):
    normal, donor = index % 2, (index + 1) % 2
    return SMOOTH.draw(Draw(seed, index, normal, donor), loaded[normal], loaded[donor], laws)


def made(loaded, recipe, laws=LAWS):
    return SMOOTH.make(recipe, loaded[recipe.normal], loaded[recipe.donor], laws)


def in_one_piece(voxels):
    return ndimage.label(voxels)[1] == 1  # by faces


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 6000),
    roughness=st.floats(0, 1),
    grain=st.floats(0.2, 1),
    noise_seed=st.integers(0, 2**63 - 1),
    spacing_mm=st.tuples(*[st.floats(0.4, 5)] * 3),
)
def test_a_form_has_exactly_the_voxels_asked_for_in_one_piece_that_holds_its_centre(
    count, roughness, grain, noise_seed, spacing_mm
):
    form = field_form(count, roughness, grain, noise_seed, spacing_mm)
    assert form.voxels.sum() == form.count == count
    assert in_one_piece(form.voxels)
    assert form.voxels[tuple(-start for start in form.start)] == 1
    assert all(form.voxels.any(axis=(1, 2))[[0, -1]])
    assert all(form.voxels.any(axis=(0, 2))[[0, -1]])
    assert all(form.voxels.any(axis=(0, 1))[[0, -1]])


@pytest.mark.parametrize("noise_seed", range(6))
def test_a_form_is_the_centres_component_above_a_level_of_the_field(noise_seed):
    spacing_mm, count, roughness, grain = (1.5, 1.0, 1.2), 3000, 0.4, 0.35
    form = field_form(count, roughness, grain, noise_seed, spacing_mm)
    radius = (3 * count * np.prod(spacing_mm) / (4 * np.pi)) ** (1 / 3)
    half = [int(2 * radius / side) for side in spacing_mm]
    offsets = np.stack(np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"))
    offsets = offsets * np.reshape(spacing_mm, (3, 1, 1, 1)) / radius
    noise = ndimage.map_coordinates(noise_field(grain, noise_seed).astype(np.float64), (offsets + 2) * 6, order=1)
    height = roughness * noise - np.sqrt((offsets**2).sum(axis=0))
    box = tuple(slice(h + s, h + s + side) for h, s, side in zip(half, form.start, form.voxels.shape, strict=True))
    inside = np.zeros(height.shape, bool)
    inside[box] = form.voxels
    level = height[inside].min()  # nothing that touches the form is higher, but for the width of a level
    shell = ndimage.binary_dilation(inside) & ~inside
    assert (height[shell] <= level + 1 / 512 + 1e-6).all()
    labels, _ = ndimage.label(height >= level)
    assert (labels == labels[tuple(half)])[inside].all()


def test_a_form_without_roughness_is_a_ball():
    voxels = field_form(4000, 0.0, 0.4, 1, (1.0, 1.0, 1.0)).voxels
    radius = (3 * 4000 / (4 * np.pi)) ** (1 / 3)
    assert voxels.shape == pytest.approx((2 * radius,) * 3, abs=1.5)


@pytest.mark.parametrize("grain", [0.25, 0.6])
def test_the_noise_is_as_strong_whatever_its_grain(grain):
    fields = np.stack([noise_field(grain, noise_seed) for noise_seed in range(40)])
    assert fields.std(axis=0).mean() == pytest.approx(1, abs=0.05)
    assert abs(fields.mean()) < 0.1
    assert fields[:, 0, 0, 0].std() == pytest.approx(1, abs=0.4)  # at the grid's corners too


@pytest.mark.parametrize("index", range(6))
def test_the_volume_is_right_to_a_voxel_before_the_roi_cuts_it(loaded, index):
    recipe = drawn(loaded, index)
    normal, layer = loaded[recipe.normal], made(loaded, recipe)
    voxel_mm3 = np.prod(normal.spacing_mm)
    whole = round(recipe.volume_mm3 / voxel_mm3)
    tumour = lay(layer, normal.normal, recipe.alpha)
    assert tumour.mask.sum() == pytest.approx(recipe.kept * whole, abs=1e-6)
    assert layer.form.sum() <= whole  # less where the cube ends
    assert recipe.kept >= LAWS.least_kept
    assert recipe.volume_mm3 <= recipe.drawn_volume_mm3
    assert not (tumour.mask.astype(bool) & ~normal.roi[tumour.box]).any()
    assert all(part.start <= c < part.stop for part, c in zip(layer.box, recipe.centre, strict=True))
    assert layer.form[tuple(c - part.start for part, c in zip(layer.box, recipe.centre, strict=True))]


@pytest.mark.parametrize("index", range(6))
def test_the_tissue_is_the_normals_own_blurred_and_scaled(loaded, index):
    recipe = drawn(loaded, index)
    normal, layer = loaded[recipe.normal], made(loaded, recipe)
    sigma = [recipe.sigma_mm / side for side in normal.spacing_mm]
    slow = recipe.factor * ndimage.gaussian_filter(normal.lent.astype(np.float64), sigma, mode="nearest", truncate=4)
    expected = (slow - normal.statistics.mean) / normal.statistics.std
    np.testing.assert_allclose(layer.tissue, expected[layer.box][layer.form], rtol=2e-3, atol=2e-3)
    tumour = lay(layer, normal.normal, recipe.alpha)
    inside = tumour.mask > 0
    np.testing.assert_array_equal(tumour.composite[inside], tumour.texture[inside])  # opaque
    np.testing.assert_array_equal(tumour.composite[~inside], normal.normal.voxels[layer.box][~inside])


def test_a_recipe_and_its_layer_follow_from_their_arguments_alone(loaded):
    first = [drawn(loaded, index) for index in range(4)]
    layers = [made(loaded, recipe) for recipe in first]
    field_form.cache_clear()
    again = [drawn(loaded, index) for index in reversed(range(4))][::-1]
    assert again == first
    for recipe, layer in zip(again, layers, strict=True):
        other = made(loaded, SmoothRecipe.from_row(recipe.row()))
        assert (other.box, other.edge) == (layer.box, None)
        np.testing.assert_array_equal(other.form, layer.form)
        np.testing.assert_array_equal(other.tissue, layer.tissue)
    assert len({recipe.noise_low for recipe in first}) == 4
    assert drawn(loaded, 0, seed=6) != first[0]


def test_one_setting_changes_no_other_choice(loaded):
    one = drawn(loaded, 3)
    other = drawn(loaded, 3, LAWS.model_copy(update={"factor": ((0.3, 0.8),)}))
    assert 0.3 <= other.factor <= 0.8
    assert {**vars(other), "factor": 0} == {**vars(one), "factor": 0}


def plain_source():
    """Make a source of whole numbers, whose bits no library's rounding decides."""
    z, y, x = np.indices((24, 24, 24))
    roi = (z - 12) ** 2 + (y - 11) ** 2 + (x - 12) ** 2 < 100
    tissue = (50 + (7 * z + 13 * y + 29 * x) % 97).astype(np.float32)
    shown = np.where(roi, tissue, np.float32(0))
    return Source("plain", shown, tissue, roi, roi, (1.5, 1.0, 1.25), 98.0, Statistics(98.0, 28.0), {})


def test_the_bytes_of_a_layer_stay_what_they_are():
    """Whoever changes them raises the generator's version."""
    source, content = plain_source(), hashlib.sha256()
    laws = Smooth(
        volume_mm3=(300, 4000), roughness=(0.15, 0.45), grain=(0.3, 0.6), sigma_mm=(1, 3), factor=((1.2, 2.2),),
        least_kept=0.5, centre_tries=20,
    )  # fmt: skip
    for index in range(3):
        recipe = SMOOTH.draw(Draw(1, index, 0, 0), source, source, laws)
        layer = SMOOTH.make(recipe, source, source, laws)
        content.update(recipe.row().tobytes() + layer.form.tobytes() + layer.tissue.tobytes())
    assert (SMOOTH.version, content.hexdigest()[:16]) == (1, "2e2c25524b013264")


def test_every_number_lies_within_its_law_and_common_columns_are_there(loaded):
    laws = LAWS.model_copy(update={"factor": ((0.5, 0.7), (1.5, 2.0))})
    numbers = numbers_of(SmoothRecipe)
    recipes = [drawn(loaded, index, laws) for index in range(40)]
    for recipe in recipes:
        assert all(number.allows(getattr(recipe, name), laws) for name, number in numbers.items())
        assert SMOOTH.check(recipe, laws, 32) == []
    assert {recipe.factor < 1 for recipe in recipes} == {True, False}
    assert set(COMMON) <= set(numbers)
    assert (next(iter(numbers)), list(numbers)[-1]) == ("index", "alpha")


def test_a_volume_for_which_there_is_no_room_is_drawn_smaller(loaded):
    recipe = drawn(loaded, 0, Smooth(volume_mm3=(5e7, 1e8)))
    assert recipe.drawn_volume_mm3 >= 5e7
    assert recipe.volume_mm3 < loaded[0].roi.sum() * np.prod(loaded[0].spacing_mm)
    assert recipe.kept >= 0.5
    assert SMOOTH.check(recipe, Smooth(volume_mm3=(5e7, 1e8)), 32) == []
    assert SMOOTH.fits(recipe, loaded[0], loaded[1], LAWS)
    strange = replace(recipe, volume_mm3=recipe.drawn_volume_mm3)  # of a stranger: it is not made
    assert not SMOOTH.fits(strange, loaded[0], loaded[1], LAWS)
    outside = replace(recipe, volume_mm3=1.0, centre_z=0, centre_y=0, centre_x=0)
    assert not SMOOTH.fits(outside, loaded[0], loaded[1], LAWS)


@pytest.mark.parametrize("volume_mm3", [9e9, 0.0, -5.0])
def test_a_volume_that_cannot_be_drawn_is_named(loaded, volume_mm3):
    assert SMOOTH.check(replace(drawn(loaded, 0), volume_mm3=volume_mm3), LAWS, 32) == ["volume_mm3"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"volume_mm3": (0, 10)}, {"volume_mm3": (10, 5)}, {"volume_mm3": (1, 1e9)}, {"grain": (0.1, 0.3)},
        {"grain": (0.3, 2)}, {"roughness": (-0.1, 0.3)}, {"roughness": (0.1, 1.5)}, {"sigma_mm": (-1, 1)},
        {"factor": ()}, {"factor": ((-1, 2),)}, {"factor": ((1, 1000),)}, {"factor": ((2, 1),)}, {"least_kept": 0},
        {"volume_mm3": (float("nan"), 10)}, {"sigma_mm": (0, float("inf"))}, {"colour": "red"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(ValidationError) as refused:
        Smooth(**wrong)
    assert next(iter(wrong)) in str(refused.value)


def test_readers_are_told_that_edges_are_hard_and_each_tumour_keeps_its_looks():
    facts = SMOOTH.facts(Smooth(least_kept=0.7))
    assert (facts.soft, facts.empty, facts.alpha, facts.ratio, facts.least_kept) == (False, False, None, (), 0.7)
