"""Distractors of `compound`: bright spots and caps of ventricles, laid into a scan and labelled background."""

import functools
import math

import numpy as np

from scans.image.box import clip
from synth.compound.draw import Three
from synth.compound.focus import Patch, contrast_unit
from synth.compound.recipe import CompoundRecipe
from synth.compound.settings import Compound
from synth.tumour.blend import FULL, widen
from synth.tumour.philox import Stream
from synth.tumour.source import Source

_SPOT, _CAP = range(2)  # streams; never renumber, samples would change
_GRID = 64  # ventricles are looked for on every so manieth voxel that a cube has about this side
_DEEP_MM = 20.0  # of a ventricle below the organ's edge: a sulcus is nearer
_GATE = 0.7  # network units above fluid, over which a cap gains its strength: fluid stays dark


def distractors(recipe: CompoundRecipe, normal: Source, settings: Compound) -> list[Patch]:
    """Make the spots and caps of a scan.

    Returns
    -------
    list of Patch
        No voxel of theirs is in a mask. Where a scan shows no ventricle, there is no cap.
    """
    asked, seed = settings.distractors, recipe.seed("distractor")
    unit = contrast_unit(normal, settings) / recipe.alpha
    patches = []
    for number in range(recipe.spots):
        stream = Stream(seed, number, _SPOT)
        centre = normal.centres[stream.below(len(normal.centres))]
        radii, contrast = _radii(stream, asked.spot_mm), stream.uniform(*asked.spot_contrast)
        patches.append(_blob(normal, centre, radii, contrast * unit))
    fluid = settings.fluid
    horns = np.empty((0, 3), int) if fluid is None or not recipe.caps else _horns(normal, fluid)
    for number in range(recipe.caps if len(horns) else 0):
        stream = Stream(seed, number, _CAP)
        z, y, x = horns[stream.below(len(horns))].tolist()
        radii, contrast = _radii(stream, asked.cap_mm), stream.uniform(*asked.cap_contrast)
        patches.append(_blob(normal, (z, y, x), radii, contrast * unit, fluid))
    return [patch for patch in patches if len(patch.edges)]


def _radii(stream: Stream, interval: tuple[float, float]) -> Three:
    """Draw the half axes (z, y, x) of a blob in mm."""
    radius = stream.log_uniform(*interval)
    z, y, x = (radius * stream.uniform(0.7, 1.3) for _ in range(3))
    return z, y, x


def _blob(
    normal: Source, centre: tuple[int, int, int], radii_mm: Three, level: float, fluid: float | None = None
) -> Patch:
    """Brighten the normal around a voxel, most in the middle; given what fluid is, where there is none."""
    z, y, x = (slice(c, c + 1) for c in centre)
    half = [math.ceil(radius / side) for radius, side in zip(radii_mm, normal.spacing_mm, strict=True)]
    box = clip((z, y, x), half, normal.roi.shape[0])
    offsets = (
        (np.arange(part.start, part.stop) - c) * (side / radius)
        for part, c, side, radius in zip(box, centre, normal.spacing_mm, radii_mm, strict=True)
    )
    a, b, c = np.ix_(*offsets)
    inner = np.maximum(1.0 - (a * a + b * b + c * c), 0.0)
    weight = inner * inner
    own = widen(normal.normal.voxels[box])
    if fluid is not None:
        tissue = np.clip((own.astype(np.float64) - fluid) / _GATE, 0.0, 1.0)
        weight = weight * tissue
    edge = np.rint(weight * FULL).astype(np.uint8) * normal.roi[box]
    form = edge != 0
    return Patch(box, edge, edge[form], own[form] + np.float32(level))


@functools.lru_cache(maxsize=1024)
def _horns(normal: Source, fluid: float) -> np.ndarray:
    """Return voxels of tissue beside fluid deep in the organ, int, shape (n, 3); of a ventricle, or a wide fissure."""
    stride = max(1, normal.roi.shape[0] // _GRID)
    thin = (slice(None, None, stride),) * 3
    dark = (normal.normal.voxels[thin] < fluid) & normal.roi[thin]
    core = _all_around(dark, (1, 1, 1))
    far = [max(1, round(_DEEP_MM / (side * stride))) for side in normal.spacing_mm]
    core &= _all_around(normal.foreground[thin], (far[0], far[1], far[2]))
    near = ~_all_around(~core, (2, 2, 2))
    return np.argwhere(near & ~dark & normal.roi[thin]) * stride


def _all_around(voxels: np.ndarray, steps: tuple[int, int, int]) -> np.ndarray:
    """Say of which voxels those so many steps (z, y, x) away on all six sides are set, as they are themselves."""
    found = voxels.copy()
    for axis, far in enumerate(steps):
        moved, own = np.moveaxis(found, axis, 0), np.moveaxis(voxels, axis, 0)
        moved[far:] &= own[:-far]
        moved[:-far] &= own[far:]
    return found
