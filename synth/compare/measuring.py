"""Measuring: what a tumour looks like, in numbers that do not ask how it was made."""

import math
from dataclasses import dataclass

import numpy as np

from scans.image.box import clip, tight_box
from scans.image.components import Parts
from synth.compare.labelled import Labelled

SHELL_MM = (2.0, 10.0)  # around the mask: beyond blurred edges, and still the same kind of tissue
STEP_MM = 2.0  # across the border
LEAST_FOCUS_ML = 0.05  # a smaller part is a splinter of another
_FEWEST = 8  # voxels whose mean and deviation say something
_FAINT = 0.25  # standard deviations: below, a share of the contrast is a share of noise


@dataclass(frozen=True)
class Measure:
    """One number of a labelled scan.

    Attributes
    ----------
    name, unit : str
    words : str
        What it is, for readers of the page.
    log : bool
        Shown on a logarithmic axis; for what is always above 0.
    """

    name: str
    unit: str
    words: str
    log: bool = False


MEASURES = {
    "volume": Measure("volume", "ml", "of all its parts together", log=True),
    "contrast": Measure(
        "visible contrast", "σ",
        f"mean inside minus mean of the tissue {SHELL_MM[0]:g} to {SHELL_MM[1]:g} mm around, in standard deviations of "
        "the region's other tissue",
    ),
    "heterogeneity": Measure("heterogeneity", "", "standard deviation inside over that of the tissue around"),
    "sharpness": Measure(
        "sharpness of the edge", "",
        f"mean step across the border, over {STEP_MM:g} mm or a voxel, as a share of what the tumour's outer "
        f"{SHELL_MM[1]:g} mm differ from the tissue around: near 1 for a hard edge, less the softer it is",
    ),
    "foci": Measure("foci", "", f"parts of {LEAST_FOCUS_ML:g} ml and more"),
    "depth": Measure("depth of the centre", "mm", "distance of the tumour's middle voxel to the region's edge"),
}  # fmt: skip


def measure(scan: Labelled) -> dict[str, float]:
    """Measure the tumours of a scan.

    Returns
    -------
    dict of str to float
        By name of :data:`MEASURES`; NaN where there is too little to measure. Of a scan without a tumour, its 0 foci
        are all there is.

    Notes
    -----
    Distances are taken in a box around the tumour, so that the cost follows the tumour and not the cube.
    """
    from scipy import ndimage

    found = dict.fromkeys(MEASURES, math.nan)
    if not scan.mask.any():
        return found | {"foci": 0.0}
    voxel_ml = math.prod(scan.spacing_mm) / 1000
    reach = [math.ceil(SHELL_MM[1] / side) + 1 for side in scan.spacing_mm]
    box = clip(tight_box(scan.mask), reach, scan.mask.shape)
    mask, roi, values = scan.mask[box], scan.roi[box], scan.voxels[box].astype(np.float32)
    outside = (
        ndimage.distance_transform_edt(~mask, sampling=scan.spacing_mm) if not mask.all() else np.zeros(mask.shape)
    )
    shell = roi & (outside > SHELL_MM[0]) & (outside <= SHELL_MM[1])
    found["volume"] = float(np.count_nonzero(mask)) * voxel_ml
    found["foci"] = float(np.count_nonzero(Parts.of(mask).sizes * voxel_ml >= LEAST_FOCUS_ML))
    found["depth"] = _depth(scan)
    if min(np.count_nonzero(shell), np.count_nonzero(mask)) < _FEWEST:
        return found
    tissue = float(scan.voxels[scan.roi & ~scan.mask].std(dtype=np.float64))
    inside, around = values[mask], values[shell]
    level, noise = float(around.mean(dtype=np.float64)), float(around.std(dtype=np.float64))
    if tissue > 0:
        found["contrast"] = (float(inside.mean(dtype=np.float64)) - level) / tissue
    if noise > 0:
        found["heterogeneity"] = float(inside.std(dtype=np.float64)) / noise
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=scan.spacing_mm)[1:-1, 1:-1, 1:-1]
    rim = mask & (depth <= SHELL_MM[1])
    core = rim & (depth > SHELL_MM[0])  # clear of a blurred edge, where there is so much
    difference = float(values[core if core.any() else rim].mean(dtype=np.float64)) - level
    if abs(difference) >= max(_FAINT * tissue, 1e-6):
        found["sharpness"] = _step(values, mask, roi, depth, outside, scan.spacing_mm) / difference
    return found


def _depth(scan: Labelled) -> float:
    """Return the distance in mm from the mask's voxel nearest to its centroid to the ROI's edge.

    Holes of the ROI, lesions of a normal, are no edge. A voxel beside the edge is its own side away from it.
    """
    from scipy import ndimage

    places = np.argwhere(scan.mask)
    away = (places - places.mean(axis=0)) * scan.spacing_mm
    z, y, x = places[int((away**2).sum(axis=1).argmin())]
    inside = np.pad(scan.roi, 1)
    labels, _ = ndimage.label(~inside)
    edge = np.argwhere((labels == labels[0, 0, 0]) & ndimage.binary_dilation(inside)) - 1
    return float(np.sqrt((((edge - (z, y, x)) * scan.spacing_mm) ** 2).sum(axis=1)).min())


def _step(
    values: np.ndarray,
    mask: np.ndarray,
    roi: np.ndarray,
    inside: np.ndarray,
    outside: np.ndarray,
    spacing_mm: tuple[float, float, float],
) -> float:
    """Return the mean of inside minus outside across the border, along its normal; NaN if it is the ROI's all over.

    `inside` and `outside` hold each voxel's distance in mm to the nearest of the other kind, 0 for those.
    """
    from scipy import ndimage

    signed = ndimage.gaussian_filter(inside - outside, 1.0)  # distances to voxels make steps of their own
    inward = [np.gradient(signed, side, axis=axis) for axis, side in enumerate(spacing_mm)]
    border = np.argwhere(mask & ~ndimage.binary_erosion(mask, border_value=1))
    at = tuple(border.T)
    normal = np.stack([part[at] for part in inward])
    length = np.sqrt((normal**2).sum(axis=0))
    normal = normal / np.where(length > 0, length, 1)
    half = max(STEP_MM, *spacing_mm) / 2
    sides = np.reshape(spacing_mm, (3, 1))
    surface = border.T * sides - normal * inside[at] / 2  # half way to the nearest voxel outside
    inner, outer = (surface + normal * half) / sides, (surface - normal * half) / sides
    size = np.reshape(values.shape, (3, 1))
    there = (length > 0) & (outer >= 0).all(axis=0) & (outer <= size - 1).all(axis=0)
    there &= ndimage.map_coordinates(roi.astype(np.float32), outer, order=1, mode="nearest") > 0.999
    if not there.any():
        return math.nan
    above, below = (ndimage.map_coordinates(values, part[:, there], order=1, mode="nearest") for part in (inner, outer))
    return float((above.astype(np.float64) - below).mean())
