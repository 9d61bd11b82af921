"""Healthy tissue everywhere: what a normal lends as a donor, mirrored into lesions and past its edge."""

import numpy as np
from scipy import ndimage

_ORDINARY = 2.5  # standard deviations from the median within which tissue is ordinary
_REACHES = (1024.0, 16.0, 4.0)  # voxels inward that a mirror looks for tissue, tried in turn; the first is any


def lend(intensity: np.ndarray, healthy: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Fill everything that is not healthy tissue with tissue, mirrored at the nearest edge.

    Parameters
    ----------
    intensity : ndarray of float32, shape (z, y, x)
    healthy : ndarray of bool, same shape
        Not empty.
    spacing_mm : tuple of float
        Voxel sides (z, y, x), so that "nearest" means nearest in space.

    Returns
    -------
    ndarray of float32, same shape
        Equal to `intensity` where `healthy`, but for its outermost voxels: they hold part of what lies outside,
        and would draw a seam. A voxel d beyond the edge takes the value d within it; where that is no ordinary
        tissue, the mirror goes to and fro close to the edge; where that fails, the edge's own value.
    """
    inner = ndimage.binary_erosion(healthy, border_value=1)
    inner = inner if inner.any() else healthy
    values = intensity[inner]
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))  # of a normal distribution, its standard deviation
    ordinary = inner & (np.abs(intensity - middle) <= _ORDINARY * spread)  # a lesion is not filled with a ventricle
    edge = ndimage.distance_transform_edt(~ordinary, spacing_mm, return_distances=False, return_indices=True)
    gaps = np.stack(np.nonzero(~inner))
    nearest = edge[:, *gaps]
    inward = (nearest - gaps).astype(np.float64)
    depth = np.maximum(np.linalg.norm(inward, axis=0), 1.0)
    filled, left = intensity.copy(), np.arange(gaps.shape[1])
    for reach in _REACHES:
        folded = reach - np.abs(reach - depth[left] % (2 * reach))  # to and fro between the edge and `reach`
        at = nearest[:, left] + np.rint(inward[:, left] * (folded / depth[left])).astype(int)
        found = np.all((at >= 0) & (at < np.array(healthy.shape)[:, None]), axis=0)
        found[found] = ordinary[tuple(at[:, found])]
        filled[tuple(gaps[:, left[found]])] = intensity[tuple(at[:, found])]
        left = left[~found]
    filled[tuple(gaps[:, left])] = intensity[tuple(nearest[:, left])]
    return filled
