"""Read the arrays of a corpus row by row: the index of a shard once, then only the chunks asked for."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import numpy as np

from scans import memory
from scans.errors import StoreError
from synth.corpus.codec import decode, decode_index, index_bytes
from synth.corpus.layout import Array, sample_arrays, source_arrays
from synth.corpus.manifest import Manifest
from synth.corpus.receipt import Receipt
from synth.corpus.sample_table import most_bytes
from synth.store.base import Readable
from synth.store.cached import Cached

Read = TypeVar("Read")
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
            out = memory.empty(len(chunks) * length, array.dtype)
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


class Rows:
    """Reads what a corpus holds of a sample or a source, array by array, and says which cannot be read; thread-safe.

    Parameters
    ----------
    store : Readable
    manifest : Manifest
    receipts : mapping of int to Receipt
        By shard.
    damaged : collection of int
        Shards whose samples lack their numbers.

    Attributes
    ----------
    arrays : dict of str to Array
        Those of samples, by name.
    """

    def __init__(
        self, store: Readable, manifest: Manifest, receipts: Mapping[int, Receipt], damaged: Collection[int]
    ) -> None:
        self._store, self._manifest, self._receipts, self._damaged = store, manifest, receipts, damaged
        self.arrays = sample_arrays(manifest)
        sharded = [array for array in self.arrays.values() if array.sharded]
        self._readers = {array.name: ShardReader(store, array, self._file_size) for array in sharded}

    def has(self, name: str, index: int) -> bool:
        """Say whether the shard of sample `index` has an array."""
        if name not in self.arrays:
            return False
        shard, _ = self._manifest.locate(index)
        return self.arrays[name].key(shard) in self._receipts[shard].files

    def values(self, name: str, index: int, count: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return the first values of a sample's row; parameters and errors as of `ShardReader.read`."""
        return self._of_row(name, index, lambda reader, shard, place: reader.read(shard, place, count, out))

    def volume(self, name: str, index: int) -> np.ndarray:
        """Return an array of a dense sample, shape (z, y, x); StoreError if it cannot be read."""
        array = self.arrays[name]
        return self.values(name, index, math.prod(array.row)).reshape(array.row)

    def chunk(self, name: str, index: int, use: Callable[[bytes], Read]) -> Read:
        """Return what a function makes of the one chunk of a sample's row; StoreError if it cannot be read."""
        return self._of_row(name, index, lambda reader, shard, place: use(reader.chunks(shard, place, 1)[0]))

    def source(self, name: str, position: int) -> np.ndarray:
        """Return ``normal`` or ``roi`` of source `position`, shape (z, y, x); StoreError if it cannot be read."""
        array = source_arrays(self._manifest.size)[name]
        key = array.key(position)
        try:
            return self._read(key, lambda: decode(array, self.source_chunk(name, position)).reshape(array.row))
        except (FileNotFoundError, StoreError, MemoryError) as error:
            raise StoreError(f"{self._store}/{key} is missing or damaged ({error}); run synth verify") from error

    def source_chunk(self, name: str, position: int) -> bytes:
        """Return ``normal`` or ``roi`` of source `position` as it is stored; FileNotFoundError if it is not there."""
        array = source_arrays(self._manifest.size)[name]
        return self._store.read(array.key(position), most_bytes(array))

    def _of_row(self, name: str, index: int, read: Callable[[ShardReader, int, int], Read]) -> Read:
        """Return what is read of a row, from (reader, shard, place); tell which sample cannot be read."""
        shard, place = self._manifest.locate(index)
        reader, key = self._readers[name], self.arrays[name].key(shard)
        if shard in self._damaged:
            raise StoreError(f"{self._store}: sample {index} cannot be read (it lacks its numbers); run synth verify")
        try:
            return self._read(key, lambda: read(reader, shard, place))
        except (StoreError, OSError, MemoryError) as error:
            raise StoreError(f"{self._store}: sample {index} cannot be read ({error}); run synth verify") from error

    def _read(self, key: str, read: Callable[[], Read]) -> Read:
        """Call what reads from a file; once more if it may be the local copy of it that is damaged."""
        try:
            return read()
        except StoreError:
            if not isinstance(self._store, Cached):
                raise
            self._store.mend(key)
        return read()

    def _file_size(self, shard: int, key: str) -> int:
        if shard not in self._receipts:
            raise StoreError(f"shard {shard} is not there")
        return int(self._receipts[shard].files[key]["bytes"])
