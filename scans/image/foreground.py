"""The region of interest: from a mask, or what skull stripping left."""

import numpy as np

from scans.catalog.region import Region
from scans.errors import ScanError
from scans.image.box import tight_box
from scans.image.components import fill_holes, large_parts
from scans.image.volume import Volume

_LEAST_ROI_MM3 = 100.0  # nothing that this pipeline can work on is smaller
_STRIP = "give an ROI mask, or let a tool make one (--brain-mask-with, docs/skulls.md)"
_LEAST_PART = 0.1  # a part of the foreground smaller than this share of the largest is debris


def border_value(array: np.ndarray) -> float | None:
    """Return the value that half of a volume's faces share or more, or None: what skull stripping left outside.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
    """
    faces = np.concatenate([np.take(array, end, axis).ravel() for axis in range(3) for end in (0, -1)])
    middle = [(faces.size - 1) // 2, faces.size // 2]  # of all in order, where a value that half of them have must lie
    for value in np.partition(faces, middle)[middle]:
        if 2 * np.count_nonzero(faces == value) >= faces.size:
            return float(value)
    return None


def find_foreground(array: np.ndarray, background: float) -> np.ndarray:
    """Return the voxels that a skull-stripped scan is about.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
    background : float
        Value of the voxels outside.

    Returns
    -------
    ndarray of bool, same shape
        The large parts of what differs from the background, their inner holes filled.
    """
    foreground = array != np.float32(background)
    if not foreground.any():
        return foreground
    box = tight_box(foreground)  # two fifths of a scan that is stripped; nothing outside is in it, or a hole
    kept = large_parts(foreground[box], _LEAST_PART)
    foreground[box] = fill_holes(kept)
    return foreground


def region_of_interest(
    volume: Volume, roi: Volume | None, region: Region, background: float | None, where: str
) -> np.ndarray:
    """Return where a tumour may lie, in the scan's grid: the mask if there is one, else the foreground.

    Parameters
    ----------
    volume : Volume
    roi : Volume or None
        Mask on the scan's grid.
    region : Region
    background : float or None
        The scan's `border_value`.
    where : str
        Name of the scan, for errors.

    Returns
    -------
    ndarray of bool, shape (z, y, x)

    Raises
    ------
    ScanError
        If it is empty, tiny, or cannot be told.
    """
    if roi is not None:
        inside = roi.array > 0
        if not inside.any():
            raise ScanError(f"{where}: its ROI mask is empty; check the file and the label values of the catalog")
    elif region.roi.kind == "label":
        raise ScanError(f"{where}: region {region.name} needs an ROI mask; give one on the scan's grid")
    elif background is None:
        raise ScanError(f"{where}: not skull-stripped (no constant background); {_STRIP}")
    else:
        inside = find_foreground(volume.array, background)
        if (most := region.roi.most_ml) and (found := np.count_nonzero(inside) * volume.grid.voxel_mm3 / 1000) > most:
            raise ScanError(
                f"{where}: its foreground has {found:.0f} ml, more than the {most:.0f} ml of region {region.name}; "
                f"it seems not skull-stripped: {_STRIP}"
            )
    if (volume_mm3 := np.count_nonzero(inside) * volume.grid.voxel_mm3) < _LEAST_ROI_MM3:
        raise ScanError(f"{where}: its ROI has only {volume_mm3:.0f} mm3; check the mask and the voxel spacing")
    return inside
