"""Read MetaImage, NRRD and DICOM series with SimpleITK, one clear sentence for each way they fail.

Sizes, spacings, origins and directions are ITK's here: (x, y, z), LPS.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from scans.errors import ScanError


@dataclass(frozen=True)
class Geometry:
    """ITK's description of a 3D grid: size in voxels, spacing and origin in mm, nine direction cosines."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]


def read_file_header(path: Path) -> Geometry:
    """Read the geometry of a MetaImage or NRRD file; a fourth side of 1 is dropped.

    Raises
    ------
    ScanError
        If it cannot be read, or is not one 3D volume of real numbers.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    size = list(reader.GetSize())
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) != 3:
        sides = " x ".join(map(str, size))
        raise ScanError(f"{path} is {len(size)}D ({sides}); give one 3D volume, e.g. split off the volume you mean")
    if reader.GetNumberOfComponents() != 1:
        raise ScanError(f"{path} holds {reader.GetNumberOfComponents()} numbers a voxel; export it with one")
    dimension = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3].ravel()
    x, y, z = reader.GetSpacing()[:3]
    ox, oy, oz = reader.GetOrigin()[:3]
    return Geometry((size[0], size[1], size[2]), (x, y, z), (ox, oy, oz), tuple(direction.tolist()))


def read_file(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read a MetaImage or NRRD file.

    Returns
    -------
    array : ndarray, shape (z, y, x)
    geometry : Geometry

    Raises
    ------
    ScanError
        As `read_file_header`, or if the voxels are cut off.
    """
    geometry = read_file_header(path)
    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return array.reshape(geometry.size[::-1]), geometry


def holds_series(folder: Path) -> bool:
    """Tell whether a folder's own files are slices of DICOM series, one or several."""
    return bool(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


def series_files(folder: Path) -> list[Path]:
    """Return the files of the one DICOM series in `folder`, in order of position.

    Raises
    ------
    ScanError
        If there is no series, or more than one.
    """
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise ScanError(f"{folder} holds no DICOM series; name the folder whose files are the slices")
    if len(series) > 1:
        raise ScanError(f"{folder} holds {len(series)} DICOM series; keep one series a folder")
    return [Path(name) for name in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])]


def read_series_header(folder: Path) -> Geometry:
    """Read the geometry of a DICOM series from the headers of its slices.

    Raises
    ------
    ScanError
        If there is not exactly one series, slices differ, or one is missing.
    """
    files = series_files(folder)
    if len(files) < 2:
        raise ScanError(f"{folder} holds a single DICOM slice; give the whole series")
    slices = []
    for file in files:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _unreadable(file, error) from error
        slices.append(reader)
    first = slices[0]
    for file, one in zip(files, slices, strict=True):
        same = one.GetSize()[:2] == first.GetSize()[:2] and np.allclose(one.GetSpacing()[:2], first.GetSpacing()[:2])
        if not (same and np.allclose(one.GetDirection(), first.GetDirection(), atol=1e-4)):
            raise ScanError(f"{folder}: slice {file.name} differs in size or orientation from {files[0].name}")
    origins = np.array([one.GetOrigin() for one in slices])
    steps = np.diff(origins, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    step = float(np.median(lengths))
    uneven = np.flatnonzero(np.abs(lengths - step) > max(0.1 * step, 0.01))
    if uneven.size:
        at = int(uneven[0])
        raise ScanError(
            f"{folder}: between {files[at].name} and {files[at + 1].name} lie {lengths[at]:.2f} mm "
            f"instead of {step:.2f} mm; slices are missing or doubled, get the whole series"
        )
    x, y = first.GetSize()[:2]
    direction = np.reshape(first.GetDirection(), (3, 3)).copy()
    direction[:, 2] = (origins[-1] - origins[0]) / np.linalg.norm(origins[-1] - origins[0])
    ox, oy, oz = origins[0].tolist()
    sx, sy = first.GetSpacing()[:2]
    sz = float(np.linalg.norm(origins[-1] - origins[0])) / (len(files) - 1)
    return Geometry((x, y, len(files)), (sx, sy, sz), (ox, oy, oz), tuple(direction.ravel().tolist()))


def read_series(folder: Path) -> tuple[np.ndarray, Geometry]:
    """Read a DICOM series.

    Returns
    -------
    array : ndarray, shape (z, y, x)
        Rescaled to the units the files state (HU for CT).
    geometry : Geometry

    Raises
    ------
    ScanError
        As `read_series_header`, or if a slice cannot be read.
    """
    geometry = read_series_header(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in series_files(folder)])
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise _unreadable(folder, error) from error
    if array.shape != geometry.size[::-1]:
        raise ScanError(f"{folder} holds slices that are not plain 2D images; export it as one image a file")
    return array, geometry


def _unreadable(path: Path, error: RuntimeError) -> ScanError:
    """Keep the last line of ITK's message: the others name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1].rpartition("ERROR: ")[2].rstrip(".") if lines else "no reason given"
    return ScanError(f"{path} cannot be read ({reason}); copy or export it again")
