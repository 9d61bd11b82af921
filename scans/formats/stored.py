"""Bytes of a file, plain or packed by gzip, read to the last one, with no more memory than there are bytes.

What a header claims is checked against the file's size before anything is made for it: a header that claims a thousand
times too much costs nothing.
"""

import gzip
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from isal import igzip, igzip_lib

from scans.errors import ScanError

MOST_VOXELS = 2**31  # a header that claims more is damaged, or a bomb
_PIECE = 2**20  # bytes
_MOST_PACKED = 1032  # bytes that gzip packs into one
_PACKED = (".gz", ".mgz")


def three_sides(path: Path, sides: Sequence[int]) -> tuple[int, int, int]:
    """Return the voxels along (x, y, z) that a header claims; further sides of 1 are dropped.

    Raises
    ------
    ScanError
        If it is no 3D volume, or has more voxels than there can be.
    """
    least = list(sides)
    while len(least) > 3 and least[-1] == 1:
        least.pop()
    said = " x ".join(map(str, least))
    if len(least) != 3:
        raise ScanError(f"{path} is {len(least)}D ({said}); give one 3D volume, e.g. split off the volume you mean")
    if min(least) < 1 or math.prod(least) > MOST_VOXELS:
        raise ScanError(f"{path} claims {said} voxels; its header is damaged, export it again")
    x, y, z = least
    return x, y, z


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read it from its start, unpacked where its suffix says that it is packed.

    Raises
    ------
    ScanError
        While it is read, if gzip finds it damaged or cut off.
    """
    packed = path.name.lower().endswith(_PACKED)
    with cast(BinaryIO, igzip.open(path)) if packed else path.open("rb") as file:
        try:
            yield file
        except (EOFError, gzip.BadGzipFile, igzip_lib.IsalError) as error:  # type: ignore[misc]  # its stub is wrong
            raise ScanError(f"{path} is damaged or cut off ({error}); copy or export it again") from error


def read_voxels(file: BinaryIO, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Read an array that lies `offset` bytes after where a file stands, and all that follows it.

    Parameters
    ----------
    file : binary file
        From `opened`, at its start.
    path : Path
        Its name, for errors.
    offset : int
        Bytes before the first voxel.
    shape : tuple of int
        Along (x, y, z), x fastest.
    dtype : dtype
        As stored, with its byte order.

    Returns
    -------
    ndarray, shape (z, y, x)
        In its stored type and this machine's byte order.

    Raises
    ------
    ScanError
        If the voxels are cut off.
    """
    needed, size = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size
    if isinstance(file, gzip.GzipFile):
        if size * _MOST_PACKED < needed:
            raise _cut_off(path, sum(map(len, iter(partial(file.read, _PIECE), b""))), offset + needed)
    elif size < offset + needed:
        raise _cut_off(path, size, offset + needed)
    passed = 0
    while passed < offset:
        piece = file.read(min(_PIECE, offset - passed))
        if not piece:
            raise _cut_off(path, passed, offset + needed)
        passed += len(piece)
    content = np.empty(needed, np.uint8)  # a page of it takes memory once something is written there
    room, filled = content.data, 0
    while filled < needed:
        if not (count := cast(Any, file).readinto(room[filled : filled + _PIECE])):
            raise _cut_off(path, offset + filled, offset + needed)
        filled += count
    while file.read(_PIECE):  # gzip checks its sum only at the end
        pass
    array = content.view(dtype).reshape(shape[::-1])
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array


def _cut_off(path: Path, there: int, needed: int) -> ScanError:
    return ScanError(f"{path} is cut off: {there} of {needed} bytes are there; copy it again")
