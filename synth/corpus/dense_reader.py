"""Read a dense sample: what it shares with its normal is decoded once, whatever the number of samples.

A dense corpus holds a normal again with each of its samples, and the sources beside them, encoded alike. So a normal
whose bytes are its source's is not decoded, and of a composite only the blocks whose bytes are others: half of them,
where the tumour lies.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from scans.errors import StoreError
from synth.corpus.codec import blocks_of, decode, decode_blocks
from synth.corpus.layout import Array, source_arrays
from synth.tumour.blend import write
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
    arrays : mapping of str to Array
        Of the corpus.
    values : callable
        Returns all values of a volume, from (name, index, array to write to or None).
    chunk : callable
        Returns what a function makes of a volume's chunk, from (name, index, function).
    source : callable
        Returns the chunk of a source's voxels by its position; StoreError if it is not there.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        values: Callable[[str, int, np.ndarray | None], np.ndarray],
        chunk: Callable[[str, int, Callable[[bytes], bool]], bool],
        source: Callable[[int], bytes],
    ) -> None:
        self._arrays, self._values, self._chunk, self._source = arrays, values, chunk, source
        self._own = threading.local()
        self._known = functools.lru_cache(maxsize=MOST_SOURCES)(self._known_source)

    def read(self, index: int, position: int, out: Sample) -> None:
        """Write the volumes of sample `index`, whose normal is source `position`."""
        known = self._known(position)
        contiguous = out.normal.flags.c_contiguous and out.composite.flags.c_contiguous
        if known is not None and contiguous and self._chunk("normal", index, known.is_in):
            self._lay_out(index, known, out.normal.reshape(-1), out.composite.reshape(-1))
        else:
            self._volume("normal", index, out.normal)
            self._volume("composite", index, out.composite)
        self._volume("texture", index, out.texture)
        self._volume("mask", index, out.mask)

    def _lay_out(self, index: int, known: Known, normal: np.ndarray, composite: np.ndarray) -> None:
        """Write normal and composite block by block, while a block is in the core's cache."""
        array, size = self._arrays["composite"], len(known.voxels) // len(known.blocks)

        def lay(content: bytes) -> bool:
            ends, own = blocks_of(array, content), [False] * len(known.blocks)
            if len(ends) == len(own) + 1:
                sides = zip(known.blocks, itertools.pairwise(ends), strict=True)
                own = [
                    len(block) == last - first and content.startswith(block, first) for block, (first, last) in sides
                ]
            for number, same in enumerate(own):
                part = slice(number * size, (number + 1) * size)
                write(known.voxels[part], normal[part])
                if same:
                    np.copyto(composite[part], normal[part])
            if not any(own):
                self._decoded(functools.partial(decode, array, content), composite)
                return True
            for same, run in itertools.groupby(range(len(own)), own.__getitem__):
                if not same:
                    first, *others = run
                    stop = (others or [first])[-1] + 1
                    blocks = functools.partial(decode_blocks, content, ends[first : stop + 1])
                    self._decoded(blocks, composite[first * size : stop * size])
            return True

        self._chunk("composite", index, lay)

    def _decoded(self, decoding: Callable[[np.ndarray], object], out: np.ndarray) -> None:
        """Write what is decoded, float16, into an array of any float type."""
        if out.dtype == np.float16:
            decoding(out)
            return
        scratch = self._scratch(len(out))
        decoding(scratch)
        write(scratch, out)

    def _volume(self, name: str, index: int, out: np.ndarray) -> None:
        array = self._arrays[name]
        if (out.dtype, out.shape) == (array.dtype, array.row) and out.flags.c_contiguous:
            self._values(name, index, out.reshape(-1))
            return
        values = self._values(name, index, self._scratch(out.size) if array.dtype == "float16" else None)
        planes = values.reshape(len(out), -1)
        words = planes.view(np.uint64 if planes.nbytes % (8 * len(planes)) == 0 else np.uint8)
        filled = np.flatnonzero(np.bitwise_or.reduce(words, axis=1))
        first, last = (filled[0], filled[-1] + 1) if len(filled) else (0, 0)  # of a texture, most planes are empty
        out[:first] = 0
        write(values.reshape(array.row)[first:last], out[first:last])
        out[last:] = 0

    def _scratch(self, count: int) -> np.ndarray:
        """Return memory of this thread's own, which is used again: fresh memory costs more than decoding."""
        own: np.ndarray | None = getattr(self._own, "values", None)
        if own is None or len(own) < count:
            own = self._own.values = np.empty(count, np.float16)
        return own[:count]

    def _known_source(self, position: int) -> Known | None:
        """Decode a source; None if it cannot be, or is not in blocks: then each sample's own normal is read."""
        array = source_arrays(self._arrays["normal"].row[0])["normal"]
        try:
            content = self._source(position)
            ends = blocks_of(array, content)
            blocks = [content[first:last] for first, last in itertools.pairwise(ends)]
            return Known(decode(array, content), content[: ends[0]], blocks) if blocks else None
        except (OSError, StoreError):
            return None
