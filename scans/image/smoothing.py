"""Smoothing of a scan by a Gaussian: within its region of interest, or before a coarser grid looks at it."""

from collections.abc import Sequence

import numpy as np

from scans.image.box import clip, tight_box

_TRUNCATE = 4.0  # standard deviations that the Gaussian reaches
_BLOCK = 2**15  # voxels of a plane that are added at once: few calls, and all that they add stays in a core's cache


def smooth(
    intensity: np.ndarray, roi: np.ndarray, sigma_mm: float, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Return the Gaussian mean of a volume over the voxels of its ROI alone.

    Parameters
    ----------
    intensity : ndarray, shape (z, y, x)
    roi : ndarray of bool, same shape
    sigma_mm : float
        0: nothing is smoothed.
    spacing_mm : tuple of float
        (z, y, x).

    Returns
    -------
    ndarray of float32, same shape
        0 outside the ROI.
    """
    if not sigma_mm:
        return np.where(roi, intensity, 0).astype(np.float32)
    from scipy import ndimage  # 0.1 s, which a training that is resumed does not need

    smoothed = np.zeros(roi.shape, np.float32)
    if not roi.any():
        return smoothed
    sigma = [sigma_mm / s for s in spacing_mm]
    reach = [int(_TRUNCATE * each + 1) for each in sigma]
    box = clip(tight_box(roi), reach, roi.shape)  # all that a voxel of the ROI takes part of
    inside = roi[box]
    total = ndimage.gaussian_filter(np.where(inside, intensity[box], 0).astype(np.float32), sigma, truncate=_TRUNCATE)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, truncate=_TRUNCATE)
    smoothed[box] = np.where(inside, total / np.maximum(weight, 1e-6), 0)
    return smoothed


def reach_voxels(sigma: np.ndarray) -> np.ndarray:
    """Return how far a Gaussian of standard deviations `sigma` reaches, all in voxels."""
    return np.ceil(_TRUNCATE * sigma)


def smoothed(array: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return an array (z, y, x) of float32 smoothed by a Gaussian.

    Parameters
    ----------
    array : ndarray of float32, shape (z, y, x)
    sigma : ndarray, shape (3,)
        Standard deviations along (z, y, x) in voxels; along an axis of 0 nothing is done.
    """
    from scipy import ndimage

    for axis, deviation in enumerate(sigma):
        if deviation:
            array = ndimage.gaussian_filter1d(array, deviation, axis, mode="nearest", truncate=_TRUNCATE)
    return array


def smoothed_at(array: np.ndarray, sigma: np.ndarray, wanted: Sequence[np.ndarray]) -> np.ndarray:
    """Return what `smoothed` does, to the bit, in some planes and rows alone.

    Parameters
    ----------
    array : ndarray of float32, or of bool or uint8, shape (z, y, x)
        Fastest where much of it is 0, as an organ is around which everything is.
    sigma : ndarray, shape (3,)
        As of `smoothed`.
    wanted : sequence of ndarray
        Indices along z and along y, ascending.

    Returns
    -------
    ndarray of float32, shape (wanted z, wanted y, x)
    """
    filled = np.logical_or.reduce(array.view(f"u{array.itemsize}"), axis=2)  # by its bytes: of -0 SciPy makes no 0
    for deviation, places in zip(sigma[:2], wanted, strict=True):
        array, filled = _along_first(array, deviation, places, filled)
    return smoothed(array, np.array([0, 0, sigma[2]]))  # of rows along x, where they are whole, less is not faster


def _along_first(
    array: np.ndarray, deviation: float, places: np.ndarray, filled: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth an array along its first axis, at some places of it: SciPy's Gaussian, to the bit, from plane to plane.

    SciPy takes the middle, then adds the pairs beside it, the outermost first, in float64 and voxel by voxel at every
    place. Here whole planes are added in this order, where something is to add: half of a brain's box is empty.

    Parameters
    ----------
    array : ndarray, shape (n, k, x)
    deviation : float
        In voxels.
    places : ndarray of int
        Along the first axis.
    filled : ndarray of bool, shape (n, k)
        Which rows along x have anything in them.

    Returns
    -------
    ndarray of float32, shape (k, places, x)
    ndarray of bool, shape (k, places)
        Which rows of it may have.
    """
    from scipy import ndimage

    weights = _half_kernel(deviation)
    k, side = array.shape[1:]
    found = np.zeros((k, len(places), side), np.float32)
    reached = ndimage.maximum_filter1d(filled.view(np.uint8), 2 * len(weights) - 1, axis=0, mode="nearest")[places].T
    step = max(1, _BLOCK // side)
    for first in range(0, k, step):
        block = slice(first, first + step)
        _add_planes(array[:, block], weights, places, reached[block], found[block])
    return found, reached.view(bool)


def _half_kernel(deviation: float) -> np.ndarray:
    """Return SciPy's weights, float64, from the middle on."""
    from scipy import ndimage

    if not deviation:
        return np.ones(1)
    radius = int(_TRUNCATE * deviation + 0.5)
    single = (np.arange(2 * radius + 1) == radius).astype(np.float64)
    weights: np.ndarray = ndimage.gaussian_filter1d(single, deviation, mode="constant", truncate=_TRUNCATE)
    return weights[radius:]


def _add_planes(
    array: np.ndarray, weights: np.ndarray, places: np.ndarray, reached: np.ndarray, found: np.ndarray
) -> None:
    """Write the weighted sums of planes (k, x) of an array (n, k, x) into `found`, (k, places, x)."""
    n, k, side = array.shape
    radius, kept = len(weights) - 1, 2 * len(weights) - 1
    planes = np.empty((kept, k * side))  # those that a sum is of, as float64
    total, pair = np.empty((2, k * side))
    ready = 0
    for number, place in enumerate(places):
        while ready <= min(place + radius, n - 1):
            planes[ready % kept].reshape(k, side)[...] = array[ready]
            ready += 1
        rows = np.flatnonzero(reached[:, number])
        if not rows.size:
            continue
        part = slice(rows[0] * side, (rows[-1] + 1) * side)
        of_total, of_pair = total[part], pair[part]
        np.multiply(planes[place % kept, part], weights[0], out=of_total)
        for away in range(radius, 0, -1):
            before, after = max(place - away, 0) % kept, min(place + away, n - 1) % kept
            np.add(planes[before, part], planes[after, part], out=of_pair)
            of_pair *= weights[away]
            of_total += of_pair
        found[rows[0] : rows[-1] + 1, number] = of_total.reshape(-1, side)
