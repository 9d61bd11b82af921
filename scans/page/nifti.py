"""NIfTI-1 for a page: a byte a voxel, packed by gzip.

A page of a training needs it where neither nibabel nor SimpleITK is: the header is written here, from the standard.
"""

import struct
import zlib

import numpy as np

from scans.image.grid import Grid

_VOXELS_AT = 352  # bytes: the header, and four that announce no extension
_UINT8 = 2  # code of the voxels' type
_LABEL = 1002  # code of the intent: an index into names
_ALIGNED = 2  # code of the geometry: some frame in mm
_MM = 2  # code of the unit
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nifti_gz(voxels: np.ndarray, grid: Grid, *, labels: bool = False) -> bytes:
    """Return a ``.nii.gz`` of bytes; the same for the same arguments.

    Parameters
    ----------
    voxels : ndarray of uint8, shape (z, y, x)
    grid : Grid
    labels : bool
        Whether the values are names rather than amounts.

    Returns
    -------
    bytes
        At zlib's level 6: pages are sent, and a level more gains a hundredth.
    """
    z, y, x = grid.shape
    dz, dy, dx = grid.spacing_mm
    header = bytearray(_VOXELS_AT)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<hhh", header, 68, _LABEL if labels else 0, _UINT8, 8)
    struct.pack_into("<8f", header, 76, 1, dx, dy, dz, 0, 0, 0, 0)
    struct.pack_into("<fff", header, 108, _VOXELS_AT, 1, 0)  # values are the bytes themselves
    struct.pack_into("<b", header, 123, _MM)
    struct.pack_into("<hh", header, 252, 0, _ALIGNED)
    struct.pack_into("<12f", header, 280, *(_RAS_FROM_LPS @ grid.affine)[:3].ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join((packer.compress(header), packer.compress(np.ascontiguousarray(voxels).data), packer.flush()))
