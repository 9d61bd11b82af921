"""Write one shard of a corpus, sample by sample: encoded chunks one behind the other, the receipt last.

A shard of Zarr v3 is a file of chunks that ends with an index: offset and length of each chunk, and a CRC-32C.
Chunks are appended as samples come, so that a worker holds one sample at a time, whatever the shard's size; and a
normal, which many samples share, is encoded once. `synth.corpus` and any Zarr reader read it back.
"""

import functools
import hashlib

import numpy as np

from scans.errors import StoreError
from scans.image.box import ends_of
from synth.corpus.codec import MISSING, encode, encode_index
from synth.corpus.layout import Array, sample_arrays
from synth.corpus.manifest import Manifest
from synth.corpus.receipt import Receipt, receipt_key, sample_digest
from synth.store.base import Growing, Store
from synth.tumour.sample import Layer, Normal, Tumour

MOST_ENCODED = 96  # normals that a process keeps encoded: at 128 voxels 2 MB each


class ShardWriter:
    """Writes the shard of consecutive samples; use as a context, which leaves nothing behind if it fails.

    Parameters
    ----------
    store : Store
        The corpus, laid out by `synth.corpus.creation.create`.
    manifest : Manifest
        What the corpus says of itself.
    shard : int
    """

    def __init__(self, store: Store, manifest: Manifest, shard: int) -> None:
        self._store, self._manifest, self._shard = store, manifest, shard
        self._arrays = sample_arrays(manifest, shard)
        self._files: dict[str, Growing] = {}
        self._places = {
            name: np.full((array.rows * array.chunks, 2), MISSING, "<u8")
            for name, array in self._arrays.items()
            if array.sharded
        }
        size = manifest.size
        self._canvas: dict[str, np.ndarray] = {name: np.zeros((size, size, size), self._arrays[name].dtype)
                        for name in ("composite", "texture", "mask") if name in self._arrays}  # fmt: skip
        self._numbers: dict[str, list[np.ndarray]] = {n: [] for n, a in self._arrays.items() if not a.sharded}
        self._content = hashlib.sha256()

    def __enter__(self) -> "ShardWriter":
        """Open its files."""
        try:
            for name in self._places:
                self._files[name] = self._store.create(self._arrays[name].key(self._shard))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not committed."""
        for file in self._files.values():
            file.discard()

    def add(self, row: np.ndarray, normal: Normal, layer: Layer | None, tumour: Tumour) -> None:
        """Append the next sample.

        Parameters
        ----------
        row : ndarray of float64, shape (columns,)
            Its recipe.
        normal : Normal
            The same object for all samples of one normal.
        layer : Layer or None
            Needed in the layout ``layered``.
        tumour : Tumour
            The layer as it lies over the normal.
        """
        place = len(self._numbers["recipes"])
        for name, chunks in self.encode(normal, layer, tumour).items():
            file, per_row = self._files[name], self._arrays[name].chunks
            for number, chunk in enumerate(chunks):
                self._places[name][place * per_row + number] = file.bytes, len(chunk)
                file.append(chunk)
        if layer is not None and "box" in self._numbers:
            self._numbers["box"].append(ends_of(layer.box))
        self._numbers["alpha"].append(np.array(tumour.alpha, np.float32))
        self._numbers["recipes"].append(row)
        self._content.update(sample_digest(normal_digest(normal), normal.voxels[tumour.box], tumour))

    def encode(self, normal: Normal, layer: Layer | None, tumour: Tumour) -> dict[str, list[bytes]]:
        """Return a sample's chunks by array; parameters as of `add`."""
        if self._manifest.layout == "layered":
            assert layer is not None
            values = {"form": np.packbits(layer.form.reshape(-1), bitorder="little"), "layer": layer.tissue}
            if "edge" in self._arrays:
                hard = np.full(layer.tissue.shape, 255, np.uint8)
                values["edge"] = hard if layer.edge is None else layer.edge
            return {name: _pieces(self._arrays[name], filled) for name, filled in values.items()}
        composite = self._canvas["composite"]
        composite[:] = normal.voxels
        composite[tumour.box] = tumour.composite
        chunks = {"composite": [encode(self._arrays["composite"], composite)], "normal": [_encoded_normal(normal)]}
        for name, crop in (("texture", tumour.texture), ("mask", tumour.mask)):
            canvas = self._canvas[name]
            canvas[tumour.box] = crop
            chunks[name] = [encode(self._arrays[name], canvas)]
            canvas[tumour.box] = 0
        return chunks

    def commit(self, content: str | None = None) -> Receipt:
        """Finish the files, then write the receipt.

        Parameters
        ----------
        content : str, optional
            What the receipt must say of the samples: they were there before, in these files or in another corpus.

        Returns
        -------
        Receipt

        Raises
        ------
        StoreError
            If the samples are others; no file has its name then.
        """
        for name, places in self._places.items():
            self._files[name].append(encode_index(places))
        count = len(self._numbers["recipes"])
        for name, rows in self._numbers.items():
            array = self._arrays[name]
            values = np.zeros((array.rows, *array.row), array.dtype)
            values[:count] = rows
            self._files[name] = self._store.create(array.key(self._shard))
            self._files[name].append(encode(array, values))
            if name != "box":
                self._content.update(values[:count].tobytes())
        if content is not None and self._content.hexdigest() != content:
            raise StoreError(
                f"{self._store}: shard {self._shard} would not hold the samples that a receipt says, bit for bit; run "
                "synth verify on what it is copied from, or make it with the versions its manifest names under software"
            )
        files = {self._arrays[name].key(self._shard): file.commit() for name, file in self._files.items()}
        self._store.flush(self._files)
        identity = self._manifest.shard_identity(self._shard)
        receipt = Receipt(self._shard, count, identity, files, self._content.hexdigest())
        self._store.write(receipt_key(self._shard), receipt.to_bytes())
        return receipt


@functools.lru_cache(maxsize=MOST_ENCODED)
def _encoded_normal(normal: Normal) -> bytes:
    """Return a normal's chunk in a dense corpus."""
    cube = normal.voxels.shape
    return encode(Array("normal", "float16", cube, cube, "scan", True, (), 1), normal.voxels)


@functools.lru_cache(maxsize=1024)
def normal_digest(normal: Normal) -> bytes:
    """Return the SHA-256 of a normal's voxels."""
    return hashlib.sha256(normal.voxels.tobytes()).digest()


def _pieces(array: Array, filled: np.ndarray) -> list[bytes]:
    """Encode the first values of a row as chunks; the last is filled up with zeros."""
    length = array.chunk[0]
    padded = np.zeros(-(-len(filled) // length) * length, array.dtype)
    padded[: len(filled)] = filled
    return [encode(array, padded[start : start + length]) for start in range(0, len(padded), length)]
