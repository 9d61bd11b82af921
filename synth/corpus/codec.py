"""Chunks: values to bytes and back, as Zarr's codecs do it, one chunk at a time and into memory that is there.

Decoding trusts nothing: the checksum first, then the size that a frame says it has, before anything is allocated.
"""

import itertools
import struct
from collections.abc import Sequence

import numcodecs.blosc
import numcodecs.zstd
import numpy as np
from google_crc32c import value as crc32c

from scans import memory
from scans.errors import StoreError
from synth.corpus.layout import BLOSC, PLAIN, Array

SUM = 4  # bytes of a CRC-32C behind each chunk
MISSING = 2**64 - 1  # in a shard's index: there is no such chunk
# Blosc 1: version, version of the compressor, flags, type size, bytes, bytes of a block, compressed bytes.
_BLOSC_HEADER = struct.Struct("<BBBBIII")
_COPIED = 2  # a flag: what does not compress is copied, not in blocks
_MOST_BLOCKS = 2**12
_IN_BLOSC = {"lz4": 1, "zstd": 4}  # upper three of its flags
_RESIDUE = crc32c(bytes(SUM))  # that of any bytes with their own CRC-32C behind them
SLACK = 2**12  # bytes that encoding may add to what does not compress, at the most

numcodecs.blosc.set_nthreads(1)  # workers are processes, loaders threads; more threads within them only contend


def encode(array: Array, values: np.ndarray, level: int | None = None) -> bytes:
    """Encode one chunk of an array, or one file if it is not sharded.

    Parameters
    ----------
    array : Array
    values : ndarray
        Of the array's type, C order, as many as the chunk holds.
    level : int, optional
        Of the compression; the array's own if not given.
    """
    if array.codec == "plain":
        content = numcodecs.zstd.compress(values, level or PLAIN["level"])
    else:
        name, level = str(BLOSC[array.codec]["cname"]).encode(), level or BLOSC[array.codec]["clevel"]
        content = numcodecs.blosc.compress(values, name, level, numcodecs.blosc.SHUFFLE, 0, array.itemsize)
    content = bytes(content)
    return content + crc32c(content).to_bytes(SUM, "little")


def decode(array: Array, content: bytes, out: np.ndarray | None = None) -> np.ndarray:
    """Decode one chunk of an array, or one file if it is not sharded.

    Parameters
    ----------
    array : Array
    content : bytes
    out : ndarray, optional
        Contiguous, of the array's type and the chunk's size: written and returned, so that nothing is allocated.

    Returns
    -------
    ndarray
        Flat unless `out` is given.

    Raises
    ------
    StoreError
        If the checksum differs, or the chunk is not what the array holds; the message has no place in it.
    """
    body = _checked(array, content)
    if out is None:
        out = memory.empty(array.chunk_bytes // array.itemsize, array.dtype)
    target = out.reshape(-1).view(np.uint8)
    try:
        if array.codec == "plain":
            numcodecs.zstd.decompress(body, target)
        else:
            numcodecs.blosc.decompress(body, target)
    except (RuntimeError, ValueError) as error:
        raise StoreError("a chunk cannot be decoded") from error
    return out


def blocks_of(array: Array, content: bytes) -> list[int]:
    """Say where the blocks of a chunk of Blosc lie, each encoded by itself: equal bytes, equal values.

    Returns
    -------
    list of int
        Where each begins, and where the last one ends; they have as many values each. Empty if the chunk is kept in
        another form.

    Raises
    ------
    StoreError
        If the checksum differs, or the chunk is not what the array holds.
    """
    body = _checked(array, content)
    *_, flags, _, size, block, packed = _BLOSC_HEADER.unpack_from(body)
    count = size // block if block else 0
    first = _BLOSC_HEADER.size + 4 * count
    whole = count * block == size and block % array.itemsize == 0
    if flags & _COPIED or not 0 < count <= _MOST_BLOCKS or not whole or first >= packed:
        return []
    ends = [*struct.unpack_from(f"<{count}i", body, _BLOSC_HEADER.size), packed]
    in_order = ends[0] == first and all(low < high for low, high in itertools.pairwise(ends))
    return ends if in_order else []


def decode_blocks(content: bytes, ends: Sequence[int], out: np.ndarray) -> None:
    """Decode some blocks of a chunk, one behind the other: into memory that is there, all they hold.

    Parameters
    ----------
    content : bytes
    ends : sequence of int
        Consecutive ones of those that `blocks_of` returns.
    out : ndarray
        Contiguous, of their size.

    Raises
    ------
    StoreError
        If they are none.
    """
    *kind, _, block, _ = _BLOSC_HEADER.unpack_from(content)
    count = len(ends) - 1
    start = _BLOSC_HEADER.size + 4 * count  # of a chunk of these blocks and no others
    header = _BLOSC_HEADER.pack(*kind, block * count, block, start + ends[-1] - ends[0])
    starts = struct.pack(f"<{count}i", *(start + end - ends[0] for end in ends[:-1]))
    try:
        numcodecs.blosc.decompress(b"".join([header, starts, memoryview(content)[ends[0] : ends[-1]]]), out)
    except (RuntimeError, ValueError) as error:
        raise StoreError("a chunk cannot be decoded") from error


def _checked(array: Array, content: bytes) -> memoryview:
    """Return a chunk without its checksum; refuse one whose checksum differs, or that holds something else."""
    if len(content) <= SUM or crc32c(content) != _RESIDUE:
        raise StoreError("a chunk is damaged (its CRC-32C differs)")
    body = memoryview(content)[:-SUM]
    _check_size(array, body)
    return body


def _check_size(array: Array, body: memoryview) -> None:
    """Refuse a chunk whose own header asks for other than the chunk's bytes."""
    expected = array.chunk_bytes
    if array.codec != "plain":
        if len(body) < _BLOSC_HEADER.size:
            raise StoreError("a chunk is too short")
        _, _, flags, item, size, block, packed = _BLOSC_HEADER.unpack_from(body)
        known = _IN_BLOSC[str(BLOSC[array.codec]["cname"])]
        if size != expected or packed != len(body) or item != array.itemsize or flags >> 5 != known or block > size:
            raise StoreError(f"a chunk says that it holds {size} bytes of another kind, not {expected}")
    elif (size := frame_bytes(body)) != expected:
        raise StoreError(f"a chunk says that it holds {size} bytes, not {expected}")


def frame_bytes(body: memoryview) -> int:
    """Return the content size in the header of a Zstandard frame (RFC 8878, 3.1.1.1), or -1 if there is none."""
    if len(body) < 6 or body[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    descriptor = body[4]
    single, dictionary = descriptor >> 5 & 1, (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (0 if single else 1) + dictionary
    field = body[start : start + width]
    if not width or len(field) < width:
        return -1
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


def encode_index(places: np.ndarray) -> bytes:
    """Encode the index of a shard: (offset, length) of each chunk, uint64, and its CRC-32C.

    Parameters
    ----------
    places : ndarray of uint64, shape (chunks of the shard, 2)
    """
    content = places.astype("<u8", copy=False).tobytes()
    return content + crc32c(content).to_bytes(SUM, "little")


def index_bytes(array: Array) -> int:
    """Return the size of a shard's index."""
    return array.rows * array.chunks * 16 + SUM


def decode_index(array: Array, content: bytes, end: int) -> np.ndarray:
    """Decode and check the index of a shard.

    Parameters
    ----------
    array : Array
    content : bytes
        The last :func:`index_bytes` of the file.
    end : int
        Where in the file the index begins: chunks lie before it.

    Returns
    -------
    ndarray of int64, shape (rows * chunks, 2)
        Offset and length; (-1, -1) where there is no chunk.

    Raises
    ------
    StoreError
        If it is damaged, or names bytes outside the file, or more than a chunk can take.
    """
    body = content[:-SUM]
    if len(content) != index_bytes(array) or crc32c(body) != int.from_bytes(content[-SUM:], "little"):
        raise StoreError("its index is damaged")
    places = np.frombuffer(body, "<u8").reshape(-1, 2)
    missing = (places == np.uint64(MISSING)).all(axis=1)
    there = places[~missing]
    most = np.uint64(array.chunk_bytes + array.chunk_bytes // 128 + SLACK)
    if (there > np.uint64(end)).any() or (there.sum(axis=1) > end).any() or (there[:, 1] > most).any():
        raise StoreError("its index names bytes that are not there")
    return np.where(missing[:, None], np.int64(-1), places.astype(np.int64))
