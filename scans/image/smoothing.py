"""Smoothing of a scan within its region of interest."""

import numpy as np

from scans.image.box import clip, tight_box

_TRUNCATE = 4.0  # standard deviations that the Gaussian reaches


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
