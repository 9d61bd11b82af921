"""Clean a label map, class by class: connected parts, the largest of them, those large enough."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scans.volume import Volume
from train.classes import TUMOUR, Classes, labels_of, masks_of, outside_in

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


def clean(labels: Volume, classes: Classes = TUMOUR, *, largest: bool = False, least_ml: float = 0.0) -> Volume:
    """Leave out parts of each class; what lies in another class is cleaned within what is left of that.

    Parameters
    ----------
    labels : Volume
        Label map in the scan's own grid; of a single class 0 and 1.
    classes : Classes
    largest : bool
        Keep the largest part alone.
    least_ml : float
        Keep parts of at least this volume.

    Returns
    -------
    Volume
        On the same grid.
    """
    masks = masks_of(labels.array, classes)
    for inner, outer in outside_in(classes).items():
        masks[inner] &= masks[outer].all(axis=0)
        _keep(masks[inner], largest, least_ml, labels.grid.voxel_mm3)
    return labels.with_array(labels_of(masks, classes))


def _keep(mask: np.ndarray, largest: bool, least_ml: float, voxel_mm3: float) -> None:
    """Leave out parts of a mask, bool (z, y, x), in place."""
    parts = Parts.of(mask)
    if not parts.sizes.size:
        return
    kept = parts.sizes * voxel_mm3 / 1000.0 >= least_ml
    if largest:
        kept &= np.arange(parts.sizes.size) == parts.sizes.argmax()
    mask[parts.box] = np.concatenate([[False], kept])[parts.labels]
