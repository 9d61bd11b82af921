"""One tumour of `compound`: its soft edge, its parts, and tissue that is seen with the contrast that was drawn."""

import functools
import math
from dataclasses import dataclass

import numpy as np

from scans.catalog.synthesis import Elastic
from scans.image.box import Box, box_of, corner_of, from_within, sides_of
from scans.image.normalisation import Statistics, scale
from synth.compound.depth import FAR, depth
from synth.compound.draw import SHELL_MM, Focus, depth_of, edge_reach_mm, placed
from synth.compound.edge import mean_around, near_rows, settle, soften
from synth.compound.fill import LIMIT, fill, rows_in
from synth.compound.recipe import NO_PART, RING, CompoundRecipe
from synth.compound.settings import Compound
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
        0 where the patch has nothing, elsewhere as `edges`.
    edges : ndarray of uint8, shape (n,)
        At the n voxels where it has something, in C order, as in `synth.tumour.sample.Layer`.
    tissue : ndarray of float32, shape (n,)
        There too, in the network's units.
    """

    box: Box
    edge: np.ndarray
    edges: np.ndarray
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
    structure = place.smooth if recipe.own else donor_structure(recipe, donor, place.box, place.rows, spacing, settings)
    has_part = recipe.part != NO_PART and focus.part
    part = part_depth(focus, recipe, settings, place.box, spacing) if has_part else None
    found = rows_in(place.edge, place.rows, corner_of(place.box), normal, place.deep, place.smooth, structure, part)
    unit = contrast_unit(normal, settings)
    contrast = (-1.0 if recipe.darker else 1.0) * recipe.contrast * unit
    ring = contrast * recipe.ring_gain if recipe.part == RING else 0.0
    low, high = _window(normal.statistics)
    edges, tissue = fill(
        found.edge, found.inside, found.deep, found.part, found.own, found.smooth,
        found.structure if recipe.own else scale(found.structure, donor.statistics),
        float(np.float32(recipe.alpha)), place.around, contrast, recipe.part_contrast * unit / recipe.alpha,
        ring / recipe.alpha, recipe.rim_mm, recipe.ring_mm, max(settings.parts.border_mm, 1e-3), recipe.heterogeneity,
        recipe.fade, place.radius_mm, low, high, 1 if (low, high) == (-LIMIT, LIMIT) else _ROUNDS,
    )  # fmt: skip
    return Patch(place.box, place.edge, edges, tissue)


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
    rows : ndarray of int32, shape (z, y, 2)
        The part of each row that holds its voxels.
    smooth : ndarray of float32, shape of `box`
        What the normal would lend, without its grain, in the network's units; near the tumour.
    around : float
        Mean of the normal's tissue around the drawn form.
    radius_mm : float
        The form's least.
    """

    box: Box
    deep: np.ndarray
    edge: np.ndarray
    rows: np.ndarray
    smooth: np.ndarray
    around: float
    radius_mm: float


def place_of(focus: Focus, recipe: CompoundRecipe, normal: Source, settings: Compound) -> Place:
    """Put a form into its normal: its surface runs along the tissue, and may end at fluid and at the middle plane."""
    whole, size = depth_of(focus, recipe, settings, normal), normal.roi.shape[0]
    form = focus.form(recipe, settings)
    radius_mm = float(form.table.min()) * min(form.half_extent_mm)
    follow_mm = min(max(recipe.follow_mm, -_MOST_FOLLOW * radius_mm), _MOST_FOLLOW * radius_mm)
    reach = edge_reach_mm(recipe) + abs(follow_mm)

    box, own = placed(whole.shape, focus.centre, size)
    rows, ends = near_rows(whole, corner_of(own), sides_of(box), -max(SHELL_MM, reach))
    halves, fluid = normal.normal.voxels.view(np.int16), -LIMIT if settings.fluid is None else settings.fluid
    around = mean_around(whole, corner_of(own), rows, normal.roi, halves, corner_of(box), SHELL_MM, fluid)
    if reach < SHELL_MM:
        rows, ends = near_rows(whole, corner_of(own), sides_of(box), -reach)
    tight = box_of(ends)
    rows = rows[tight[:2]] - np.int32(tight[2].start)
    box, own = from_within(tight, box), from_within(tight, own)
    smooth = _smooth(normal, box, rows, settings.tissue.grain_mm)
    spared = bool(recipe.spared) and settings.fluid is not None
    deep = np.full(smooth.shape, FAR)
    ended = settle(
        whole, corner_of(own), rows, normal.roi, corner_of(box), smooth, follow_mm,
        _own_side(focus, box, normal) if recipe.one_side else np.full(smooth.shape[2], np.inf, np.float32),
        fluid if spared else -math.inf, _SPARE_MM, deep,
    )  # fmt: skip
    edge = _edge(ended, rows, box, focus, recipe, normal.spacing_mm, radius_mm)
    return Place(box, deep, edge, rows_of(edge != 0), smooth, around, radius_mm)


def _own_side(focus: Focus, box: Box, normal: Source) -> np.ndarray:
    """Return how far voxels of a box lie from the cube's middle plane between left and right, on the tumour's side."""
    twice = normal.roi.shape[2] - 1  # the middle, in half voxels
    side = np.float32(normal.spacing_mm[2] / 2) * (1 if 2 * focus.centre[2] >= twice else -1)
    return (2 * np.arange(box[2].start, box[2].stop, dtype=np.float32) - np.float32(twice)) * side


def _diffuse_side(recipe: CompoundRecipe) -> np.ndarray:
    """Return a unit vector (z, y, x) uniform over the sphere: where a rotation takes an axis."""
    return rotation_matrix(Stream(recipe.seed("diffuse"), 0).rotation())[:, 0].copy()


def _edge(
    deep: np.ndarray, rows: np.ndarray, box: Box, focus: Focus, recipe: CompoundRecipe, spacing_mm: Three,
    radius_mm: float,
) -> np.ndarray:  # fmt: skip
    """Return the edge of a tumour over a box, see `synth.compound.edge.soften`; narrower if the tumour is small."""
    offset = np.array([(p.start - c) * s for p, c, s in zip(box, focus.centre, spacing_mm, strict=True)])
    sharp_mm = min(recipe.edge_mm, radius_mm)
    wide_mm = min(recipe.diffuse_mm, 2 * radius_mm) if recipe.diffuse else sharp_mm
    direction = _diffuse_side(recipe) if recipe.diffuse else np.zeros(3)
    return soften(deep, rows, np.array(spacing_mm), offset, direction, sharp_mm, wide_mm)


def donor_structure(
    recipe: CompoundRecipe, donor: Source, box: Box, rows: np.ndarray, spacing_mm: Three, settings: Compound
) -> np.ndarray:
    """Return the donor's tissue over a box, warped and blurred: raw, and some number where `rows` want none."""
    z, y, x = (recipe.sigma_mm / side for side in spacing_mm)
    blur = Blur((z, y, x), box, donor.lent.shape[0], rows)
    elastic = Elastic(max_displacement_mm=settings.tissue.max_displacement_mm)
    control_vox = elastic_control(elastic, recipe.seed("elastic")) / np.reshape(spacing_mm, (3, 1, 1, 1))
    return blur(warp(donor.lent, blur.wide, (0, 0, 0), control_vox, blur.rows))


def _smooth(normal: Source, box: Box, rows: np.ndarray, sigma_mm: float) -> np.ndarray:
    """Return what a normal would lend over a box, without its grain, in the network's units; see `donor_structure`."""
    z, y, x = (sigma_mm / side for side in normal.spacing_mm)
    blur = Blur((z, y, x), box, normal.lent.shape[0], rows)
    return blur(scale(normal.lent[blur.wide], normal.statistics))


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
