"""Columns: recipes in few bytes, exactly: column by column, each number no wider than it must be.

A table of N recipes becomes one record a column, in the order of `synth.tumour.recipe.COLUMNS` without ``index``, which
the manifest knows. A record begins with its form (1 byte) and a base (int64, little endian):

====== =================================================== =====================
form   number                                              planes
====== =================================================== =====================
0 to 8 whole: base + n                                     so many, of n
16     decimal: m / 10**e, as drawn numbers are            4 of m - base, 1 of e
17     float64: its bits, those of the column before taken off (XOR) for ``volume_mm3`` 8
====== =================================================== =====================

Plane k holds byte k of each number (the lowest first), N bytes, as one frame of Zstandard behind its length (uint32).
So a column that is the same throughout takes a few bytes, and drawn digits take no more than their own.
"""

import dataclasses
import struct
from collections.abc import Iterator

import numcodecs.zstd
import numpy as np

from scans.errors import StoreError
from synth.corpus.codec import frame_bytes
from synth.tumour.recipe import COLUMNS, Recipe

_DECIMAL, _REAL = 16, 17
_LEVEL = 19  # written once, read seldom
_RECORD, _LENGTH = struct.Struct("<Bq"), struct.Struct("<I")
_TENS = np.array([float(10**power) for power in range(23)])  # exact, so that m / 10**e is rounded once
_WHOLE = {field.name for field in dataclasses.fields(Recipe) if field.type in (int, "int")}
STORED = COLUMNS[1:]
_BEFORE = {"volume_mm3": "drawn_volume_mm3"}  # mostly the same number


def encode_recipes(rows: np.ndarray) -> bytes:
    """Encode recipes.

    Parameters
    ----------
    rows : ndarray of float64, shape (n, columns)
        In the order of `COLUMNS`, numbers that `Recipe` allows.
    """
    records = []
    for name in STORED:
        values = np.ascontiguousarray(rows[:, COLUMNS.index(name)])
        if name in _WHOLE:
            base = int(values.min())
            numbers = (values - base).astype("<u8")
            form = (int(numbers.max()).bit_length() + 7) // 8
            planes = _planes(numbers, form)
        elif name not in _BEFORE and (digits := _decimal(values)) is not None:
            form, base = _DECIMAL, int(digits[0].min())
            planes = _planes((digits[0] - base).astype("<u8"), 4) + _planes(digits[1].astype("<u8"), 1)
        else:
            form, base = _REAL, 0
            planes = _planes(values.view("<u8") ^ _before(name, rows), 8)
        frames = [bytes(numcodecs.zstd.compress(plane, _LEVEL)) for plane in planes]
        records += [_RECORD.pack(form, base), *(_LENGTH.pack(len(frame)) + frame for frame in frames)]
    return b"".join(records)


def decode_recipes(content: bytes, indices: np.ndarray) -> np.ndarray:
    """Decode recipes from an untrusted place.

    Parameters
    ----------
    content : bytes
    indices : ndarray of int64, shape (n,)
        The column ``index``.

    Returns
    -------
    ndarray of float64, shape (n, columns)
        Whole numbers where `Recipe` has them; anything else may be wrong.

    Raises
    ------
    StoreError
        If it is not what `encode_recipes` writes for n recipes; the message has no place in it.
    """
    rows = np.empty((len(indices), len(COLUMNS)), np.float64)
    rows[:, 0] = indices
    reading = _Reading(content, len(indices))
    for name in STORED:
        form, base = _RECORD.unpack(reading.take(_RECORD.size))
        column = rows[:, COLUMNS.index(name)]
        if name in _WHOLE and form <= 8:
            numbers = reading.numbers(form)
            if abs(base) > 2**53 or (numbers > 2**53).any():
                raise StoreError("its recipes hold numbers that cannot be")
            column[:] = base + numbers.astype(np.int64)
        elif name not in _WHOLE and form == _DECIMAL and abs(base) < 2**53:
            digits, places = base + reading.numbers(4).astype(np.int64), reading.numbers(1)
            if (places >= len(_TENS)).any():
                raise StoreError("its recipes hold numbers that cannot be")
            column[:] = digits / _TENS[places.astype(np.int64)]
        elif name not in _WHOLE and form == _REAL:
            column[:] = (reading.numbers(8) ^ _before(name, rows)).view("<f8")
        else:
            raise StoreError("its recipes are of a form that this program does not know")
    reading.end()
    return rows


class _Reading:
    """Takes the parts of an encoded table one behind the other."""

    def __init__(self, content: bytes, count: int) -> None:
        self._content, self._count, self._at = memoryview(content), count, 0

    def take(self, length: int) -> memoryview:
        part = self._content[self._at : self._at + length]
        if len(part) < length:
            raise StoreError("its recipes are cut short")
        self._at += length
        return part

    def numbers(self, width: int) -> np.ndarray:
        """Return numbers of `width` planes, uint64."""
        planes = np.zeros((self._count, 8), np.uint8)
        for byte in range(width):
            planes[:, byte] = self._plane()
        return planes.view("<u8").reshape(-1)

    def _plane(self) -> np.ndarray:
        frame = self.take(_LENGTH.unpack(self.take(_LENGTH.size))[0])
        plane = np.empty(self._count, np.uint8)
        if frame_bytes(frame) != self._count:
            raise StoreError("its recipes are not as many as there must be")
        try:
            numcodecs.zstd.decompress(frame, plane)
        except (RuntimeError, ValueError) as error:
            raise StoreError("its recipes cannot be decoded") from error
        return plane

    def end(self) -> None:
        if self._at != len(self._content):
            raise StoreError("its recipes are followed by something else")


def _planes(numbers: np.ndarray, width: int) -> list[np.ndarray]:
    """Return the lowest bytes of numbers (uint64), one array for each."""
    return [np.ascontiguousarray(plane) for plane in numbers.view(np.uint8).reshape(-1, 8).T[:width]]


def _before(name: str, rows: np.ndarray) -> np.ndarray:
    """Return the bits that a column's numbers are told apart from, uint64."""
    if name not in _BEFORE:
        return np.zeros(len(rows), "<u8")
    return np.ascontiguousarray(rows[:, COLUMNS.index(_BEFORE[name])]).view("<u8")


def _decimal(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (m, e), int64, such that each value is the float64 nearest to m / 10**e; None if one has more digits."""
    digits, places = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    left = np.ones(len(values), bool)
    for power, ten in enumerate(_TENS):
        with np.errstate(over="ignore"):
            scaled = np.rint(values * ten) + 0.0  # no -0
        found = left & (np.abs(scaled) < 2**31) & ((scaled / ten).view("<i8") == values.view("<i8"))
        digits[found], places[found] = scaled[found].astype(np.int64), power
        left &= ~found
    return None if left.any() else (digits, places)


def groups(shards: int, shard_size: int) -> Iterator[range]:
    """Yield the shards whose recipes are encoded together: enough for a good ratio, few enough to be read for one."""
    each = max(1, 4096 // shard_size)
    return (range(first, min(first + each, shards)) for first in range(0, shards, each))
