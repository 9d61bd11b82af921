"""Compound: what is seen of a tumour is what was drawn, what is none is in no mask, a mask ends at half the weight."""

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scans.image.box import ends_of
from scans.image.normalisation import Statistics
from synth.compound.draw import SHELL_MM, depth_of, first, foci_of, placed
from synth.compound.focus import make_focus, part_depth, place_of
from synth.compound.generator import COMPOUND
from synth.compound.recipe import CompoundRecipe
from synth.compound.settings import Compound
from synth.generators.facts import COMMON
from synth.generators.generator import Draw
from synth.tumour.blend import FULL, INSIDE, lay, paste
from synth.tumour.number import numbers_of
from synth.tumour.sample import empty_sample
from synth.tumour.source import Source

SMALL = {  # tumours and parts that fit the made scans, which are 40 mm wide
    "shape": {"volume_mm3": [500, 5000]},
    "parts": {"rim_mm": [1.0, 1.5], "ring_mm": [1.5, 2.5], "border_mm": 0.5},
    "edge": {"width_mm": [1.0, 3.0], "diffuse_mm": [4.0, 8.0]},
    "foci": {"volume_mm3": [60, 300], "spread_mm": 30},
    "tissue": {"sigma_mm": [1.5, 2.5]},
}
DIGEST = "36f43cd76688428f2b7faf1c709bee59698889d1df1c4304b12b801b454c642c"
MANY = settings(max_examples=25, deadline=None)
INDEX = st.integers(0, 2**40)


def asked(**changes):
    """Return the small settings with changes, by group."""
    tree = {group: dict(values) for group, values in SMALL.items()}
    for name, value in changes.items():
        tree[name] = tree.get(name, {}) | value if isinstance(value, dict) else value
    return Compound.model_validate(tree)


PLAIN = {"parts": {"core": 0, "cavity": 0, "ring": 0}, "distractors": {"spots": 0, "caps": 0}, "empty": 0}


@pytest.fixture(scope="module")
def loaded(sources):
    return [sources.load(name) for name in sources.names]


def drawn(loaded, index, wanted, seed=5):
    normal = index % len(loaded)
    donor = (normal + 1) % len(loaded)
    recipe = COMPOUND.draw(Draw(seed, index, normal, donor), loaded[normal], loaded[donor], wanted)
    return recipe, loaded[normal], loaded[donor]


def made(loaded, index, wanted, seed=5):
    recipe, normal, donor = drawn(loaded, index, wanted, seed)
    layer = COMPOUND.make(recipe, normal, donor, wanted)
    sample = paste(normal.normal.voxels, lay(layer, normal.normal, recipe.alpha), empty_sample(normal.roi.shape[0]))
    return recipe, normal, layer, sample


def seen(recipe, normal, sample, wanted):
    """Measure, on the composite, what is seen of the first tumour's main part beside the tissue around it."""
    focus = first(recipe)
    place = place_of(focus, recipe, normal, wanted)
    inside = place.edge >= INSIDE
    if recipe.part:
        part = part_depth(focus, recipe, wanted, place.box, normal.spacing_mm)
        inside &= np.minimum(part, place.deep - recipe.rim_mm) < 0
    inside &= normal.roi[place.box]
    deep = depth_of(focus, recipe, wanted, normal)
    box, own = placed(deep.shape, focus.centre, normal.roi.shape[0])
    deep = deep[own]
    around = (deep < 0) & (deep >= -SHELL_MM) & normal.roi[box]
    if wanted.fluid is not None and (around & (sample.normal[box] >= wanted.fluid)).any():
        around &= sample.normal[box] >= wanted.fluid
    return sample.composite[place.box][inside].mean(dtype=float) - sample.normal[box][around].mean(dtype=float)


@given(INDEX)
@MANY
def test_what_is_seen_of_a_tumour_is_the_contrast_that_was_drawn(loaded, index):
    wanted = asked(empty=0, foci={"several": 0.5})
    recipe, normal, _, sample = made(loaded, index, wanted)
    contrast = seen(recipe, normal, sample, wanted)
    assert contrast == pytest.approx(recipe.contrast, abs=0.01)
    assert contrast > wanted.contrast.strength[0] - 0.01


@given(INDEX)
@MANY
def test_a_contrast_in_raw_units_is_seen_in_them_with_its_sign(loaded, index):
    wanted = asked(**PLAIN, contrast={"strength": [30, 80], "law": "uniform", "unit": "raw", "darker": 0.9}, fluid=None)
    recipe, normal, _, sample = made(loaded, index, wanted)
    raw = seen(recipe, normal, sample, wanted) * normal.statistics.std
    assert raw == pytest.approx(-recipe.contrast if recipe.darker else recipe.contrast, abs=1.0)


def test_a_ct_shows_of_a_contrast_what_its_window_lets_through(loaded):
    """The made scan's tissue fills its window, so that a cut is unavoidable; no composite ever leaves the window."""
    wanted = asked(**PLAIN, contrast={"strength": [1.5, 1.5], "darker": 1.0}, fluid=None)
    narrow = loaded[0].statistics
    window = Statistics(narrow.mean, narrow.std, narrow.mean - narrow.std, narrow.mean + 3 * narrow.std)
    normal = dataclasses.replace(loaded[0], statistics=window)
    recipe = COMPOUND.draw(Draw(1, 0, 0, 1), normal, loaded[1], wanted)
    layer = COMPOUND.make(recipe, normal, loaded[1], wanted)
    tumour = lay(layer, normal.normal, recipe.alpha)
    inside = tumour.mask > 0
    assert tumour.composite[inside].min() >= -1.001
    assert np.median(tumour.composite[inside]) < np.median(normal.normal.voxels[tumour.box][inside]) - 0.3


def test_the_grain_inside_a_tumour_is_the_normals_own(loaded):
    """Independent noise laid over noise is quieter: at alpha 0.6 and full weight by 0.72."""
    rng = np.random.default_rng(1)

    def noisy(source):
        tissue = rng.normal(source.statistics.mean, source.statistics.std, source.roi.shape).astype(np.float32)
        return dataclasses.replace(source, intensity=np.where(source.foreground, tissue, np.float32(0)), lent=tissue)

    normal, donor = noisy(loaded[0]), noisy(loaded[1])
    wanted = asked(**PLAIN, shape={"volume_mm3": [5000, 5000]}, alpha=[0.6, 0.6], tissue={"own": 0})
    sigma = [wanted.tissue.grain_mm / side for side in normal.spacing_mm]
    for index in range(4):
        recipe = COMPOUND.draw(Draw(2, index, 0, 1), normal, donor, wanted)
        layer = COMPOUND.make(recipe, normal, donor, wanted)
        tumour = lay(layer, normal.normal, recipe.alpha)
        own, composite = normal.normal.voxels.astype(np.float64), normal.normal.voxels.astype(np.float64)
        composite[tumour.box] = tumour.composite
        weight = np.zeros(own.shape)
        weight[layer.box][layer.form] = (layer.edge & FULL) / FULL
        inside = ndimage.binary_erosion((weight == 1) & normal.roi)
        fine = [volume - ndimage.gaussian_filter(volume, sigma) for volume in (own, composite)]
        before, after = (values[inside] for values in fine)
        assert after.std() == pytest.approx(before.std(), rel=0.1)
        assert np.corrcoef(before, after)[0, 1] > 0.9  # of independent fields averaged: 0.55


@given(INDEX)
@MANY
def test_a_composite_is_eq5_with_the_layers_weights_and_the_normal_elsewhere(loaded, index):
    recipe, normal, layer, sample = made(loaded, index, asked())
    weight, tissue = np.zeros(sample.normal.shape), np.zeros(sample.normal.shape)
    weight[layer.box][layer.form] = np.float64(np.float32(recipe.alpha)) * (layer.edge & FULL) / FULL
    tissue[layer.box][layer.form] = layer.tissue
    weight[~normal.roi] = 0
    slow = (1 - weight) * sample.normal + weight * tissue
    half_unit = np.spacing(np.abs(slow).astype(np.float16)).astype(np.float64) / 2
    assert (np.abs(sample.composite - slow) <= half_unit * 1.01 + 1e-5).all()
    np.testing.assert_array_equal(sample.composite[weight == 0], sample.normal[weight == 0])
    assert np.isfinite(layer.tissue).all()
    assert layer.form.any()


@given(INDEX)
@MANY
def test_a_mask_ends_where_half_of_the_weight_is_left(loaded, index):
    """An annotator draws the border of a soft tumour there, on its diffuse side too."""
    wanted = asked(**PLAIN, edge={"diffuse": 0.7})
    _, normal, layer, sample = made(loaded, index, wanted)
    weight = np.zeros(sample.mask.shape, int)
    weight[layer.box][layer.form] = layer.edge & FULL
    inside = sample.mask > 0
    assert inside.any()
    assert weight[inside].min() >= FULL // 2
    assert weight[~inside & normal.roi].max(initial=0) <= FULL // 2 + 1
    assert (weight[~inside] > 0).any()


def test_a_diffuse_edge_reaches_further_on_one_side_alone(loaded):
    wanted = asked(
        **PLAIN, shape={"volume_mm3": [900, 900], "one_side": 0}, edge={"diffuse": 1, "spared": 0, "diffuse_mm": [8, 8]}
    )
    recipe, normal, donor = drawn(loaded, 3, wanted)
    soft, sharp = (
        make_focus(first(one), one, normal, donor, wanted) for one in (recipe, dataclasses.replace(recipe, diffuse=0))
    )
    places = [np.argwhere(patch.edge & FULL) + [part.start for part in patch.box] for patch in (soft, sharp)]
    wide, near = ({tuple(place) for place in each.tolist()} for each in places)
    added = np.array(sorted(wide - near)) - recipe.centre
    towards = (added * normal.spacing_mm).mean(axis=0)
    assert near <= wide
    assert ((added * normal.spacing_mm) @ towards > 0).mean() > 0.95  # all on the same side


@given(INDEX)
@MANY
def test_a_part_lies_below_the_rim_and_a_cavity_is_dark(loaded, index):
    wanted = asked(**PLAIN | {"parts": {"core": 0, "cavity": 1, "ring": 0, "volume": [0.4, 0.5]}})
    recipe, normal, _, sample = made(loaded, index, wanted)
    whole = asked(**PLAIN)
    without = paste(
        normal.normal.voxels,
        lay(
            COMPOUND.make(dataclasses.replace(recipe, part=0), normal, loaded[recipe.donor], whole),
            normal.normal, recipe.alpha,
        ),
        empty_sample(normal.roi.shape[0]),
    )  # fmt: skip
    np.testing.assert_array_equal(sample.mask, without.mask)  # parts count to the tumour
    focus = first(recipe)
    place = place_of(focus, recipe, normal, wanted)
    box, deep = place.box, place.deep
    inner = np.minimum(part_depth(focus, recipe, wanted, box, normal.spacing_mm), deep - recipe.rim_mm)
    cavity = (inner > wanted.parts.border_mm) & (sample.mask[box] > 0)
    rim = (deep > 0) & (deep < recipe.rim_mm - wanted.parts.border_mm) & (sample.mask[box] > 0)
    if cavity.sum() > 20 and rim.any():
        darker = (sample.composite - without.composite)[box]  # by the cavity alone, whatever tissue lies where it is
        assert darker[cavity].mean() < darker[rim].mean()


@given(INDEX)
@MANY
def test_distractors_are_seen_and_are_in_no_mask(loaded, index):
    loud = asked(distractors={"spots": 1, "spot_mm": [2, 3]}, empty=1)
    recipe, normal, _, sample = made(loaded, index, loud)
    assert recipe.foci == 0
    assert not sample.mask.any()
    assert not sample.texture.any()
    assert (sample.composite > sample.normal + 0.3).any()
    assert not (sample.composite != sample.normal)[~normal.roi].any()
    with_tumour, quiet = (
        made(loaded, index, asked(distractors={"spots": share, "caps": share}, empty=0))[3] for share in (1, 0)
    )
    np.testing.assert_array_equal(with_tumour.mask, quiet.mask)
    np.testing.assert_array_equal(with_tumour.texture, quiet.texture)


def test_caps_lie_on_tissue_beside_fluid_deep_in_the_organ(loaded):
    source = loaded[0]
    hole = np.zeros(source.roi.shape, bool)
    hole[12:20, 13:19, 13:19] = True
    dark = np.float32(source.statistics.mean - 3 * source.statistics.std)
    roi = source.foreground.copy()
    normal = dataclasses.replace(
        source, intensity=np.where(hole, dark, np.maximum(source.intensity, source.statistics.mean)), roi=roi,
        spacing_mm=(4.0, 4.0, 4.0),
    )  # fmt: skip
    wanted = asked(empty=1, distractors={"spots": 0, "caps": 1, "cap_mm": [6, 8]})
    far = ndimage.distance_transform_edt(~hole)
    for index in range(10):
        recipe = COMPOUND.draw(Draw(4, index, 0, 1), normal, loaded[1], wanted)
        layer = COMPOUND.make(recipe, normal, loaded[1], wanted)
        changed = np.zeros(roi.shape, bool)
        tumour = lay(layer, normal.normal, recipe.alpha)
        changed[tumour.box] = tumour.composite != normal.normal.voxels[tumour.box]
        assert recipe.caps > 0
        assert changed.any()
        assert not changed[hole].any()
        assert far[changed].max() < 6


def test_a_scan_without_anything_is_its_normal(loaded):
    wanted = asked(distractors={"spots": 0, "caps": 0}, empty=1)
    for index in range(5):
        _, _, layer, sample = made(loaded, index, wanted)
        assert layer.form.any()  # one voxel at least, for those who lay it elsewhere
        np.testing.assert_array_equal(sample.composite, sample.normal)
        assert not sample.mask.any()
    assert COMPOUND.facts(wanted).empty
    assert not COMPOUND.facts(asked(empty=0)).empty


@given(INDEX)
@MANY
def test_tumours_of_a_scan_do_not_touch(loaded, index):
    wanted = asked(**PLAIN, foci={"several": 1, "most": 6, "volume_mm3": [20, 60]}, shape={"volume_mm3": [100, 300]})
    recipe, normal, donor = drawn(loaded, index, wanted)
    foci = foci_of(recipe, normal, wanted)
    covered = np.zeros(normal.roi.shape, int)
    for focus in foci:
        patch = make_focus(focus, recipe, normal, donor, wanted)
        covered[patch.box] += patch.edge > 0
    assert 2 <= recipe.foci <= 6
    assert len(foci) <= recipe.foci
    assert covered.max() == 1


def test_several_tumours_find_room(loaded):
    wanted = asked(**PLAIN, foci={"several": 1, "most": 3, "volume_mm3": [20, 60]}, shape={"volume_mm3": [100, 300]})
    found = [
        len(foci_of(recipe, normal, wanted)) for recipe, normal, _ in (drawn(loaded, i, wanted) for i in range(20))
    ]
    assert min(found) >= 1
    assert max(found) == 3


@given(INDEX)
@MANY
def test_a_tumour_that_spares_fluid_ends_at_it(loaded, index):
    """Whatever the smoothed normal shows as fluid is in no mask, unless half of the tumour would be gone."""
    wanted = asked(**PLAIN, edge={"spared": 1, "diffuse": 0}, foci={"several": 0}, shape={"one_side": 0})
    _, normal, _, sample = made(loaded, index, wanted)
    _, _, _, over = made(
        loaded, index, asked(**PLAIN, edge={"spared": 0, "diffuse": 0}, foci={"several": 0}, shape={"one_side": 0})
    )
    sigma = [wanted.tissue.grain_mm / side for side in normal.spacing_mm]
    scaled = (normal.lent - normal.statistics.mean) / normal.statistics.std
    fluid = ndimage.gaussian_filter(scaled, sigma, mode="nearest", truncate=4.0) < wanted.fluid - 1e-3
    left = ((over.mask > 0) & ~fluid).sum() / over.mask.sum()
    if left > 0.51:
        assert not (fluid & (sample.mask > 0)).any()
    assert sample.mask.sum() >= over.mask.sum() / 2


@given(INDEX)
@MANY
def test_a_tumour_of_one_side_ends_at_the_middle_plane(loaded, index):
    """Unless half of it would be gone."""
    one, both = (
        made(loaded, index, asked(**PLAIN, edge={"spared": 0}, foci={"several": 0}, shape={"one_side": share}))
        for share in (1, 0)
    )
    sides = [int(half.sum()) for half in np.split(one[3].mask, 2, axis=2)]
    before = [int(half.sum()) for half in np.split(both[3].mask, 2, axis=2)]
    own = int(one[0].centre_x >= one[3].mask.shape[2] // 2)
    if before[own] >= sum(before) / 2:
        assert sides[1 - own] == 0
        assert sides[own] == before[own]
    else:
        assert sides == before


OFF = {
    "one side": ({"shape": {"one_side": 0}}, {"one_side"}),
    "parts": ({"parts": {"core": 0, "cavity": 0, "ring": 0}}, {"part", "part_contrast"}),
    "diffuse edges": ({"edge": {"diffuse": 0}}, {"diffuse"}),
    "sparing": ({"edge": {"spared": 0}}, {"spared"}),
    "own tissue": ({"tissue": {"own": 0}}, {"own"}),
    "several foci": ({"foci": {"several": 0}}, {"foci"}),
    "spots": ({"distractors": {"spots": 0}}, {"spots"}),
    "caps": ({"distractors": {"caps": 0}}, {"caps"}),
    "scans without a tumour": ({"empty": 0}, {"foci"}),
    "contrast": ({"contrast": {"strength": [2, 2]}}, {"contrast"}),
    "alpha": ({"alpha": [1, 1]}, {"alpha"}),
}


@pytest.mark.parametrize("name", OFF)
def test_an_ingredient_switched_off_leaves_every_other_choice(loaded, name):
    change, touched = OFF[name]
    base = {"foci": {"several": 0.5}, "empty": 0.3, "parts": {"core": 0.3, "cavity": 0.3, "ring": 0.3},
            "distractors": {"caps": 0.5}}  # fmt: skip
    on = asked(**base)
    off = asked(**{**base, **{k: base.get(k, {}) | v if isinstance(v, dict) else v for k, v in change.items()}})
    differing = set()
    for index in range(30):
        before, after = (dataclasses.asdict(drawn(loaded, index, wanted)[0]) for wanted in (on, off))
        differing |= {column for column in before if before[column] != after[column]}
    assert differing
    assert differing <= touched


def test_a_sample_is_a_pure_function_of_its_recipe(loaded):
    wanted = asked(foci={"several": 0.6})
    once = [made(loaded, index, wanted)[2] for index in range(8)]
    for index in reversed(range(8)):
        recipe, normal, donor = drawn(loaded, index, wanted)
        again = COMPOUND.make(CompoundRecipe.from_row(recipe.row()), normal, donor, wanted)
        assert again.box == once[index].box
        for part in ("form", "tissue", "edge"):
            assert getattr(again, part).tobytes() == getattr(once[index], part).tobytes()


@given(INDEX, st.integers(0, 2**64 - 1))
@MANY
def test_the_numbers_of_a_recipe_keep_to_what_the_settings_say(loaded, index, seed):
    wanted = asked()
    recipe, normal, _ = drawn(loaded, index, wanted, seed)
    assert [name for name, n in numbers_of(CompoundRecipe).items() if not n.allows(getattr(recipe, name), wanted)] == []
    assert COMPOUND.check(recipe, wanted, normal.roi.shape[0]) == []
    assert normal.roi[recipe.centre]
    assert CompoundRecipe.from_row(recipe.row()) == recipe


def test_what_is_wrong_with_a_recipe_is_named(loaded):
    recipe, normal, _ = drawn(loaded, 0, asked())
    wrong = dataclasses.replace(recipe, volume_mm3=recipe.drawn_volume_mm3 * 2, rotation_w=3.0, centre_y=99)
    assert set(COMPOUND.check(wrong, asked(), normal.roi.shape[0])) == {"volume_mm3", "rotation", "centre"}


def test_a_strangers_recipe_of_the_largest_form_is_made_within_the_cube(loaded):
    wanted = asked(shape={"volume_mm3": [500, 1e7]})
    recipe, normal, donor = drawn(loaded, 1, wanted)
    recipe = dataclasses.replace(recipe, drawn_volume_mm3=1e7, volume_mm3=1e7, foci=1)
    assert COMPOUND.check(recipe, wanted, normal.roi.shape[0]) == []
    assert COMPOUND.fits(recipe, normal, donor, wanted)
    layer = COMPOUND.make(recipe, normal, donor, wanted)
    assert all(0 <= part.start < part.stop <= normal.roi.shape[0] for part in layer.box)
    assert np.isfinite(layer.tissue).all()


def test_a_recipe_has_the_columns_that_all_recipes_have():
    columns = CompoundRecipe.columns()
    assert set(COMMON) <= set(columns)
    assert columns[0] == "index"
    assert columns[-1] == "alpha"


def test_settings_take_no_more_parts_than_there_are_tumours():
    with pytest.raises(ValueError, match="must not add up to more than 1"):
        asked(parts={"core": 0.5, "cavity": 0.4, "ring": 0.2})


def test_a_layer_holds_the_mask_in_its_edge(loaded):
    for index in range(6):
        recipe, normal, layer, sample = made(loaded, index, asked(empty=0))
        mask = np.zeros(layer.form.shape, bool)
        mask[layer.form] = layer.edge >= INSIDE
        np.testing.assert_array_equal(sample.mask[layer.box] > 0, mask & normal.roi[layer.box])
        assert recipe.foci > 0
        assert mask.any()


def whole_number_source(seed):
    """Return a source of whole numbers, so that nothing before the synthesis can differ between machines."""
    z, y, x = np.meshgrid(*[np.arange(32)] * 3, indexing="ij")
    coarse = (z // 4 * 7919 + y // 4 * 104729 + x // 4 * 1299709 + seed * 15485863) % 251
    tissue = (coarse + (z * 31 + y * 57 + x * 93) % 23 + 40).astype(np.float32)
    inside = (z - 16) ** 2 + (y - 16) ** 2 + (x - 16) ** 2 < 15**2
    intensity = np.where(inside, tissue, np.float32(0))
    window = Statistics(176.0, 72.5, 50.0 if seed else None, 300.0 if seed else None)
    return Source(f"n{seed}", intensity, tissue, inside, inside, (1.5, 1.25, 1.0), 176.0, window, {})


def test_recipes_and_layers_are_what_they_were_on_every_machine_before():
    """Were this to change with the settings as they are, every recipe shared between labs would make another corpus.

    Raise the generator's version then. A default that is chosen anew changes it too, and needs no new version.
    """
    sources = [whole_number_source(seed) for seed in range(2)]
    wanted = asked(foci={"several": 0.5}, parts={"core": 0.3, "cavity": 0.3, "ring": 0.3}, distractors={"caps": 0.5})
    content = hashlib.sha256()
    for index in range(12):
        normal, donor = sources[index % 2], sources[1 - index % 2]
        recipe = COMPOUND.draw(Draw(2**63 + 5, index, index % 2, 1 - index % 2), normal, donor, wanted)
        layer = COMPOUND.make(recipe, normal, donor, wanted)
        content.update(recipe.row().tobytes() + ends_of(layer.box).tobytes())
        content.update(layer.form.tobytes() + layer.tissue.tobytes() + layer.edge.tobytes())
    assert content.hexdigest() == DIGEST
