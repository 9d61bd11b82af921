"""Read a dense sample: what it shares with its normal is decoded once, whatever the number of samples.

A dense corpus holds a normal again with each of its samples, and the sources beside them, encoded alike. So a normal
whose bytes are its source's is not decoded, nor read when the sample is read again; and of a composite only the
blocks are decoded whose bytes are others: half of them, where the tumour lies.
"""

import functools
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scans import memory
from scans.errors import StoreError
from synth.corpus.codec import blocks_of, decode, decode_blocks
from synth.corpus.layout import source_arrays
from synth.corpus.shard_reader import Rows
from synth.tumour.blend import write, write_twice
from synth.tumour.sample import Sample

MOST_SOURCES = 64  # that a reader keeps, decoded and encoded: at 128 voxels 6 MB each


@dataclass(frozen=True, eq=False)
class Known:
    """A source as a dense corpus holds it.

    Attributes
    ----------
    voxels : ndarray of float16, shape (n,)
    head : bytes
        What stands in its chunk before the blocks.
    blocks : list of bytes
        Of its chunk, see `synth.corpus.codec.blocks_of`.
    """

    voxels: np.ndarray
    head: bytes
    blocks: list[bytes]

    def is_in(self, content: bytes) -> bool:
        """Say whether a chunk is the source's, byte for byte; its checksum is not looked at."""
        ends = itertools.accumulate(map(len, self.blocks), initial=len(self.head))
        return content.startswith(self.head) and all(map(content.startswith, self.blocks, ends))


class DenseReader:
    """Reads samples into arrays that are there; thread-safe.

    Parameters
    ----------
    rows : Rows
        Of the corpus.
    samples : int
        Of the corpus.
    """

    def __init__(self, rows: Rows, samples: int) -> None:
        self._rows = rows
        self._own = threading.local()
        self._known = functools.lru_cache(maxsize=MOST_SOURCES)(self._known_source)
        self._compared = np.zeros(samples, bool)  # those whose normal was found to be its source

    def read(self, index: int, position: int, out: Sample) -> None:
        """Write the volumes of sample `index`, whose normal is source `position`."""
        known = self._known(position)
        contiguous = out.normal.flags.c_contiguous and out.composite.flags.c_contiguous
        if known is not None and contiguous and self._is_source(index, known):
            self._lay_out(index, known, out.normal.reshape(-1), out.composite.reshape(-1))
        else:
            self._volume("normal", index, out.normal)
            self._volume("composite", index, out.composite)
        self._volume("texture", index, out.texture)
        self._volume("mask", index, out.mask)

    def _is_source(self, index: int, known: Known) -> bool:
        """Say whether a sample's normal is its source; read it only until it was found to be."""
        if not self._compared[index]:
            self._compared[index] = self._rows.chunk("normal", index, known.is_in)
        return bool(self._compared[index])

    def _lay_out(self, index: int, known: Known, normal: np.ndarray, composite: np.ndarray) -> None:
        """Write normal and composite, block by block: the source's, or another."""
        array, size = self._rows.arrays["composite"], len(known.voxels) // len(known.blocks)

        def lay(content: bytes) -> None:
            ends, own = blocks_of(array, content), [False] * len(known.blocks)
            if len(ends) == len(own) + 1:
                sides = zip(known.blocks, itertools.pairwise(ends), strict=True)
                own = [
                    len(block) == last - first and content.startswith(block, first) for block, (first, last) in sides
                ]
            if not any(own):
                write(known.voxels, normal)
                self._decoded(functools.partial(decode, array, content), composite)
                return
            for number, same in enumerate(own):  # one by one: a block is still in the core's cache when it is widened
                part = slice(number * size, (number + 1) * size)
                if same:
                    write_twice(known.voxels[part], normal[part], composite[part])
                else:
                    write(known.voxels[part], normal[part])
                    block = functools.partial(decode_blocks, content, ends[number : number + 2])
                    self._decoded(block, composite[part])

        self._rows.chunk("composite", index, lay)

    def _decoded(self, decoding: Callable[[np.ndarray], object], out: np.ndarray) -> None:
        """Write what is decoded, float16, into an array of any float type."""
        if out.dtype == np.float16:
            decoding(out)
            return
        scratch = self._scratch(len(out))
        decoding(scratch)
        write(scratch, out)

    def _volume(self, name: str, index: int, out: np.ndarray) -> None:
        array = self._rows.arrays[name]
        if (out.dtype, out.shape) == (array.dtype, array.row) and out.flags.c_contiguous:
            self._rows.values(name, index, out.size, out.reshape(-1))
            return
        scratch = self._scratch(out.size) if array.dtype == "float16" else None
        values = self._rows.values(name, index, out.size, scratch)
        planes = values.reshape(len(out), -1)
        words = planes.view(np.uint64 if planes.nbytes % (8 * len(planes)) == 0 else np.uint8)
        filled = np.flatnonzero(words.max(axis=1))
        first, last = (filled[0], filled[-1] + 1) if len(filled) else (0, 0)  # of a texture, most planes are empty
        out[:first] = 0
        write(values.reshape(array.row)[first:last], out[first:last])
        out[last:] = 0

    def _scratch(self, count: int) -> np.ndarray:
        """Return memory of this thread's own, which is used again: fresh memory costs more than decoding."""
        own: np.ndarray | None = getattr(self._own, "values", None)
        if own is None or len(own) < count:
            own = self._own.values = memory.empty(count, np.float16)
        return own[:count]

    def _known_source(self, position: int) -> Known | None:
        """Decode a source; None if it cannot be, or is not in blocks: then each sample's own normal is read."""
        array = source_arrays(self._rows.arrays["normal"].row[0])["normal"]
        try:
            content = self._rows.source_chunk("normal", position)
            ends = blocks_of(array, content)
            blocks = [content[first:last] for first, last in itertools.pairwise(ends)]
            return Known(decode(array, content), content[: ends[0]], blocks) if blocks else None
        except (OSError, StoreError):
            return None
