"""Read one array of a corpus row by row: the index of a shard once, then only the chunks asked for."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from scans.errors import StoreError
from synth.corpus.codec import decode, decode_index, index_bytes
from synth.corpus.layout import Array
from synth.store.base import Readable

_MOST_INDEX_BYTES = 2**24  # kept; an index is 1 kB for a dense array, 64 kB for a tumour's voxels


class ShardReader:
    """Reads rows of a sharded array; thread-safe.

    Parameters
    ----------
    store : Readable
    array : Array
    size_of : callable
        Returns the size of a shard's file from (shard, key), as its receipt says.
    """

    def __init__(self, store: Readable, array: Array, size_of: Callable[[int, str], int]) -> None:
        self._store, self._array, self._size_of = store, array, size_of
        self._indexes: OrderedDict[int, np.ndarray] = OrderedDict()
        self._most = max(16, _MOST_INDEX_BYTES // index_bytes(array))
        self._lock = threading.Lock()

    def read(self, shard: int, place: int, count: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read the first values of a row.

        Parameters
        ----------
        shard, place : int
            The shard, and which of its rows.
        count : int
            Values wanted.
        out : ndarray, optional
            Flat, of the array's type, as long as a row: written over, so that nothing is allocated.

        Returns
        -------
        ndarray of shape (count,)

        Raises
        ------
        StoreError
            If the file is missing or damaged.
        """
        array, length = self._array, math.prod(self._array.chunk)
        chunks = self.chunks(shard, place, -(-count // length))
        if out is None:
            out = np.empty(len(chunks) * length, array.dtype)
        for number, chunk in enumerate(chunks):
            try:
                decode(array, chunk, out[number * length : (number + 1) * length])
            except StoreError as error:
                raise StoreError(f"{array.key(shard)}: {error}") from error
        return out[:count]

    def chunks(self, shard: int, place: int, chunks: int) -> list[bytes]:
        """Return the first chunks of a row as they are stored; parameters and errors as of `read`."""
        key, first = self._array.key(shard), place * self._array.chunks
        places = self._index(shard, key)[first : first + chunks].tolist()
        if not places or min(places)[0] < 0:
            raise StoreError(f"{key}: a chunk is missing")
        start, stop = min(places)[0], max(at + size for at, size in places)
        together = stop - start == sum(size for _, size in places)  # as they are written; others are read one by one
        content = self._part(key, start, stop - start) if together else b""
        if not together:
            return [self._part(key, at, size) for at, size in places]
        return [content[at - start : at - start + size] for at, size in places]

    def _index(self, shard: int, key: str) -> np.ndarray:
        with self._lock:
            if shard in self._indexes:
                self._indexes.move_to_end(shard)
                return self._indexes[shard]
        length = index_bytes(self._array)
        end = self._size_of(shard, key) - length
        if end < 0:
            raise StoreError(f"{key}: is too short")
        try:
            index = decode_index(self._array, self._part(key, end, length), end)
        except StoreError as error:
            raise StoreError(f"{key}: {error}") from error
        with self._lock:
            self._indexes[shard] = index
            while len(self._indexes) > self._most:
                self._indexes.popitem(last=False)
        return index

    def _part(self, key: str, start: int, length: int) -> bytes:
        try:
            return self._store.read_part(key, start, length)
        except FileNotFoundError as error:
            raise StoreError(f"{key}: is missing") from error
