"""Read NIfTI so that a damaged file is an error.

SimpleITK 2.5 reads a truncated ``.nii`` or ``.nii.gz`` as zeros, zero spacing as 1 mm, and mixes the scales
of the qform with the axes of the sform, each without an error; it refuses axes that are not quite
orthonormal. Here every byte is read and checked against the header and gzip's checksum.
"""

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from scans.errors import ScanError

_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_MOST_VOXELS = 2**31  # a header that claims more is damaged, or a bomb
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class NiftiHeader:
    """What is needed of a header.

    Attributes
    ----------
    shape : tuple of int
        Voxels along (x, y, z).
    affine : ndarray of float64, shape (4, 4)
        From voxel indices (x, y, z) to ITK's physical space (LPS) in mm; not necessarily orthogonal.
    dtype : dtype
        As stored, with its byte order.
    offset : int
        Bytes before the first voxel.
    slope, intercept : float
        ``value = slope * stored + intercept``.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check the header of a ``.nii`` or ``.nii.gz`` file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    NiftiHeader

    Raises
    ------
    ScanError
        If the file is damaged, is not one 3D volume of real numbers, or has no usable geometry.
    """
    with _open(path) as file:
        return _parse(_read(file, _HEADER_BYTES, path), path)


def stated_geometry(path: Path) -> Any:
    """Return the header of a ``.nii`` or ``.nii.gz`` file as nibabel has it, for `nifti_bytes`.

    Raises
    ------
    ScanError
        As `read_nifti_header`.
    """
    with _open(path) as file:
        head = _read(file, _HEADER_BYTES, path)
    return _kind(head, path).from_fileobj(io.BytesIO(head), check=False)


def read_nifti(path: Path) -> tuple[np.ndarray, NiftiHeader]:
    """Read a ``.nii`` or ``.nii.gz`` file to its last byte.

    Parameters
    ----------
    path : Path

    Returns
    -------
    array : ndarray, shape (z, y, x)
        In its stored type, or float32 where the header scales it.
    header : NiftiHeader

    Raises
    ------
    ScanError
        As `read_nifti_header`, or if the voxels are cut off or fail their checksum.
    """
    with _open(path) as file:
        head = _read(file, _HEADER_BYTES, path)
        header = _parse(head, path)
        count = math.prod(header.shape)
        needed = header.offset + count * header.dtype.itemsize
        content = head + _read(file, needed - len(head), path)
        if len(content) < needed:
            raise ScanError(f"{path} is cut off: {len(content)} of {needed} bytes are there; copy it again")
        while _read(file, 2**20, path):  # gzip checks its sum only at the end
            pass
    array = np.frombuffer(content, header.dtype, count, header.offset).reshape(header.shape[::-1])
    array = array.astype(header.dtype.newbyteorder("="), copy=False)
    if (header.slope, header.intercept) != (1.0, 0.0):
        array = (array * header.slope + header.intercept).astype(np.float32)
    return array, header


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _read(file: BinaryIO, count: int, path: Path) -> bytes:
    try:
        return file.read(max(count, 0))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ScanError(f"{path} is damaged or cut off ({error}); copy or export it again") from error


def _kind(head: bytes, path: Path) -> Any:
    kinds: dict[int, Any] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    size = head[:4]
    kind = kinds.get(int.from_bytes(size, "little")) or kinds.get(int.from_bytes(size, "big"))
    if kind is None or len(head) < 348:
        raise ScanError(f"{path} is not a NIfTI file; export it again, or give it the suffix of what it is")
    return kind


def _parse(head: bytes, path: Path) -> NiftiHeader:
    kind = _kind(head, path)
    try:
        header = kind.from_fileobj(io.BytesIO(head), check=False)
        shape = header.get_data_shape()
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
    except (HeaderDataError, OSError, ValueError, KeyError) as error:
        raise ScanError(f"{path} has a damaged NIfTI header ({error}); export it again") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        sides = " x ".join(map(str, shape))
        raise ScanError(f"{path} is {len(shape)}D ({sides}); give one 3D volume, e.g. split off the volume you mean")
    if min(shape) < 1 or math.prod(shape) > _MOST_VOXELS:
        raise ScanError(f"{path} claims {' x '.join(map(str, shape))} voxels; its header is damaged, export it again")
    if dtype.kind not in "iuf":
        raise ScanError(f"{path} holds {dtype} voxels; export it with one real number a voxel")
    return NiftiHeader(
        shape=cast(tuple[int, int, int], tuple(int(n) for n in shape)),
        affine=_LPS_FROM_RAS @ _affine(header, shape, path),
        dtype=dtype,
        offset=int(header.get_data_offset()),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
    )


def _affine(header: Any, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Return the RAS affine: the sform, else the qform, else plain spacing."""
    spacing = np.asarray(header["pixdim"][1:4], float)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        sides = " x ".join(f"{s:g}" for s in spacing)
        raise ScanError(f"{path} has voxels of {sides} mm; write its true spacing into the header")
    try:
        q, s = header.get_qform(coded=True)[0], header.get_sform(coded=True)[0]
    except HeaderDataError as error:
        raise ScanError(f"{path} has a damaged qform ({error}); export it again") from error
    if q is not None and s is not None:
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
        corners[:, :3] *= np.array(shape) - 1
        apart = float(np.linalg.norm((corners @ (q - s).T)[:, :3], axis=1).max())
        if not apart <= spacing.min():
            raise ScanError(
                f"{path} states two geometries (qform and sform) up to {apart:.1f} mm apart; "
                "write the right one into both"
            )
    affine = s if s is not None else q if q is not None else header.get_base_affine()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ScanError(f"{path} has an affine that maps no volume; write its true geometry into the header")
    return np.asarray(affine, float)
