"""Statistics: what a region's scans are normalised by. Workers need it, and so it reads no scan."""

from dataclasses import replace

import numpy as np

from scans.catalog.region import Region
from scans.errors import ScanError
from scans.image.normalisation import Statistics, rounded


def own_statistics(values: np.ndarray, region: Region) -> Statistics:
    """Return what a scan of a ``zscore`` region is normalised by, from the intensities of its ROI (any shape)."""
    statistics, fixed = Statistics.of(values), region.normalisation.scale
    return statistics if fixed is None else replace(statistics, std=fixed)


def common_statistics(values: np.ndarray, region: Region) -> Statistics:
    """Return what scans of a ``window`` region are normalised by.

    Parameters
    ----------
    values : ndarray
        Intensities of the ROI voxels of all of them, counted from the raw zero.
    region : Region

    Raises
    ------
    ScanError
        If nothing varies within the window.
    """
    by = region.normalisation
    if by.limits is None:
        low, high = (rounded(end) for end in np.percentile(values, by.percentiles))
    else:
        low, high = (limit - (by.raw_zero or 0.0) for limit in by.limits)
    common = Statistics.of(values, low, high)
    if common.std == 0:
        raise ScanError(
            f"nothing varies between {low:g} and {high:g} inside the ROIs; check the region's normalisation"
        )
    return common
