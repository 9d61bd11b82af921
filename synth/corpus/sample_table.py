"""The numbers of a corpus: recipe, alpha and box of every sample, read at once and checked."""

from collections.abc import Iterator

import numpy as np

from scans.errors import StoreError
from synth.corpus.codec import decode
from synth.corpus.layout import Array, sample_arrays
from synth.corpus.manifest import Manifest
from synth.corpus.receipt import Receipt
from synth.store.base import Readable


class SampleTable:
    """Reads the small arrays of a corpus.

    Parameters
    ----------
    store : Readable
    manifest : Manifest
    receipts : dict of int to Receipt
        Of the shards that are there.
    partial : bool
        Go on where numbers are missing, damaged or impossible.

    Raises
    ------
    StoreError
        If they are, and `partial` is false.

    Attributes
    ----------
    recipes : ndarray of float64, shape (N, columns)
        In the order of the manifest's columns; NaN where a sample's generator has no such number. 0 where a shard is
        missing or damaged, as in all of these.
    alpha : ndarray of float32, shape (N,)
    boxes : ndarray of int32, shape (N, 6), or None
        None in the layout ``dense``.
    normal, donor : ndarray of int, shape (N,)
        Positions of sources; -1 for numbers that are none.
    damaged : set of int
        Shards that are there without all their numbers.
    """

    def __init__(self, store: Readable, manifest: Manifest, receipts: dict[int, Receipt], partial: bool) -> None:
        self._store, self._manifest, self._receipts, self._partial = store, manifest, receipts, partial
        self.damaged: set[int] = set()
        self.recipes: np.ndarray = self._read("recipes")
        self.alpha: np.ndarray = self._read("alpha")
        self.boxes = self._read("box") if manifest.layout == "layered" else None
        self.normal: np.ndarray = self._positions("normal")
        self.donor: np.ndarray = self._positions("donor")
        self._check()

    def _read(self, name: str) -> np.ndarray:
        """Read the numbers of all samples, one row each; 0 where a shard is missing or damaged."""
        array, count = sample_arrays(self._manifest)[name], len(self._manifest)
        try:
            values = np.zeros((count, *array.row), array.dtype)  # takes no memory where nothing is written
        except MemoryError as error:
            raise StoreError(f"{self._store} announces {count} samples, which no memory here holds") from error
        keys = {array.key(shard): shard for shard in sorted(self._receipts)}
        found = self._store.read_many(keys, most_bytes(array))
        for key, shard in keys.items():
            indices = self._manifest.indices(shard)
            try:
                if key not in found:
                    raise StoreError("is missing")
                rows = decode(array, found[key]).reshape(array.rows, *array.row)
            except StoreError as error:
                if not self._partial:
                    raise StoreError(f"{self._store}/{key}: {error}; run synth verify") from error
                self.damaged.add(shard)
                continue
            values[indices.start : indices.stop] = rows[: len(indices)]
        return values

    def _positions(self, column: str) -> np.ndarray:
        """Return positions of sources, int; -1 for numbers that are none."""
        positions = np.zeros(len(self._manifest), int)
        for rows in self._present():
            values = self.recipes[rows, self._manifest.columns.index(column)]
            known = (values >= 0) & (values < len(self._manifest.sources))
            positions[rows] = np.where(known, values, -1)
        return positions

    def _present(self) -> Iterator[slice]:
        """Yield the samples that are there, many at a time; a stranger may announce any number of others."""
        if len(self._receipts) == self._manifest.shard_count:
            yield slice(0, len(self._manifest))
            return
        for shard in self._receipts:
            indices = self._manifest.indices(shard)
            yield slice(indices.start, indices.stop)

    def _check(self) -> None:
        """Refuse numbers that would lead outside the sources or the cube."""
        if self._partial:
            return
        wrong = (self.normal < 0) | (self.donor < 0) | ~((self.alpha >= 0) & (self.alpha <= 1))
        if self.boxes is not None:
            first, stop = self.boxes[:, ::2], self.boxes[:, 1::2]
            wrong |= ((first < 0) | (first >= stop) | (stop > self._manifest.size)).any(axis=1)
        if wrong.any():
            raise StoreError(f"{self._store}: sample {int(wrong.argmax())} has impossible numbers; run synth verify")


def most_bytes(array: Array) -> int:
    """Return the most bytes a file of one chunk may have."""
    return array.chunk_bytes + array.chunk_bytes // 64 + 2**14
