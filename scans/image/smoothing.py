"""Smoothing of a scan within its region of interest."""

import numpy as np


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

    sigma = [sigma_mm / s for s in spacing_mm]
    total = ndimage.gaussian_filter(np.where(roi, intensity, 0).astype(np.float32), sigma)
    weight = ndimage.gaussian_filter(roi.astype(np.float32), sigma)
    return np.where(roi, total / np.maximum(weight, 1e-6), 0).astype(np.float32)
