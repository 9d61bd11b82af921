"""Read and write scans and masks, and keep their geometry.

Arrays are (z, y, x), and so is ``spacing_mm``; physical points are ITK's (x, y, z) in mm, LPS. The two meet
here and in `scans.image.preparation`, nowhere else.
"""

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from scans.durable import write_bytes
from scans.errors import ScanError
from scans.formats.itk import Geometry, itk_name, read_file, read_file_header
from scans.formats.mgh import read_mgh, read_mgh_header
from scans.formats.nifti import read_nifti, read_nifti_header, stated_geometry
from scans.formats.series import read_series, read_series_header
from scans.image.grid import Grid, UnplacedGrid
from scans.image.nifti_bytes import nifti_bytes
from scans.one_scan import why_not_used

# A pair of .hdr and .img goes by its header alone, or it would count as two scans.
READ_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr")
WRITE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
_LEAST_SIDE = 4  # voxels; fewer leave nothing to interpolate between
_ROUNDING = 1e-5  # departure from orthonormal axes that is left as it is
_SHEAR_LIMIT = 0.035  # sine of 2 degrees: beyond this, axes are sheared (gantry tilt), not rounded


@dataclass(frozen=True)
class Volume:
    """A scan or a mask in its own grid.

    Attributes
    ----------
    array : ndarray, shape (z, y, x)
        float32, or an integer type for masks.
    spacing_mm : tuple of float
        Voxel spacing (z, y, x) in mm.
    origin : tuple of float
        Centre of the first voxel, (x, y, z) in mm, LPS.
    direction : tuple of float
        ITK's nine direction cosines, row major.
    placed : bool
        Whether the file states where its voxels lie (see `scans.image.grid.UnplacedGrid`).
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    placed: bool = True

    @property
    def grid(self) -> Grid:
        """The geometry without the voxels."""
        z, y, x = self.array.shape
        return (Grid if self.placed else UnplacedGrid)((z, y, x), self.spacing_mm, self.origin, self.direction)

    @classmethod
    def on(cls, grid: Grid, array: np.ndarray) -> "Volume":
        """Return `array`, shape (z, y, x), as a volume on `grid`."""
        return cls(array, grid.spacing_mm, grid.origin, grid.direction, not isinstance(grid, UnplacedGrid))

    def with_array(self, array: np.ndarray) -> "Volume":
        """Return `array`, shape (z, y, x), on this volume's grid."""
        return Volume.on(self.grid, array)

    def laid_on(self, other: "Volume") -> "Volume":
        """Return this volume on the grid of `other`, if one of the two does not state its place; else as it is."""
        return self if self.placed and other.placed else other.with_array(self.array)

    def crop(self, box: tuple[slice, slice, slice]) -> "Volume":
        """Return the part in a box of voxel ranges (z, y, x), in its place."""
        return Volume.on(self.grid.part(box), self.array[box])

    def to_itk(self) -> sitk.Image:
        """Return the volume as a SimpleITK image; Booleans become uint8."""
        array = self.array.astype(np.uint8) if self.array.dtype == bool else self.array
        image = sitk.GetImageFromArray(np.ascontiguousarray(array))
        image.SetSpacing(self.spacing_mm[::-1])
        image.SetOrigin(self.origin)
        image.SetDirection(self.grid.itk_direction)
        return image

    def same_grid(self, other: "Volume", tolerance: float = 0.1) -> bool:
        """Tell whether the voxels of `other` lie on this volume's, within `tolerance` voxels."""
        return self.grid.matches(other.grid, tolerance)


def read_volume(path: Path) -> Volume:
    """Read a scan: a file with one of `READ_SUFFIXES`, or a folder with one DICOM series.

    Returns
    -------
    Volume
        float32, finite, not constant.

    Raises
    ------
    ScanError
        If it is missing, damaged, 4D, not finite, constant, tiny, or without a usable geometry; and whatever else the
        libraries that read it make of its bytes.
    """
    with _door(path, "scan"):
        volume = _read(path)
        array = volume.array.astype(np.float32, copy=False)
        stored = array if volume.array.dtype.kind == "f" else volume.array  # of two bytes a voxel, mostly
        least, most = stored.min(), stored.max()
        if not (np.isfinite(least) and np.isfinite(most)):  # a NaN is the least and the most
            bad = array.size - int(np.isfinite(array).sum())
            raise ScanError(f"{path}: {bad} voxels are NaN or infinite; replace them, e.g. by the background value")
        if least == most:
            raise ScanError(f"{path}: every voxel is {array.flat[0]:g}; this scan is empty, export it again")
        return volume.with_array(array)


def read_mask(path: Path, values: tuple[int, ...] | None = None, *, kind: str = "mask") -> Volume:
    """Read a mask from a file of labels.

    Parameters
    ----------
    path : Path
    values : tuple of int, optional
        Labels that belong to the mask; None: any but 0.
    kind : str
        What to call it in an error.

    Returns
    -------
    Volume
        uint8, 0 or 1; it may be empty.

    Raises
    ------
    ScanError
        As `read_volume`, or if the labels are not whole numbers, or below 0.
    """
    return read_masks(path, [values], kind=kind)[0]


def read_masks(path: Path, each: Iterable[tuple[int, ...] | None], *, kind: str = "mask") -> list[Volume]:
    """Read several masks from one file of labels; as `read_mask`, with the labels of each."""
    with _door(path, kind):
        volume = _read(path)
        labels = volume.array
        if labels.dtype.kind == "f":
            for one in labels:  # slice by slice, for the memory it takes
                whole = np.rint(one)
                if not np.isfinite(one).all() or np.abs(one - whole).max() > 1e-3:
                    raise ScanError(f"{path}: this {kind} has values that are not whole numbers; threshold it first")
                one[...] = whole
        if labels.min() < 0:
            raise ScanError(
                f"{path}: this {kind} has the label {labels.min():g}; give its voxels 0, or a label above 0"
            )
        masks = (labels != 0 if values is None else np.isin(labels, values) for values in each)
        return [volume.with_array(mask.view(np.uint8)) for mask in masks]


def read_grid(path: Path, *, kind: str = "scan") -> Grid:
    """Read the geometry of a scan or mask without its voxels.

    Raises
    ------
    ScanError
        As `read_volume`, for what a header tells.
    """
    with _door(path, kind):
        if path.is_dir():
            return _from_itk(read_series_header(path), path)
        if _is_nifti(path):
            header = read_nifti_header(path)
            return _from_affine(header.shape, header.affine, path, header.placed)
        if _is_mgh(path):
            shape, affine, _ = read_mgh_header(path)
            return _from_affine(shape, affine, path)
        return _from_itk(read_file_header(path), path)


def check_same_grid(mask: Volume | Grid, scan: Volume | Grid, mask_path: Path, scan_path: Path) -> None:
    """Stop if a mask does not lie on its scan's voxels.

    Raises
    ------
    ScanError
        With the difference.
    """
    a, b = (one.grid if isinstance(one, Volume) else one for one in (mask, scan))
    if a.matches(b):
        return
    if a.shape != b.shape:
        sides = [" x ".join(map(str, grid.shape[::-1])) for grid in (a, b)]
        what = f"{sides[0]} voxels against {sides[1]}"
    else:
        what = f"up to {b.distance_voxels(a):.1f} voxels apart"
    raise ScanError(f"{mask_path} is not on the grid of {scan_path} ({what}); resample it to the scan's grid")


def write_volume(volume: Volume, path: Path, like: Path | None = None, *, quick: bool = False) -> None:
    """Write a volume; the file appears under its name only once it is whole.

    Parameters
    ----------
    volume : Volume
    path : Path
        Ends in ``.nii.gz``, ``.nii``, ``.mha`` or ``.nrrd``. Its folder must exist.
    like : Path, optional
        The scan whose grid the volume lies on. NIfTI repeats its geometry to the last bit where the scan is NIfTI too.
    quick : bool
        As of `nifti_bytes`.

    Raises
    ------
    ScanError
        If it cannot be written there.
    """
    suffix = next((s for s in WRITE_SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise ScanError(f"{path}: unknown suffix; use one of {', '.join(WRITE_SUFFIXES)}")
    try:
        if suffix in (".nii.gz", ".nii"):
            array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
            stated = stated_geometry(like) if like is not None and like.is_file() and _is_nifti(like) else None
            compress = suffix == ".nii.gz"
            write_bytes(path, nifti_bytes(array, volume.grid, compress=compress, like=stated, quick=quick))
        else:
            _write_by_itk(volume, path, suffix)
    except (RuntimeError, OSError) as error:
        raise ScanError(f"{path} cannot be written; check that its folder exists, is writable and has space") from error


def _write_by_itk(volume: Volume, path: Path, suffix: str) -> None:
    part = path.with_name(f".{uuid.uuid4().hex}.part{suffix}")
    name = itk_name(part)
    try:
        sitk.WriteImage(volume.to_itk(), name, useCompression=True)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _door(path: Path, kind: str) -> Iterator[None]:
    """Let a file in to be read, and nothing out but ScanError: no bytes may end a run over many files.

    Only MemoryError passes: what a header claims has been checked against the file before room was made for it.
    """
    try:
        with np.errstate(all="ignore"):
            _check_there(path, kind)
            yield
    except (ScanError, MemoryError):
        raise
    except Exception as error:
        raise ScanError(why_not_used(path, error)) from error


def _check_there(path: Path, kind: str) -> None:
    if path.is_dir():
        return
    if not path.exists():
        raise ScanError(f"{path}: no such {kind}; check the path")
    if not path.is_file():
        raise ScanError(f"{path} is no file; give {', '.join(READ_SUFFIXES)} or a folder with a DICOM series")
    if path.stat().st_size == 0:
        raise ScanError(f"{path} is an empty file; copy it again")
    if path.name.lower().endswith(".img"):
        raise ScanError(f"{path} holds the voxels of a pair; give the {path.stem}.hdr beside it")
    if not path.name.lower().endswith(READ_SUFFIXES):
        raise ScanError(f"{path}: unknown suffix; give {', '.join(READ_SUFFIXES)} or a folder with a DICOM series")


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz", ".hdr"))


def _is_mgh(path: Path) -> bool:
    return path.name.lower().endswith((".mgh", ".mgz"))


def _read(path: Path) -> Volume:
    if path.is_dir():
        array, geometry = read_series(path)
        return Volume.on(_from_itk(geometry, path), array)
    if _is_nifti(path):
        array, header = read_nifti(path)
        return Volume.on(_from_affine(header.shape, header.affine, path, header.placed), array)
    if _is_mgh(path):
        array, affine = read_mgh(path)
        z, y, x = array.shape
        return Volume.on(_from_affine((x, y, z), affine, path), array)
    array, geometry = read_file(path)
    return Volume.on(_from_itk(geometry, path), array)


def _from_affine(shape: tuple[int, int, int], affine: np.ndarray, path: Path, placed: bool = True) -> Grid:
    columns = affine[:3, :3]
    x, y, z = np.linalg.norm(columns, axis=0).tolist()
    origin = tuple(affine[:3, 3].tolist())
    grid = _from_itk(Geometry(shape, (x, y, z), origin, tuple((columns / (x, y, z)).ravel().tolist())), path)
    return grid if placed else UnplacedGrid(grid.shape, grid.spacing_mm, grid.origin, grid.direction)


def _from_itk(geometry: Geometry, path: Path) -> Grid:
    """Check a geometry, and make axes that are not quite orthonormal so."""
    if min(geometry.size) < _LEAST_SIDE:
        sides = " x ".join(map(str, geometry.size))
        raise ScanError(f"{path} has only {sides} voxels; at least {_LEAST_SIDE} a side are needed")
    numbers = (*geometry.spacing, *geometry.origin, *geometry.direction)
    if not np.isfinite(numbers).all() or min(geometry.spacing) <= 0:
        sides = " x ".join(f"{s:g}" for s in geometry.spacing)
        raise ScanError(f"{path} has voxels of {sides} mm; write its true geometry into the header")
    direction = np.reshape(geometry.direction, (3, 3))
    if np.abs(direction.T @ direction - np.eye(3)).max() > _ROUNDING:
        u, _, vt = np.linalg.svd(direction)
        if np.abs(direction.T @ direction - np.eye(3)).max() > _SHEAR_LIMIT:
            raise ScanError(
                f"{path} has axes that are not at right angles (gantry tilt?); resample it to a straight grid"
            )
        direction = u @ vt
    z, y, x = geometry.size[::-1]
    sz, sy, sx = geometry.spacing[::-1]
    return Grid((z, y, x), (sz, sy, sx), geometry.origin, tuple(direction.ravel().tolist()))
