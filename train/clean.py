"""Clean a mask: its connected parts, the largest of them, those large enough."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scans.volume import Volume

_TOUCHING = np.ones((3, 3, 3), bool)  # 26 neighbours: voxels that share a corner are one part


@dataclass(frozen=True)
class Parts:
    """The connected parts of a mask.

    Attributes
    ----------
    box : tuple of slice
        Where in the volume (z, y, x) `labels` lies: around all that is in the mask.
    labels : ndarray of int, shape (z, y, x) of the box
        0 outside the mask; parts are numbered from 1.
    sizes : ndarray of int
        Voxels of each part, that of part 1 first; empty for an empty mask.
    """

    box: tuple[slice, slice, slice]
    labels: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> "Parts":
        """Find the parts of a mask of 0 and 1, shape (z, y, x)."""
        found = ndimage.find_objects(mask.astype(np.uint8, copy=False))
        z, y, x = found[0] if found else (slice(0, 0),) * 3
        labels, _ = ndimage.label(mask[z, y, x], structure=_TOUCHING)
        return cls((z, y, x), labels, np.bincount(labels.ravel())[1:])


def clean(mask: Volume, *, largest: bool = False, least_ml: float = 0.0) -> Volume:
    """Leave out parts of a mask.

    Parameters
    ----------
    mask : Volume
        uint8, 0 or 1, in the scan's own grid.
    largest : bool
        Keep the largest part alone.
    least_ml : float
        Keep parts of at least this volume.

    Returns
    -------
    Volume
        uint8, on the same grid.
    """
    parts = Parts.of(mask.array)
    if not parts.sizes.size:
        return mask
    kept = parts.sizes * mask.grid.voxel_mm3 / 1000.0 >= least_ml
    if largest:
        kept &= np.arange(parts.sizes.size) == parts.sizes.argmax()
    cleaned = np.zeros_like(mask.array)
    cleaned[parts.box] = np.concatenate([[False], kept])[parts.labels]
    return mask.with_array(cleaned)
