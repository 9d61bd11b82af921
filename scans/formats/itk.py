"""Read MetaImage and NRRD with SimpleITK, in a process of its own, and what that needs whatever the format.

Sizes, spacings, origins and directions are ITK's here: (x, y, z), LPS.
"""

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from scans.errors import ScanError
from scans.formats.apart import apart, grant
from scans.formats.stored import MOST_VOXELS, three_sides
from scans.formats.text_header import TextHeader, read_text_header

_PIECE = 2**20  # bytes
_PLAUSIBLE = 4  # times as many bytes as are stored: what a header may claim of packed voxels before they are counted
_ROOM_FOR_BYTES = 4  # bytes a reader may take for each of the file, or of its unpacked voxels
_MOST_PACKED = 1032  # times, by deflate
_COLOURS = {3: "RGB", 4: "RGBA"}

# Errors are told in one sentence; ITK's own warnings on stderr would only blur it.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


@dataclass(frozen=True)
class Geometry:
    """ITK's description of a 3D grid: size in voxels, spacing and origin in mm, nine direction cosines."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]


def itk_name(path: Path) -> str:
    """Return a path as SimpleITK takes it; any other ends the process.

    Raises
    ------
    ScanError
        If it is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ScanError(f"{path} has a name that is not UTF-8, which ITK cannot open; rename it") from error
    return str(path)


def unreadable(path: Path, error: Exception) -> ScanError:
    """Return what to say of an error of ITK's: its last line, the others name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1].rpartition("ERROR: ")[2].rstrip(".") if lines else "no reason given"
    return ScanError(f"{path} cannot be read ({reason}); copy or export it again")


def open_header(path: Path) -> sitk.ImageFileReader:
    """Return a reader that has read the header of a file.

    Raises
    ------
    ScanError
        If it cannot, or the voxels are not single real numbers, or too many.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise unreadable(path, error) from error
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    components = reader.GetNumberOfComponents()
    if "complex" in kind:
        raise ScanError(f"{path} holds complex numbers; export it with one real number a voxel")
    if components != 1 or "vector" in kind:
        what = f"{_COLOURS[components]} colours" if components in _COLOURS and " 8-bit un" in kind else "vectors"
        raise ScanError(f"{path} holds {what} ({components} numbers a voxel); export it with one")
    if min(reader.GetSize()) < 1 or math.prod(reader.GetSize()) > MOST_VOXELS:
        sides = " x ".join(map(str, reader.GetSize()))
        raise ScanError(f"{path} claims {sides} voxels; its header is damaged, export it again")
    return reader


def claimed_bytes(reader: sitk.ImageFileReader) -> int:
    """Return how many bytes ITK will make room for, from a reader of `open_header`."""
    bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    return math.prod(reader.GetSize()) * (int(bits[1]) // 8 if bits else 8)


@apart
def read_file_header(path: Path) -> Geometry:
    """Read the geometry of a MetaImage or NRRD file; a fourth side of 1 is dropped.

    Raises
    ------
    ScanError
        If it cannot be read, is not one 3D volume of real numbers, or claims more voxels than it has.
    """
    header = read_text_header(path)
    stored = sum(file.stat().st_size for file in {path, *header.names})
    grant(_ROOM_FOR_BYTES * stored)
    reader = open_header(path)
    size = three_sides(path, reader.GetSize())
    _check_claim(path, header, claimed_bytes(reader), math.prod(size))
    grant(_ROOM_FOR_BYTES * max(stored, claimed_bytes(reader)))
    dimension = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3].ravel()
    x, y, z = reader.GetSpacing()[:3]
    ox, oy, oz = reader.GetOrigin()[:3]
    return Geometry(size, (x, y, z), (ox, oy, oz), tuple(direction.tolist()))


@apart
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
        image = sitk.ReadImage(itk_name(path))
    except RuntimeError as error:
        raise unreadable(path, error) from error
    return sitk.GetArrayFromImage(image).reshape(geometry.size[::-1]), geometry


def _check_claim(path: Path, header: TextHeader, claimed: int, voxels: int) -> None:
    """Stop before ITK makes room for voxels that are not there."""
    # Of a slice of several axes NRRD's names may stand behind each other; the last byte of all counts.
    stored = sum(file.stat().st_size for file in header.names) or path.stat().st_size - header.offset
    packing = header.fields.get("encoding", "raw").lower()
    if header.form == "MetaImage":
        yes = ("true", "1")
        packed = header.fields.get("compresseddata", "").lower() in yes
        packing = "gzip" if packed else "raw"
        if header.fields.get("binarydata", "true").lower() not in yes and not packed:
            packing = "text"
    if packing in ("gz", "gzip"):
        there = stored * _PLAUSIBLE
        if there < claimed <= stored * _MOST_PACKED:
            there = _unpacked_bytes(path, header, claimed)
    else:
        there = {"hex": stored // 2, "raw": stored}.get(packing, claimed if stored >= 2 * voxels - 1 else stored)
    if there < claimed:
        raise ScanError(f"{path} cannot be read (cut off, or its header is damaged); copy it again")


def _unpacked_bytes(path: Path, header: TextHeader, most: int) -> int:
    """Count the bytes that zlib or gzip packed, up to `most`; of several streams in a row, all."""
    count = 0
    for source in header.names or (path,):
        with source.open("rb") as file:
            file.seek(0 if header.names else header.offset)
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
            while count < most and (piece := unpacker.unconsumed_tail or unpacker.unused_data or file.read(_PIECE)):
                if unpacker.eof:
                    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
                try:
                    count += len(unpacker.decompress(piece, _PIECE))
                except zlib.error as error:
                    raise ScanError(f"{source} is damaged ({error}); copy or export it again") from error
    return count
