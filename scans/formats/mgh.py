"""Read FreeSurfer's MGH and MGZ: one 3D volume with the geometry it states."""

from pathlib import Path

import nibabel
import numpy as np

from scans.errors import ScanError
from scans.formats.stored import opened, read_voxels, three_sides

_HEADER_BYTES = 284  # then come the voxels
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_mgh_header(path: Path) -> tuple[tuple[int, int, int], np.ndarray, np.dtype]:
    """Read and check the header of an ``.mgh`` or ``.mgz`` file.

    Returns
    -------
    shape : tuple of int
        Voxels along (x, y, z).
    affine : ndarray of float64, shape (4, 4)
        From voxel indices (x, y, z) to LPS in mm.
    dtype : dtype
        As stored, big-endian.

    Raises
    ------
    ScanError
        If it is damaged, holds no 3D volume, or does not state where the volume lies.
    """
    with opened(path) as file:
        head = file.read(_HEADER_BYTES)
    header = nibabel.freesurfer.mghformat.MGHHeader(head, check=False) if len(head) == _HEADER_BYTES else None
    if header is None or header["version"] != 1:
        raise ScanError(f"{path} is not an MGH file; export it again, or give it the suffix of what it is")
    *sides, frames = (int(side) for side in header["dims"])
    if frames != 1:
        raise ScanError(f"{path} holds {frames} volumes; give one, e.g. split off the volume you mean")
    shape = three_sides(path, sides)
    if not int.from_bytes(head[28:30], "big", signed=True):  # nibabel puts a default in its place
        raise ScanError(
            f"{path} does not state where its voxels lie; convert it to NIfTI with FreeSurfer's mri_convert"
        )
    try:
        dtype = header.get_data_dtype().newbyteorder(">")
    except KeyError as error:
        raise ScanError(f"{path} holds voxels of an unknown type; export it again") from error
    affine = np.asarray(header.get_affine(), float)
    if not np.isfinite(affine).all() or abs(float(np.linalg.det(affine[:3, :3]))) < 1e-9:
        raise ScanError(f"{path} has an affine that maps no volume; write its true geometry into the header")
    return shape, _LPS_FROM_RAS @ affine, dtype


def read_mgh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an ``.mgh`` or ``.mgz`` file to its last byte.

    Returns
    -------
    array : ndarray, shape (z, y, x)
    affine : ndarray of float64, shape (4, 4)
        As of `read_mgh_header`.

    Raises
    ------
    ScanError
        As `read_mgh_header`, or if the voxels are cut off or fail their checksum.
    """
    shape, affine, dtype = read_mgh_header(path)
    with opened(path) as file:
        return read_voxels(file, path, _HEADER_BYTES, shape, dtype), affine
