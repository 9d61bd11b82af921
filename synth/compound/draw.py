"""Draw a recipe of `compound`, and say where its tumours lie.

All choices are drawn whatever is switched off, each ingredient from its own stream.
"""

import functools
import math
from dataclasses import dataclass, replace

import numpy as np

from scans.image.box import Box, box_of, overlap
from synth.compound.depth import depth
from synth.compound.edge import near_rows
from synth.compound.recipe import CAVITY, CORE, NO_PART, RING, CompoundRecipe
from synth.compound.settings import Compound
from synth.generators.generator import Draw
from synth.tumour.philox import Stream
from synth.tumour.placement import Placement, VoxelForm
from synth.tumour.recipe import halves
from synth.tumour.shape import Form, half_box, make_form
from synth.tumour.source import Source

Three = tuple[float, float, float]

SHELL_MM = 6.0  # thickness of what counts as the tissue around a tumour
# Streams; never renumber, samples would change.
_SHAPE, _PLACE, _CONTRAST, _PARTS, _EDGE, _TISSUE, _FOCI, _DISTRACTORS, _EMPTY, _BLEND = range(8, 18)
_SHRINK = 0.7  # of the volume, each time no centre fits
_MOST_EXTENT = 1.0  # of a form from its centre, in sides of the cube: no centre keeps enough of a larger one
_FOCUS_TRIES = 60  # places of a further tumour; then the scan has one less
_INNER = 0.6  # of a further tumour's radius: so far along each axis it lies in the ROI


@dataclass(frozen=True)
class Focus:
    """One tumour: where it lies, and its form.

    Attributes
    ----------
    centre : tuple of int
        Voxel (z, y, x).
    volume_mm3, axis_ratio : float
    rotation : tuple of float
        Unit quaternion (w, x, y, z).
    part : bool
        Whether it may have a second part.
    """

    centre: tuple[int, int, int]
    volume_mm3: float
    axis_ratio: float
    rotation: tuple[float, float, float, float]
    part: bool = False

    def form(self, recipe: CompoundRecipe, settings: Compound) -> Form:
        """Return its form, on the surface that all tumours of a scan share."""
        return make_form(
            self.volume_mm3, self.axis_ratio, self.rotation, recipe.octaves, settings.shape.amplitude,
            recipe.seed("noise"),
        )  # fmt: skip


def draw_recipe(draw: Draw, normal: Source, settings: Compound) -> CompoundRecipe:
    """Draw a sample: a pure function of its arguments."""
    shape, parts, edge = settings.shape, settings.parts, settings.edge
    stream = draw.stream(_SHAPE)
    law = stream.log_uniform if shape.volume_law == "log-uniform" else stream.uniform
    volume, axis_ratio = law(*shape.volume_mm3), stream.uniform(*shape.axis_ratio)
    octaves = shape.octaves[0] + stream.below(shape.octaves[1] - shape.octaves[0] + 1)
    noise, rotation = stream.word(63), stream.rotation()
    one_side = stream.unit() < shape.one_side

    stream = draw.stream(_CONTRAST)
    law = stream.log_uniform if settings.contrast.law == "log-uniform" else stream.uniform
    contrast, darker = law(*settings.contrast.strength), stream.unit() < settings.contrast.darker

    stream = draw.stream(_PARTS)
    part = _part_of(stream.unit(), settings)
    levels = [stream.uniform(*law) for law in (parts.core_contrast, parts.cavity_contrast, parts.necrosis_contrast)]
    part_volume, rim_mm = stream.log_uniform(*parts.volume), stream.uniform(*parts.rim_mm)
    ring_mm, ring_gain = stream.uniform(*parts.ring_mm), stream.uniform(*parts.ring_gain)
    part_seed = stream.word()

    stream = draw.stream(_EDGE)
    edge_mm, diffuse = stream.uniform(*edge.width_mm), stream.unit() < edge.diffuse
    diffuse_mm, diffuse_seed = stream.uniform(*edge.diffuse_mm), stream.word()
    spared, follow_mm = stream.unit() < edge.spared, stream.uniform(*edge.follow_mm)

    stream = draw.stream(_TISSUE)
    own, heterogeneity = stream.unit() < settings.tissue.own, stream.uniform(*settings.tissue.heterogeneity)
    sigma_mm, elastic_seed = stream.uniform(*settings.tissue.sigma_mm), stream.word()
    fade = stream.uniform(*settings.tissue.fade)

    stream = draw.stream(_FOCI)
    several, further = stream.unit() < settings.foci.several, stream.unit()
    foci = 1 + (1 + int(further * (settings.foci.most - 1)) if several and settings.foci.most > 1 else 0)
    foci_seed = stream.word()
    empty = draw.stream(_EMPTY).unit() < settings.empty

    stream, asked = draw.stream(_DISTRACTORS), settings.distractors
    spots = (stream.unit() < asked.spots) * (1 + int(stream.unit() * asked.most_spots))
    caps = (stream.unit() < asked.caps) * (1 + int(stream.unit() * asked.most_caps))
    distractor_seed = stream.word()
    alpha = draw.stream(_BLEND).uniform(*settings.alpha)

    recipe = CompoundRecipe(
        draw.index, draw.normal, draw.donor, 0, 0, 0, volume, volume, axis_ratio, *rotation, int(one_side),
        octaves, *halves(noise), 0, 0.0, 0 if empty else foci, *halves(foci_seed), contrast, int(darker),
        part, part_volume, levels[max(part, CORE) - CORE], rim_mm, ring_mm, ring_gain, *halves(part_seed),
        edge_mm, int(diffuse), diffuse_mm, *halves(diffuse_seed), int(spared), follow_mm,
        int(own), heterogeneity, fade, sigma_mm, *halves(elastic_seed), spots, caps, *halves(distractor_seed), alpha,
    )  # fmt: skip
    return _put(recipe, draw.stream(_PLACE), normal, settings)


def _part_of(unit: float, settings: Compound) -> int:
    """Return the kind of a second part."""
    for kind, share in ((CORE, settings.parts.core), (CAVITY, settings.parts.cavity), (RING, settings.parts.ring)):
        if unit < share:
            return kind
        unit -= share
    return NO_PART


def _put(recipe: CompoundRecipe, places: Stream, normal: Source, settings: Compound) -> CompoundRecipe:
    """Find a centre where the ROI leaves enough of the first tumour; else make it smaller."""
    tries, size = 0, normal.roi.shape[0]
    while True:
        focus = first(recipe)
        extent = focus.form(recipe, settings).half_extent_mm
        if all(e <= _MOST_EXTENT * size * side for e, side in zip(extent, normal.spacing_mm, strict=True)):
            deep = depth_of(focus, recipe, settings, normal)
            tried, found = _form(deep, normal).find(places, normal.centres, settings.centre_tries, settings.least_kept)
            tries += tried
            if found:
                (z, y, x), kept = found
                return replace(recipe, centre_z=z, centre_y=y, centre_x=x, tries=tries, kept=kept)
        # Ends at the latest with a form of one voxel, its centre, which fits any.
        recipe = replace(recipe, volume_mm3=recipe.volume_mm3 * _SHRINK)


def _form(deep: np.ndarray, normal: Source) -> Placement:
    """Return the voxels inside a surface, to be tried at many centres."""
    _, ends = near_rows(deep, (0, 0, 0), deep.shape, 0.0)
    tight = box_of(ends)
    inside = deep[tight] >= 0
    z, y, x = (part.start - n // 2 for part, n in zip(tight, deep.shape, strict=True))
    whole = VoxelForm(None, inside.view(np.uint8), (z, y, x), int(np.count_nonzero(inside)))
    return Placement(whole, normal.roi, normal.spacing_mm)


def reach_mm(recipe: CompoundRecipe) -> float:
    """Return how far outside a form anything is asked: its edge, and the tissue around it."""
    return max(SHELL_MM, edge_reach_mm(recipe) + abs(recipe.follow_mm))


def edge_reach_mm(recipe: CompoundRecipe) -> float:
    """Return how far outside a surface its soft edge reaches."""
    return max(recipe.edge_mm, recipe.diffuse * recipe.diffuse_mm) / 2


def depth_of(focus: Focus, recipe: CompoundRecipe, settings: Compound, normal: Source) -> np.ndarray:
    """Return how deep voxels lie inside a tumour, in a box around its centre voxel, see `synth.compound.depth.depth`.

    No side of the box reaches further than a cube could show. Drawing a place asks for the same as making the tumour
    afterwards, so the last few answers are kept.
    """
    return _depth_of(
        focus.volume_mm3, focus.axis_ratio, focus.rotation, recipe.octaves, settings.shape.amplitude,
        recipe.seed("noise"), normal.spacing_mm, normal.roi.shape[0], reach_mm(recipe),
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _depth_of(
    volume_mm3: float, axis_ratio: float, rotation: tuple[float, float, float, float], octaves: int, amplitude: float,
    noise_seed: int, spacing_mm: Three, size: int, reach: float,
) -> np.ndarray:  # fmt: skip
    form = make_form(volume_mm3, axis_ratio, rotation, octaves, amplitude, noise_seed)
    half = [min(voxels, size - 1) for voxels in half_box(form, spacing_mm, reach)]
    offset = (-half[0] * spacing_mm[0], -half[1] * spacing_mm[1], -half[2] * spacing_mm[2])
    found = depth(form, spacing_mm, offset, (2 * half[0] + 1, 2 * half[1] + 1, 2 * half[2] + 1), reach)
    found.flags.writeable = False  # shared by all who ask
    return found


def placed(shape: tuple[int, ...], centre: tuple[int, int, int], size: int) -> tuple[Box, Box]:
    """Put a box of depths around a centre voxel: the part of the cube that it fills, and the part of it that does."""
    boxes = overlap(shape, [c - n // 2 for c, n in zip(centre, shape, strict=True)], size)
    assert boxes is not None  # the centre lies in the cube
    return boxes


def first(recipe: CompoundRecipe) -> Focus:
    """Return the first tumour of a scan."""
    return Focus(recipe.centre, recipe.volume_mm3, recipe.axis_ratio, recipe.rotation, part=True)


def foci_of(recipe: CompoundRecipe, normal: Source, settings: Compound) -> list[Focus]:
    """Return all tumours of a scan: none, one, or several that do not touch; places are found anew, from their seed.

    A further tumour is put where its centre and six points around it lie in the ROI; after `_FOCUS_TRIES` places it is
    left out.
    """
    if recipe.foci == 0:
        return []
    found = [first(recipe)]
    reaches = [_extent(found[0], recipe, settings)]
    for number in range(1, recipe.foci):
        stream = Stream(recipe.seed("foci"), number)
        volume = stream.log_uniform(*settings.foci.volume_mm3)
        axis_ratio, rotation = stream.uniform(*settings.shape.axis_ratio), stream.rotation()
        focus = Focus((0, 0, 0), min(volume, recipe.volume_mm3), axis_ratio, rotation)
        reach = _extent(focus, recipe, settings)
        for _ in range(_FOCUS_TRIES):
            centre = _near(recipe.centre, stream.units(3), settings.foci.spread_mm, normal)
            apart = (
                _square_mm(centre, other.centre, normal) > (reach + its) ** 2
                for other, its in zip(found, reaches, strict=True)
            )
            if _in_roi(centre, _INNER * _radius(focus.volume_mm3), normal) and all(apart):
                found.append(replace(focus, centre=centre))
                reaches.append(reach)
                break
    return found


def _extent(focus: Focus, recipe: CompoundRecipe, settings: Compound) -> float:
    """Return how far from its centre, in mm, a tumour with its edge reaches."""
    edges = reach_mm(recipe) / 2
    return max(focus.form(recipe, settings).half_extent_mm) + edges


def _radius(volume_mm3: float) -> float:
    """Return the radius in mm of a ball; nine digits hide the cube root's last bit, which differs between machines."""
    return float(f"{(3.0 * volume_mm3 / (4.0 * math.pi)) ** (1.0 / 3.0):.9g}")


def _square_mm(one: tuple[int, int, int], other: tuple[int, int, int], normal: Source) -> float:
    """Return the square of the distance between two voxels, in mm2."""
    z, y, x = ((a - b) * side for a, b, side in zip(one, other, normal.spacing_mm, strict=True))
    return z * z + y * y + x * x


def _near(middle: tuple[int, int, int], units: np.ndarray, spread_mm: float, normal: Source) -> tuple[int, int, int]:
    """Return a voxel of the cube, uniform over those so near to another along each axis."""
    found = []
    for c, unit, side in zip(middle, units.tolist(), normal.spacing_mm, strict=True):
        most = int(spread_mm / side)
        low, high = max(0, c - most), min(normal.roi.shape[0] - 1, c + most)
        found.append(low + min(int(unit * (high - low + 1)), high - low))
    return found[0], found[1], found[2]


def _in_roi(centre: tuple[int, int, int], radius_mm: float, normal: Source) -> bool:
    """Say whether a voxel and six around it, so far away, lie in the ROI."""
    size = normal.roi.shape[0]
    for axis, side in enumerate(normal.spacing_mm):
        steps = round(radius_mm / side)
        for step in (-steps, 0, steps):
            at = list(centre)
            at[axis] += step
            if not 0 <= at[axis] < size or not normal.roi[at[0], at[1], at[2]]:
                return False
    return True
