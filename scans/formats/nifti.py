"""Read NIfTI so that a damaged file is an error.

SimpleITK 2.5 reads a truncated ``.nii`` or ``.nii.gz`` as zeros, zero spacing as 1 mm, and mixes the scales
of the qform with the axes of the sform, each without an error; it refuses axes that are not quite
orthonormal. Here every byte is read and checked against the header and gzip's checksum.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from scans.errors import ScanError
from scans.formats.nifti_affine import affine_of
from scans.formats.stored import opened, read_voxels, three_sides

_SIZES = (348, 540)  # bytes of a header of NIfTI-1 and NIfTI-2
_MAGIC = {False: (b"n+1", b"n+2"), True: (b"ni1", b"ni2")}  # in one file; in a pair of .hdr and .img
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_CODES = ("qform_code", "sform_code")
_CONVERTERS = "e.g. with FreeSurfer's mri_convert, or with dcm2niix from the original DICOM"


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
    placed : bool
        Whether the header states where the volume lies (see `scans.formats.nifti_affine`).
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    placed: bool = True


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check the header of a ``.nii``, ``.nii.gz`` or ``.hdr`` file.

    Raises
    ------
    ScanError
        If the file is damaged, is not one 3D volume of real numbers, or has no usable geometry.
    """
    return _parse(stated_geometry(path), path)


def stated_geometry(path: Path) -> Any:
    """Return the header of a ``.nii``, ``.nii.gz`` or ``.hdr`` file as nibabel has it, for `nifti_bytes`.

    What extends it is not looked at, whatever it holds.

    Raises
    ------
    ScanError
        If it is no header of NIfTI.
    """
    with opened(path) as file:
        head = file.read(_SIZES[1])
    kinds: dict[int, Any] = {_SIZES[0]: nibabel.Nifti1Header, _SIZES[1]: nibabel.Nifti2Header}
    size = next((n for order in ("little", "big") if (n := int.from_bytes(head[:4], order)) in kinds), 0)
    pair = _is_pair(path)
    header = kinds[size](head[:size], check=False) if 0 < size <= len(head) else None
    magic = b"" if header is None else header["magic"].item()[:3]
    if header is not None and pair and not magic.strip(b"\0"):
        raise ScanError(
            f"{path} is a header of Analyze 7.5, which does not tell left from right; convert it, {_CONVERTERS}"
        )
    if header is None or magic != _MAGIC[pair][_SIZES.index(size)]:
        raise ScanError(f"{path} is not a NIfTI file; export it again, or give it the suffix of what it is")
    return header


def read_nifti(path: Path) -> tuple[np.ndarray, NiftiHeader]:
    """Read a ``.nii`` or ``.nii.gz`` file, or a ``.hdr`` with its ``.img``, to the last byte.

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
    header = read_nifti_header(path)
    voxels = voxels_of_pair(path) if _is_pair(path) else path
    with opened(voxels) as file:
        array = read_voxels(file, voxels, header.offset, header.shape, header.dtype)
    if (header.slope, header.intercept) != (1.0, 0.0):
        stored, array = array, np.empty(array.shape, np.float32)
        for one, scaled in zip(stored, array, strict=True):  # in float64, which the whole has no room for
            scaled[...] = one * header.slope + header.intercept
    return array, header


def voxels_of_pair(header: Path) -> Path:
    """Return the ``.img`` file beside a ``.hdr`` file.

    Raises
    ------
    ScanError
        If there is none.
    """
    for suffix in (".img", ".IMG"):
        if (beside := header.with_suffix(suffix)).is_file():
            return beside
    raise ScanError(f"{header} has no {header.stem}.img beside it; copy the two files together")


def _is_pair(path: Path) -> bool:
    return path.name.lower().endswith(".hdr")


def _parse(header: Any, path: Path) -> NiftiHeader:
    try:
        sides = tuple(int(side) for side in header.get_data_shape())
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
    except (HeaderDataError, ValueError, KeyError) as error:
        raise ScanError(f"{path} has a damaged NIfTI header ({error}); export it again") from error
    shape = three_sides(path, sides)
    if dtype.kind not in "iuf":
        what = {"c": "complex numbers"}.get(dtype.kind, "".join(dtype.names or ()) + " colours")
        raise ScanError(f"{path} holds {what}; export it with one real number a voxel")
    offset = float(header["vox_offset"])
    if not (0 if _is_pair(path) else header.sizeof_hdr) <= offset < 2**63:
        raise ScanError(f"{path} has a damaged NIfTI header (voxels at byte {offset:g}); export it again")
    if any(not 0 <= header[name] < 2**15 for name in _CODES):
        raise ScanError(f"{path} has a damaged NIfTI header (its form codes mean nothing); export it again")
    affine, placed = affine_of(header, shape, path)
    return NiftiHeader(
        shape=shape,
        affine=_LPS_FROM_RAS @ affine,
        dtype=dtype,
        offset=int(header["vox_offset"]),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        placed=placed,
    )
