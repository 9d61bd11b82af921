"""The grey window: which intensities a picture shows from black to white. One rule for all pictures of scans."""

import numpy as np

Window = tuple[float, float]

_TISSUE = (1.0, 99.5)  # percentiles: a few vessels and rims of an organ may be all black or all white
_BRIGHT = 98.0  # of what is brighter than tissue, such as a tumour


def grey_window(tissue: np.ndarray, bright: np.ndarray | None = None) -> Window:
    """Return the intensities that are drawn black and white.

    Parameters
    ----------
    tissue : ndarray
        A scan, of any shape; 0 outside the organ.
    bright : ndarray, optional
        Values, of any shape, that are not to become all white.

    Returns
    -------
    tuple of float
        The second is above the first; 0 and 1 where there is no tissue.
    """
    inside = tissue[tissue != 0]
    low, high = np.percentile(inside, _TISSUE) if inside.size else (0.0, 1.0)
    if bright is not None and bright.size:
        high = max(high, np.percentile(bright, _BRIGHT))
    return float(low), float(max(high, low + 1e-6))
