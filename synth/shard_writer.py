"""Write one shard of a corpus, sample by sample: encoded chunks one behind the other, the receipt last.

A shard of Zarr v3 is a file of chunks that ends with an index: offset and length of each chunk, and a CRC-32C.
Chunks are appended as samples come, so that a worker holds one sample at a time, whatever the shard's size; and a
normal, which many samples share, is encoded once. `synth.corpus` and any Zarr reader read it back.
"""

import contextlib
import functools
import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numcodecs.zstd
import numpy as np
from google_crc32c import value as crc32c

from scans.durable import sync, write_text
from synth.corpus import VOLUMES, Receipt, receipt_file
from synth.place import tight_box
from synth.recipe import Recipe
from synth.sample import Tumour
from synth.sources import MOST_NORMALS, Source

DTYPES = {"composite": "float16", "normal": "float16", "texture": "float16", "mask": "uint8"}
LZ4 = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2}  # for dense voxels
ZSTD_LEVEL = 1  # for arrays that are mostly zero
_MISSING = 2**64 - 1  # in an index: no such chunk
_SEND = 2**24  # bytes of a file between two calls that start writing to disk

numcodecs.blosc.set_nthreads(1)  # workers are processes; threads beside them only contend


class _File:
    """One file of the shard, written under a temporary name that no other writer has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        self._file = self._temporary.open("wb")
        self._sum = hashlib.sha256()
        self.bytes = self._sent = 0

    def append(self, content: bytes) -> None:
        """Append a chunk and its CRC-32C, as the codec ``crc32c`` of Zarr v3."""
        for part in (content, crc32c(content).to_bytes(4, "little")):
            self._file.write(part)
            self._sum.update(part)
            self.bytes += len(part)
        if self.bytes - self._sent > _SEND and hasattr(os, "posix_fadvise"):  # macOS has none
            # The disk sets to work while the next samples are made; the pages are of no further use here.
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._sent = self.bytes

    def commit(self) -> dict[str, Any]:
        """Flush to disk, give it its name, and return what the receipt says of it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self.path)
        return {"bytes": self.bytes, "sha256": self._sum.hexdigest()}

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk, closing fails too
            self._file.close()
        self._temporary.unlink(missing_ok=True)


class ShardWriter:
    """Writes the shard of consecutive samples; use as a context, which leaves nothing behind if it fails.

    Parameters
    ----------
    path : Path
        The corpus, laid out by `synth.shards.create`.
    shard : int
    per_shard : int
        Samples of a full shard, K; the last of a corpus may hold fewer.
    size : int
        Voxels along a side.
    identity : str
        Of the corpus.
    """

    def __init__(self, path: Path, shard: int, per_shard: int, size: int, identity: str) -> None:
        self._path, self._shard, self._per_shard, self._identity = path, shard, per_shard, identity
        self._files = {name: _File(path / name / f"c.{shard}.0.0.0") for name in VOLUMES}
        self._places: dict[str, list[tuple[int, int]]] = {name: [] for name in VOLUMES}
        self._canvas = {name: np.zeros((size, size, size), dtype) for name, dtype in DTYPES.items()}
        self._rows: list[np.ndarray] = []
        self._alphas: list[float] = []
        self._content = hashlib.sha256()

    def __enter__(self) -> "ShardWriter":
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not committed."""
        for file in self._files.values():
            file.discard()

    def add(self, recipe: Recipe, normal: Source, tumour: Tumour) -> None:
        """Append the next sample."""
        for name, chunk in self.encode(normal, tumour).items():
            file = self._files[name]
            start = file.bytes
            file.append(chunk)
            self._places[name].append((start, file.bytes - start))
        self._rows.append(recipe.row())
        self._alphas.append(tumour.alpha)
        self._content.update(sample_digest(_encoded_normal(normal)[1], normal.normal[tumour.box], tumour))

    def encode(self, normal: Source, tumour: Tumour) -> dict[str, bytes]:
        """Return a sample's chunks by array."""
        composite = self._canvas["composite"]
        composite[:] = normal.normal
        composite[tumour.box] = tumour.composite
        chunks = {"composite": _lz4(composite), "normal": _encoded_normal(normal)[0]}
        for name, crop in (("texture", tumour.texture), ("mask", tumour.mask)):
            canvas = self._canvas[name]
            canvas[tumour.box] = crop
            chunks[name] = _zstd(canvas)
            canvas[tumour.box] = 0
        return chunks

    def commit(self) -> Receipt:
        """Finish the files, then write the receipt.

        Returns
        -------
        Receipt
        """
        for name, file in self._files.items():
            file.append(_index(self._places[name], self._per_shard))
        count = len(self._rows)
        alphas, rows = np.zeros(self._per_shard, np.float32), np.zeros((self._per_shard, self._rows[0].size))
        alphas[:count], rows[:count] = self._alphas, self._rows
        for name, key, values in (("alpha", f"c.{self._shard}", alphas), ("recipes", f"c.{self._shard}.0", rows)):
            self._files[name] = _File(self._path / name / key)
            self._files[name].append(_zstd(values))
            self._content.update(values[:count].tobytes())
        files = {f"{name}/{file.path.name}": file.commit() for name, file in self._files.items()}
        for name in self._files:
            sync(self._path / name)
        receipt = Receipt(self._shard, count, self._identity, files, self._content.hexdigest())
        text = json.dumps(asdict(receipt), indent=1, sort_keys=True)
        write_text(receipt_file(self._path, self._shard), text)
        return receipt


def sample_digest(normal: bytes, before: np.ndarray, tumour: Tumour) -> bytes:
    """Return the SHA-256 of a sample's content, whatever box its tumour is given in.

    Over the digest of its normal, and over the smallest box that holds the mask and each voxel whose bits differ
    between composite and normal:
    its six ends (z, y, x; first, one past the last; int32), then composite, texture and mask in it, all C order and
    little endian.

    Parameters
    ----------
    normal : bytes
        SHA-256 of the whole normal, float16, C order.
    before : ndarray of float16
        The normal in the tumour's box.
    tumour : Tumour
    """
    tight = tight_box((tumour.composite.view(np.uint16) != before.view(np.uint16)) | (tumour.mask > 0))
    ends = [
        (inner.start + outer.start, inner.stop + outer.start) for inner, outer in zip(tight, tumour.box, strict=True)
    ]
    digest = hashlib.sha256(normal)
    digest.update(np.array(ends, "<i4").tobytes())
    for values in (tumour.composite, tumour.texture, tumour.mask):
        digest.update(values[tight].tobytes())
    return digest.digest()


@functools.lru_cache(maxsize=MOST_NORMALS)
def _encoded_normal(source: Source) -> tuple[bytes, bytes]:
    """Return a normal's chunk and its SHA-256."""
    return _lz4(source.normal), hashlib.sha256(source.normal.tobytes()).digest()


def _lz4(voxels: np.ndarray) -> bytes:
    name, level, size = str(LZ4["cname"]).encode(), LZ4["clevel"], LZ4["typesize"]
    return bytes(numcodecs.blosc.compress(voxels, name, level, numcodecs.blosc.SHUFFLE, 0, size))


def _zstd(values: np.ndarray) -> bytes:
    return bytes(numcodecs.zstd.compress(values, ZSTD_LEVEL))


def _index(places: Iterable[tuple[int, int]], per_shard: int) -> bytes:
    index = np.full((per_shard, 2), _MISSING, "<u8")
    for position, place in enumerate(places):
        index[position] = place
    return index.tobytes()
