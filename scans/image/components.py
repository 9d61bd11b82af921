"""Connected parts of a mask."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from scans.image.box import Box, from_within, tight_box

_SKIN = 8  # planes at each face of a mask's box, in which a large part of it shows as large


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

    box: Box
    labels: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, *, faces: bool = False) -> "Parts":
        """Find the parts of a mask of 0 and 1, shape (z, y, x): voxels that share a corner, or with `faces` a face."""
        nothing = slice(0, 0)
        box: Box = tight_box(mask) if mask.any() else (nothing, nothing, nothing)
        labels = _labels(mask[box] != 0, corners=not faces)
        return cls(box, labels, np.bincount(labels.reshape(-1))[1:])


def keep_parts(
    mask: np.ndarray, *, largest: bool = False, of_largest: float = 0.0, least_ml: float = 0.0, voxel_mm3: float = 1.0
) -> None:
    """Leave out parts of a mask, in place.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
    largest : bool
        Keep the largest part alone, the first in scan order among equals.
    of_largest : float
        Keep parts of at least this share of the largest one's volume.
    least_ml : float
        Keep parts of at least this volume.
    voxel_mm3 : float
        Volume of a voxel.
    """
    parts = Parts.of(mask)
    if not parts.sizes.size:
        return
    kept = (parts.sizes * voxel_mm3 / 1000.0 >= least_ml) & (parts.sizes >= of_largest * parts.sizes.max())
    if largest:
        kept &= np.arange(parts.sizes.size) == parts.sizes.argmax()
    mask[parts.box] = np.concatenate([[False], kept])[parts.labels]


def large_parts(mask: np.ndarray, least: float) -> np.ndarray:
    """Return a mask without the parts smaller than `least` of its largest.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
    least : float

    Returns
    -------
    ndarray of bool, same shape
    """
    labels = _labels(mask)
    sizes = np.bincount(labels.reshape(-1))
    sizes[0] = 0
    if len(sizes) < 3:  # one part at the most
        return mask
    return (sizes >= least * sizes.max())[labels]


def box_of_large_parts(mask: np.ndarray, least: float) -> Box:
    """Return the tight box around `large_parts`, mostly without a look at what is deep inside.

    What counts is whether a part that reaches a face of the mask's box is large. If it is by what a few planes at the
    face hold of it, all of it is.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Not empty.
    least : float
    """
    box = tight_box(mask)
    mask = mask[box]
    enough = least * np.count_nonzero(mask)  # of the largest part it would be less, or as much
    for axis, end in product(range(3), (1, -1)):
        inwards = np.moveaxis(mask, axis, 0)[::end][:_SKIN]
        labels = _labels(inwards[(slice(None), *tight_box(inwards)[1:])])
        at_face = np.unique(labels[0])
        if np.bincount(labels.reshape(-1))[at_face[at_face > 0]].max() < enough:
            return from_within(tight_box(large_parts(mask, least)), box)
    return box


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Return a mask with what it encloses: voxels from which no way over faces leads out of the volume.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)

    Returns
    -------
    ndarray of bool, same shape
    """
    outside = _labels(np.pad(~mask, 1, constant_values=True))
    return outside[1:-1, 1:-1, 1:-1] != outside[0, 0, 0]


def _labels(mask: np.ndarray, *, corners: bool = False) -> np.ndarray:
    """Return the parts of a mask of bool, numbered from 1 on; voxels touch at faces, or at `corners` too."""
    from scipy import ndimage  # 0.1 s, which a training does without

    labels: np.ndarray
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3), bool) if corners else None)
    return labels
