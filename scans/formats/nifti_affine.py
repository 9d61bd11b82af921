"""The geometry that a NIfTI header states: sform, else qform, else where Analyze put a scan.

Two readings are more lenient than nibabel's, as in the standard's own reader and ITK: ``pixdim[0]``, which holds
the handedness, counts by its sign alone, 0 as 1; and a quaternion that is a little longer than 1, by rounding, is
shortened to 1.

A header without form codes states no place. nibabel's is taken: x to the left, y to the front, z up, the centre of
the volume in the origin. ITK lets y run to the back instead, from the first voxel in the origin; with the many files
that come from Analyze, whose rows run to the front, that turns a head round. `scans.image.grid.UnplacedGrid` knows
both.
"""

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.quaternions import quat2mat

from scans.errors import ScanError

_LONGEST = 1.001  # of a quaternion; rounding to three digits gives 1.0009


def affine_of(header: Any, shape: tuple[int, ...], path: Path) -> tuple[np.ndarray, bool]:
    """Return the affine of a header.

    A sform or qform that is damaged gives way to the other, if that is sound.

    Parameters
    ----------
    header : nibabel.Nifti1Header or Nifti2Header
    shape : tuple of int
        Voxels along (x, y, z).
    path : Path
        For errors.

    Returns
    -------
    affine : ndarray of float64, shape (4, 4)
        From voxel indices (x, y, z) to RAS in mm.
    placed : bool
        Whether the header states it.

    Raises
    ------
    ScanError
        If no stated geometry is sound, or two that are sound differ by more than a voxel.
    """
    spacing = np.asarray(header["pixdim"][1:4], float)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        sides = " x ".join(f"{s:g}" for s in spacing)
        raise ScanError(f"{path} has voxels of {sides} mm; write its true spacing into the header")
    q = _qform(header, spacing) if header["qform_code"] > 0 else None
    s = _sform(header) if header["sform_code"] > 0 else None
    if q is None and s is None:
        if header["qform_code"] > 0:
            raise ScanError(f"{path} has a damaged qform (no rotation can be made of it); export it again")
        if header["sform_code"] > 0:
            raise ScanError(f"{path} has an affine that maps no volume; write its true geometry into the header")
        return _unstated(spacing, shape), False
    if q is not None and s is not None:
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
        corners[:, :3] *= np.array(shape) - 1
        apart = float(np.linalg.norm((corners @ (q - s).T)[:, :3], axis=1).max())
        if not apart <= spacing.min():
            raise ScanError(
                f"{path} states two geometries (qform and sform) up to {apart:.1f} mm apart; "
                "write the right one into both"
            )
    affine = s if s is not None else q
    assert affine is not None
    return affine, True


def _qform(header: Any, spacing: np.ndarray) -> np.ndarray | None:
    """Return the affine of the quaternion, or None if it is no rotation."""
    try:
        quaternion = header.get_qform_quaternion()
    except ValueError:  # longer than 1
        imaginary = np.array([header[name] for name in ("quatern_b", "quatern_c", "quatern_d")], float)
        length = float(np.linalg.norm(imaginary))
        if not length <= _LONGEST:
            return None
        quaternion = (0.0, *(imaginary / length))
    handed = float(header["pixdim"][0])
    if np.isnan(handed):
        return None
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(quaternion) @ np.diag([*spacing[:2], -spacing[2] if handed < 0 else spacing[2]])
    affine[:3, 3] = [header[name] for name in ("qoffset_x", "qoffset_y", "qoffset_z")]
    return affine if _sound(affine) else None


def _sform(header: Any) -> np.ndarray | None:
    affine = np.eye(4)
    affine[:3] = [header[name] for name in ("srow_x", "srow_y", "srow_z")]
    return affine if _sound(affine) else None


def _sound(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all()) and abs(float(np.linalg.det(affine[:3, :3]))) >= 1e-9


def _unstated(spacing: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    affine = np.diag([*(spacing * (-1, 1, 1)), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine
