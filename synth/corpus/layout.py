"""The arrays of a corpus: names, types, shapes and codecs of both layouts, and what Zarr is told of them.

Every number of the format stands here once. ``docs/corpus-format.md`` says the same in words.
"""

import math
from dataclasses import dataclass
from typing import Any

from synth.corpus.manifest import Manifest
from synth.store.sealed_json import to_bytes

CHUNK = 2**15  # values of a tumour in one chunk: a small tumour is one chunk, the largest possible 64 at 128 voxels
# Measured, benchmarks/results: whole scans want a fast codec, a tumour's voxels a small one.
SCAN: dict[str, Any] = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}
TISSUE: dict[str, Any] = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}
PLAIN = {"level": 1, "checksum": False}  # zstd: numbers, and arrays that are mostly one value
BLOSC = {"scan": SCAN, "tissue": TISSUE}
SOURCES = "sources"  # the group that holds them
_HARD = 255  # of `edge`: what it is in shards that have no such file
VOLUMES = ("composite", "normal", "texture", "mask")  # of a dense corpus, each (N, z, y, x)


@dataclass(frozen=True)
class Array:
    """One array of a corpus; its first axis counts samples, or sources.

    Attributes
    ----------
    name : str
        Path in the store.
    dtype : str
    row : tuple of int
        Shape of one entry of the first axis; empty: one number.
    chunk : tuple of int
        Shape of a chunk of one row; it divides `row`.
    codec : {"scan", "tissue", "plain"}
    sharded : bool
        K rows a file, each chunk encoded by itself; otherwise `rows` rows a file, one chunk.
    dimensions : tuple of str
        Names of the axes.
    rows : int
        Rows a file (K, or 1 for sources).
    columns : tuple of str
        Names of the values of a row, where they are numbers of many kinds.
    """

    name: str
    dtype: str
    row: tuple[int, ...]
    chunk: tuple[int, ...]
    codec: str
    sharded: bool
    dimensions: tuple[str, ...]
    rows: int
    columns: tuple[str, ...] = ()

    @property
    def chunks(self) -> int:
        """Chunks of one row."""
        return math.prod(self.row) // math.prod(self.chunk)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        values = math.prod(self.chunk) if self.sharded else self.rows * math.prod(self.row)
        return values * self.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""
        return {"float16": 2, "float32": 4, "float64": 8, "int32": 4, "uint8": 1}[self.dtype]

    def key(self, file: int) -> str:
        """Return where file number `file` lies in the store."""
        return f"{self.name}/c.{file}" + ".0" * len(self.row)

    def metadata(self, length: int) -> bytes:
        """Return its ``zarr.json``, for a first axis of `length`."""
        typed = {"configuration": {"endian": "little"}} if self.itemsize > 1 else {}
        compressor = (
            {"name": "zstd", "configuration": PLAIN}
            if self.codec == "plain"
            else {"name": "blosc", "configuration": {**BLOSC[self.codec], "typesize": self.itemsize}}
        )
        codecs = [{"name": "bytes", **typed}, compressor, {"name": "crc32c"}]
        if self.sharded:
            little = {"name": "bytes", "configuration": {"endian": "little"}}
            sharding = {
                "chunk_shape": [1, *self.chunk],
                "codecs": codecs,
                "index_codecs": [little, {"name": "crc32c"}],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        content = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [length, *self.row],
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.rows, *self.row]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": _HARD if self.name == "edge" else 0.0 if self.dtype.startswith("float") else 0,
            "codecs": codecs,
            "attributes": {"columns": list(self.columns)} if self.columns else {},
            "dimension_names": list(self.dimensions),
        }
        return to_bytes(content)


def sample_arrays(manifest: Manifest, shard: int | None = None) -> dict[str, Array]:
    """Return the arrays that hold samples, of a shard or of any, by name, in the order their files are written."""
    side, rows = manifest.size, manifest.shard_size
    arrays = []
    if manifest.layout == "dense":
        cube, axes = (side, side, side), ("sample", "z", "y", "x")
        for name in VOLUMES:
            dtype = "uint8" if name == "mask" else "float16"
            codec = "scan" if name in ("composite", "normal") else "plain"
            arrays.append(Array(name, dtype, cube, cube, codec, True, axes, rows))
    else:
        # A tumour of n voxels fills the first n values of a row; chunks behind those do not exist.
        values = CHUNK * math.ceil(side**3 / CHUNK)
        bits = CHUNK * math.ceil(side**3 / 8 / CHUNK)
        arrays.append(Array("form", "uint8", (bits,), (CHUNK,), "plain", True, ("sample", "byte"), rows))
        arrays.append(Array("layer", "float16", (values,), (CHUNK,), "tissue", True, ("sample", "value"), rows))
        if manifest.soft if shard is None else manifest.soft_in(shard):
            arrays.append(Array("edge", "uint8", (values,), (CHUNK,), "plain", True, ("sample", "value"), rows))
        arrays.append(Array("box", "int32", (6,), (6,), "plain", False, ("sample", "end"), rows))
    arrays.append(Array("alpha", "float32", (), (), "plain", False, ("sample",), rows))
    columns = manifest.columns
    row = (len(columns),)
    arrays.append(Array("recipes", "float64", row, row, "plain", False, ("sample", "column"), rows, columns))
    return {array.name: array for array in arrays}


def source_arrays(size: int) -> dict[str, Array]:
    """Return the arrays that hold sources, in both layouts: ``normal`` and ``roi``."""
    cube, axes = (size, size, size), ("source", "z", "y", "x")
    return {
        "normal": Array(f"{SOURCES}/normal", "float16", cube, cube, "scan", False, axes, 1),
        "roi": Array(f"{SOURCES}/roi", "uint8", cube, cube, "plain", False, axes, 1),
    }


def metadata(manifest: Manifest) -> dict[str, bytes]:
    """Return every ``zarr.json`` of a corpus but its own, by key."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    files = {f"{SOURCES}/zarr.json": to_bytes(group)}
    for array in source_arrays(manifest.size).values():
        files[f"{array.name}/zarr.json"] = array.metadata(len(manifest.sources))
    for array in sample_arrays(manifest).values():
        files[f"{array.name}/zarr.json"] = array.metadata(manifest.slots)
    return files
