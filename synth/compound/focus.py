"""One tumour of `compound`: its soft edge, its parts, and tissue that is seen with the contrast that was drawn."""

import functools
from dataclasses import dataclass

import numpy as np

from scans.catalog.synthesis import Elastic
from scans.image.box import Box, from_within, tight_box, within
from scans.image.normalisation import Statistics, scale
from synth.compound.depth import FAR, depth, follow, mean_around, soften
from synth.compound.draw import SHELL_MM, Focus, depth_of, edge_reach_mm, placed
from synth.compound.fill import LIMIT, fill
from synth.compound.recipe import NO_PART, RING, CompoundRecipe
from synth.compound.settings import Compound
from synth.tumour.blend import INSIDE, widen
from synth.tumour.blur import Blur, rows_of
from synth.tumour.philox import Stream
from synth.tumour.placement import elastic_control
from synth.tumour.shape import make_form, rotation_matrix
from synth.tumour.source import Source
from synth.tumour.texture import warp

Three = tuple[float, float, float]

_PART_AXIS = 0.8  # q of a part's form: never the tumour's own shape, only smaller
_OFF_CENTRE = 0.35  # of a part, at the most, in half extents of the tumour
_MOST_FOLLOW = 0.3  # of a tumour's least radius
_SPARE_MM = 4.0  # of depth, for each network unit that the tissue is brighter than fluid
_ROUNDS = 5  # in which a contrast is found that a window cuts


@dataclass(frozen=True)
class Patch:
    """Part of a layer, on a box of its own.

    Attributes
    ----------
    box : tuple of slice
        Of the cube (z, y, x).
    edge : ndarray of uint8, shape of `box`
        As in `synth.tumour.sample.Layer`; 0 where the patch has nothing.
    tissue : ndarray of float32, shape of `box`
        In the network's units.
    """

    box: Box
    edge: np.ndarray
    tissue: np.ndarray


def contrast_unit(normal: Source, settings: Compound) -> float:
    """Return one unit of the settings' contrasts in the network's units."""
    if settings.contrast.unit == "raw":
        return 1.0 / normal.statistics.std
    if normal.statistics.low is None and normal.statistics.high is None:
        return 1.0  # scaled by its own standard deviation
    return _deviation(normal)


@functools.lru_cache(maxsize=1024)
def _deviation(normal: Source) -> float:
    """Return the standard deviation of a normal's tissue, in the network's units; of every other voxel an axis."""
    thin = (slice(None, None, 2),) * 3
    inside = normal.roi[thin] if normal.roi[thin].any() else normal.roi
    values = normal.normal.voxels[thin] if inside is not normal.roi else normal.normal.voxels
    return max(Statistics.of(values[inside]).std, 1e-3)


def make_focus(focus: Focus, recipe: CompoundRecipe, normal: Source, donor: Source, settings: Compound) -> Patch:
    """Make one tumour.

    Parameters
    ----------
    focus : Focus
    recipe : CompoundRecipe
    normal, donor : Source
    settings : Compound

    Returns
    -------
    Patch
        Blended into the normal by ``alpha * weight``, its main part has the drawn contrast to the normal around it.
    """
    spacing = normal.spacing_mm
    place = place_of(focus, recipe, normal, settings)
    structure = (
        place.smooth if recipe.own else donor_structure(recipe, donor, place.box, place.edge != 0, spacing, settings)
    )
    part = np.full(place.deep.shape, FAR)
    if recipe.part != NO_PART and focus.part:
        part = part_depth(focus, recipe, settings, place.box, spacing)
    unit = contrast_unit(normal, settings)
    contrast = (-1.0 if recipe.darker else 1.0) * recipe.contrast * unit
    ring = contrast * recipe.ring_gain if recipe.part == RING else 0.0
    low, high = _window(normal.statistics)
    tissue = fill(
        place.deep, part, place.edge, normal.roi[place.box], place.own, place.smooth, structure,
        float(np.float32(recipe.alpha)), place.around, contrast, recipe.part_contrast * unit / recipe.alpha,
        ring / recipe.alpha, recipe.rim_mm, recipe.ring_mm, max(settings.parts.border_mm, 1e-3), recipe.heterogeneity,
        recipe.fade, place.radius_mm, low, high, 1 if (low, high) == (-LIMIT, LIMIT) else _ROUNDS,
    )  # fmt: skip
    return Patch(place.box, place.edge, tissue)


@dataclass(frozen=True)
class Place:
    """Where a tumour lies in its normal, and what it finds there.

    Attributes
    ----------
    box : tuple of slice
        Of the cube (z, y, x).
    deep : ndarray of float32, shape of `box`
        Depth below the surface in mm, after the tissue has moved it.
    edge : ndarray of uint8, shape of `box`
        As in `synth.tumour.sample.Layer`.
    own, smooth : ndarray of float32, shape of `box`
        The normal, and the same without its grain, in the network's units; outside the ROI what it would lend.
    around : float
        Mean of the normal's tissue around the drawn form.
    radius_mm : float
        The form's least.
    """

    box: Box
    deep: np.ndarray
    edge: np.ndarray
    own: np.ndarray
    smooth: np.ndarray
    around: float
    radius_mm: float


def place_of(focus: Focus, recipe: CompoundRecipe, normal: Source, settings: Compound) -> Place:
    """Put a form into its normal: its surface runs along the tissue, and may end at fluid and at the middle plane."""
    spacing = normal.spacing_mm
    box, deep = placed(depth_of(focus, recipe, settings, normal), focus.centre, normal.roi.shape[0])
    fluid = -LIMIT if settings.fluid is None else settings.fluid
    own = widen(normal.normal.voxels[box])
    around = mean_around(deep, normal.roi[box], own, SHELL_MM, fluid)
    form = focus.form(recipe, settings)
    radius_mm = float(form.table.min()) * min(form.half_extent_mm)
    follow_mm = min(max(recipe.follow_mm, -_MOST_FOLLOW * radius_mm), _MOST_FOLLOW * radius_mm)

    reach = edge_reach_mm(recipe) + abs(follow_mm)
    near = deep > -reach
    tight = tight_box(near)
    box, deep, own = from_within(tight, box), deep[tight], own[tight]
    roi = normal.roi[box]
    lent, smooth = _tissue(normal, box, near[tight], settings.tissue.grain_mm)
    deep = follow(deep, roi, smooth, follow_mm)
    direction = _diffuse_side(recipe)
    edge = _edge(deep, box, focus, recipe, direction, spacing, radius_mm)
    kept, limits, inside = deep, [], np.count_nonzero((edge >= INSIDE) & roi)
    if recipe.one_side:
        limits.append(_own_side(focus, box, normal))
    if recipe.spared and settings.fluid is not None:
        limits.append((smooth - np.float32(fluid)) * np.float32(_SPARE_MM))
    for limit in limits:
        ended = np.minimum(kept, limit)
        ending = _edge(ended, box, focus, recipe, direction, spacing, radius_mm)
        left = np.count_nonzero((ending >= INSIDE) & roi)
        if 2 * left >= inside:
            kept, edge, inside = ended, ending, left
    return Place(box, deep, edge, np.where(roi, own, lent), smooth, around, radius_mm)


def _own_side(focus: Focus, box: Box, normal: Source) -> np.ndarray:
    """Return how far voxels of a box lie from the cube's middle plane between left and right, on the tumour's side."""
    twice = normal.roi.shape[2] - 1  # the middle, in half voxels
    side = np.float32(normal.spacing_mm[2] / 2) * (1 if 2 * focus.centre[2] >= twice else -1)
    return (2 * np.arange(box[2].start, box[2].stop, dtype=np.float32) - np.float32(twice)) * side


def _diffuse_side(recipe: CompoundRecipe) -> np.ndarray:
    """Return a unit vector (z, y, x) uniform over the sphere: where a rotation takes an axis."""
    return rotation_matrix(Stream(recipe.seed("diffuse"), 0).rotation())[:, 0].copy()


def _edge(
    deep: np.ndarray, box: Box, focus: Focus, recipe: CompoundRecipe, direction: np.ndarray, spacing_mm: Three,
    radius_mm: float,
) -> np.ndarray:  # fmt: skip
    """Return the edge of a tumour over a box, see `synth.compound.depth.soften`; narrower if the tumour is small."""
    offset = np.array([(p.start - c) * s for p, c, s in zip(box, focus.centre, spacing_mm, strict=True)])
    sharp_mm = min(recipe.edge_mm, radius_mm)
    wide_mm = min(recipe.diffuse_mm, 2 * radius_mm) if recipe.diffuse else sharp_mm
    return soften(deep, np.array(spacing_mm), offset, direction, sharp_mm, wide_mm)


def donor_structure(
    recipe: CompoundRecipe, donor: Source, box: Box, form: np.ndarray, spacing_mm: Three, settings: Compound
) -> np.ndarray:
    """Return the donor's tissue over a box, warped and blurred, in the network's units by the donor's statistics.

    Where there is no form, it is some number.
    """
    z, y, x = (recipe.sigma_mm / side for side in spacing_mm)
    blur = Blur((z, y, x), box, donor.lent.shape[0], rows_of(form))
    elastic = Elastic(max_displacement_mm=settings.tissue.max_displacement_mm)
    control_vox = elastic_control(elastic, recipe.seed("elastic")) / np.reshape(spacing_mm, (3, 1, 1, 1))
    return scale(blur(warp(donor.lent, blur.wide, (0, 0, 0), control_vox, blur.rows)), donor.statistics)


def _tissue(normal: Source, box: Box, form: np.ndarray, sigma_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a normal's tissue over a box, and at a form the same without its grain, in the network's units."""
    z, y, x = (sigma_mm / side for side in normal.spacing_mm)
    blur = Blur((z, y, x), box, normal.lent.shape[0], rows_of(np.ascontiguousarray(form)))
    lent = scale(normal.lent[blur.wide], normal.statistics)
    return lent[within(box, blur.wide)], np.ascontiguousarray(blur(lent))


def part_depth(focus: Focus, recipe: CompoundRecipe, settings: Compound, box: Box, spacing_mm: Three) -> np.ndarray:
    """Return how deep voxels of a box lie inside the second part of a tumour."""
    stream = Stream(recipe.seed("part"), 0)
    rotation = stream.rotation()
    units = stream.units(3)
    whole = focus.form(recipe, settings)
    form = make_form(
        focus.volume_mm3 * recipe.part_volume, _PART_AXIS, rotation, recipe.octaves, settings.shape.amplitude,
        recipe.seed("noise"),
    )  # fmt: skip
    most = _OFF_CENTRE * min(whole.half_extent_mm)
    z, y, x = (
        (b.start - c) * s - (2.0 * float(u) - 1.0) * most
        for b, c, s, u in zip(box, focus.centre, spacing_mm, units, strict=True)
    )
    sides = [b.stop - b.start for b in box]
    reach = recipe.ring_mm + settings.parts.border_mm
    return depth(form, spacing_mm, (z, y, x), (sides[0], sides[1], sides[2]), reach)


def _window(statistics: Statistics) -> tuple[float, float]:
    """Return what statistics leave of intensities, in the network's units."""
    low, high = (
        limit if end is None else (end - statistics.mean) / statistics.std
        for end, limit in ((statistics.low, -LIMIT), (statistics.high, LIMIT))
    )
    return low, high
