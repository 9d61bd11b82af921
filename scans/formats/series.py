"""Read DICOM series with SimpleITK, in a process of its own: one clear sentence for each way they fail.

Sizes, spacings, origins and directions are ITK's here: (x, y, z), LPS.
"""

import math
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from scans.errors import ScanError
from scans.formats.apart import apart, grant
from scans.formats.itk import Geometry, claimed_bytes, itk_name, open_header, unreadable

_ROOM_FOR_BYTES = 4  # bytes a reader may take for each of the files, or of their unpacked voxels
_MOST_PACKED = 1032  # times: what a compressed slice may claim
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_STORED = "1.2.840.10008.5.1.4.1.1"
SEGMENTATIONS = (f"{_STORED}.66.4", f"{_STORED}.66.7")
# Beside scans archives keep presentation states, documents, registrations and segmentations, reports, radiotherapy.
_NO_SCANS = tuple(f"{_STORED}.{kind}." for kind in (11, 104, 66, 88, 481))


def holds_series(folder: Path) -> bool:
    """Tell whether a folder's own files are slices of DICOM series, one or several."""
    try:
        return bool(_series_of(folder))
    except ScanError:  # ITK cannot tell, e.g. of a name that is not UTF-8; the marks at the start of the files do
        return any(_is_marked(_head(file)) and not _is_no_scan(file) for file in folder.iterdir())


def sop_class(file: Path) -> str:
    """Return what kind of DICOM object a file is, as its UID; empty of any other file, or of one that does not say."""
    head = _head(file)
    found = re.search(rb"\x02\x00\x02\x00UI..([0-9.]+)", head, re.DOTALL) if _is_marked(head) else None
    return found[1].decode() if found else ""


@apart
def series_files(folder: Path) -> list[Path]:
    """Return the files of the one DICOM series in `folder`, in order of position.

    Segmentations, reports and the like, which archives keep beside it, are no series.

    Raises
    ------
    ScanError
        If there is no series, or more than one.
    """
    series = _series_of(folder)
    if not series:
        raise ScanError(f"{folder} holds no DICOM series; name the folder whose files are the slices")
    if len(series) > 1:
        raise ScanError(f"{folder} holds {len(series)} DICOM series; keep one series a folder")
    try:
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(itk_name(folder), series[0])
    except RuntimeError as error:
        raise unreadable(folder, error) from error
    return [Path(name) for name in names]


@apart
def read_series_header(folder: Path) -> Geometry:
    """Read the geometry of a DICOM series from the headers of its slices.

    Raises
    ------
    ScanError
        If there is not exactly one series, slices differ, one is missing, or a file holds more than a slice: ITK
        does not read the position of each frame.
    """
    files = series_files(folder)
    grant(_ROOM_FOR_BYTES * sum(file.stat().st_size for file in files))
    slices = [_open_slice(file) for file in files]
    if len(files) < 2:
        raise ScanError(f"{folder} holds a single DICOM slice; give the whole series")
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


@apart
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
    files = series_files(folder)
    stored = sum(file.stat().st_size for file in files)
    # ITK's type for scaled voxels has 8 bytes at most.
    grant(_ROOM_FOR_BYTES * max(stored, 8 * math.prod(geometry.size)))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([itk_name(file) for file in files])
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise unreadable(folder, error) from error
    array = sitk.GetArrayFromImage(image)
    if array.shape != geometry.size[::-1]:
        raise ScanError(f"{folder} holds slices that are not plain 2D images; export it as one image a file")
    return array, geometry


@apart
def _series_of(folder: Path) -> tuple[str, ...]:
    name = itk_name(folder)
    grant(_ROOM_FOR_BYTES * sum(file.stat().st_size for file in folder.iterdir() if file.is_file()))
    others = {file.name for file in folder.iterdir() if _is_no_scan(file)}
    try:
        series = tuple(sitk.ImageSeriesReader.GetGDCMSeriesIDs(name))
        if others:
            files = {one: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(name, one) for one in series}
            series = tuple(one for one in series if not {Path(file).name for file in files[one]} <= others)
    except RuntimeError as error:
        raise unreadable(folder, error) from error
    return series


def _is_marked(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def _is_no_scan(file: Path) -> bool:
    return sop_class(file).startswith(_NO_SCANS)


def _head(file: Path) -> bytes:
    """Return the start of a file, where a DICOM file says what it is; nothing of what cannot be read."""
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as opened:
            return opened.read(2**12)
    except OSError:
        return b""


def _open_slice(file: Path) -> sitk.ImageFileReader:
    reader = open_header(file)
    if len(reader.GetSize()) > 2 and math.prod(reader.GetSize()[2:]) > 1:
        raise ScanError(
            f"{file} is a DICOM file of {math.prod(reader.GetSize()[2:])} frames, whose places ITK does not read; "
            "convert it to NIfTI with dcm2niix"
        )
    stored = file.stat().st_size
    if claimed_bytes(reader) > stored * _MOST_PACKED or (_is_plain(file) and _stored_bytes(reader) > stored):
        raise ScanError(f"{file} cannot be read (cut off, or its header is damaged); copy the series again")
    return reader


def _is_plain(file: Path) -> bool:
    """Tell whether a file's transfer syntax packs nothing."""
    found = re.search(rb"\x02\x00\x10\x00UI..([0-9.]+)", _head(file), re.DOTALL)
    return found is None or found[1].decode() in _PLAIN


def _stored_bytes(reader: sitk.ImageFileReader) -> int:
    """Return how many bytes a plain slice takes; ITK has it in a larger type where it scales it."""
    bits = reader.GetMetaData("0028|0100").strip() if reader.HasMetaDataKey("0028|0100") else ""
    return math.prod(reader.GetSize()) * (int(bits) if bits.isdecimal() else 8) // 8
