"""Shards: write a corpus, one shard at a time, each by one writer and committed by a receipt.

A shard is every array of samples ``k*K`` to ``(k+1)*K - 1``. Its files are written first, flushed, and
summed; the receipt comes last. A shard without a valid receipt does not exist: it is made again.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ZstdCodec

from scans.durable import sha256, sync, write_text
from scans.errors import StoreError
from scans.region import Synthesis
from synth.corpus import FORMAT, VERSION, VOLUMES, Receipt, attributes, read_receipts
from synth.recipe import COLUMNS, Recipe
from synth.sample import Sample

numcodecs.blosc.set_nthreads(1)  # workers are processes; threads beside them only contend

_DENSE = (BytesCodec(), BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=2), Crc32cCodec())
_SPARSE = (BytesCodec(), ZstdCodec(level=1), Crc32cCodec())
_CODECS = {"composite": _DENSE, "normal": _DENSE, "texture": _SPARSE, "mask": _SPARSE}
_SOFTWARE = ("layered-tumors", "numpy", "numba", "opensimplex", "zarr", "numcodecs", "SimpleITK", "scipy")


@dataclass(frozen=True)
class Plan:
    """Everything that determines the bytes of a corpus.

    Attributes
    ----------
    samples : int
    seed : int
    size : int
        Voxels along a side.
    shard_size : int
        Samples in a shard (K).
    settings : Synthesis
    region : dict
        JSON of ``scans.region.Region``.
    statistics : dict or None
        Normalisation common to all sources, or None.
    sources : list of dict
        Provenance of each source, its content hash among it.
    """

    samples: int
    seed: int
    size: int
    shard_size: int
    settings: Synthesis
    region: dict[str, Any]
    statistics: dict[str, Any] | None
    sources: list[dict[str, Any]]

    @property
    def shard_count(self) -> int:
        """Shards of the finished corpus."""
        return -(-self.samples // self.shard_size)

    @property
    def identity(self) -> str:
        """SHA-256 over what the samples depend on: source contents, settings, seed, size, layout, format."""
        decisive = {
            "format": [FORMAT, VERSION],
            "samples": self.samples,
            "seed": self.seed,
            "size": self.size,
            "shard_size": self.shard_size,
            "settings": self.settings.model_dump(mode="json"),
            "statistics": self.statistics,
            "sources": [source["content_sha256"] for source in self.sources],
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def indices(self, shard: int) -> range:
        """Return the samples of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.samples))


def create(path: Path, plan: Plan) -> None:
    """Lay out an empty corpus, or check that the one already there is the same.

    Raises
    ------
    StoreError
        If something else is at `path`.
    """
    if (path / "zarr.json").exists():
        there = load_plan(path)
        if there.identity != plan.identity:
            differing = [
                name
                for name in ("samples", "seed", "size", "shard_size", "settings", "sources")
                if getattr(there, name) != getattr(plan, name)
            ]
            raise StoreError(
                f"{path} holds another corpus (it differs in {', '.join(differing) or 'its format'}); "
                "choose another --out, or delete it"
            )
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StoreError(f"{path} exists and is not a corpus; choose another --out")
    final, path = path, path.with_name(f".{path.name}.{os.getpid()}.tmp")
    (path / "receipts").mkdir(parents=True)
    group = zarr.open_group(path, mode="a", zarr_format=3)
    side, count, per_shard = plan.size, plan.samples, min(plan.shard_size, plan.samples)
    for name in VOLUMES:
        group.create_array(
            name,
            shape=(count, side, side, side),
            dtype="uint8" if name == "mask" else "float16",
            chunks=(1, side, side, side),
            shards=(per_shard, side, side, side),
            serializer=_CODECS[name][0],
            compressors=_CODECS[name][1:],
            chunk_key_encoding={"name": "default", "separator": "."},  # one file a shard, no folders
            dimension_names=("sample", "z", "y", "x"),
            fill_value=0,
        )
    for name, dtype, width in (("alpha", "float32", None), ("recipes", "float64", len(COLUMNS))):
        array = group.create_array(
            name,
            shape=(count,) if width is None else (count, width),
            dtype=dtype,
            chunks=(per_shard,) if width is None else (per_shard, width),
            serializer=_SPARSE[0],
            compressors=_SPARSE[1:],
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=("sample",) if width is None else ("sample", "column"),
            fill_value=0,
        )
        if width is not None:
            array.attrs["columns"] = list(COLUMNS)
    write_text(path / "software.json", json.dumps(_software(), indent=1, sort_keys=True))
    group.attrs.update(
        {
            "format": FORMAT,
            "version": VERSION,
            "layout": "dense",
            "identity": plan.identity,
            "samples": plan.samples,
            "seed": plan.seed,
            "size": plan.size,
            "shard_size": plan.shard_size,
            "settings": plan.settings.model_dump(mode="json"),
            "region": plan.region,
            "statistics": plan.statistics,
            "sources": plan.sources,
        }
    )
    path.rename(final)  # a corpus appears whole, or not at all
    sync(final.parent)


def load_plan(path: Path) -> Plan:
    """Read back the plan of a corpus.

    Raises
    ------
    StoreError
        If there is no corpus at `path`, or of another version.
    """
    attrs = attributes(path)
    return Plan(
        samples=attrs["samples"],
        seed=attrs["seed"],
        size=attrs["size"],
        shard_size=attrs["shard_size"],
        settings=Synthesis.model_validate(attrs["settings"]),
        region=attrs["region"],
        statistics=attrs["statistics"],
        sources=attrs["sources"],
    )


class Assembly:
    """Samples of one shard, kept as crops until all are there.

    Outside a box around its tumour a sample is its normal; keeping the box alone holds a worker's memory to one array
    of the shard at a time (64 samples at 128 voxels: 270 MB).
    """

    def __init__(self) -> None:
        self._crops: list[tuple[np.ndarray, tuple[slice, ...], dict[str, np.ndarray]]] = []
        self._rows: list[np.ndarray] = []
        self._alphas: list[float] = []

    def add(self, recipe: Recipe, sample: Sample, normal: np.ndarray) -> None:
        """Add the next sample; `normal` is its source's float16 array, shared and not copied."""
        changed = (sample.composite != sample.normal) | (sample.mask > 0)
        box = tuple(
            slice(int(hit[0]), int(hit[-1]) + 1)
            for hit in (np.flatnonzero(changed.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        )
        crops = {name: getattr(sample, name)[box].astype(_dtype(name)) for name in ("composite", "texture", "mask")}
        self._crops.append((normal, box, crops))
        self._rows.append(recipe.row())
        self._alphas.append(sample.alpha)

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each array of the shard by name, one in memory at a time."""
        for name in VOLUMES:
            stack = np.zeros((len(self._crops), *self._crops[0][0].shape), _dtype(name))
            for out, (normal, box, crops) in zip(stack, self._crops, strict=True):
                if name in ("composite", "normal"):
                    out[:] = normal
                if name != "normal":
                    out[box] = crops[name]
            yield name, stack
        yield "alpha", np.array(self._alphas, np.float32)
        yield "recipes", np.stack(self._rows)


def write_shard(path: Path, plan: Plan, shard: int, assembly: Assembly) -> Receipt:
    """Write one shard, and its receipt last.

    Returns
    -------
    Receipt
    """
    group = zarr.open_group(path, mode="r+")
    indices = plan.indices(shard)
    content = hashlib.sha256()
    files = {}
    for name, values in assembly.arrays():
        array = group[name]
        assert isinstance(array, zarr.Array)
        key = f"{name}/c.{shard}" + ".0" * (array.ndim - 1)
        (path / key).unlink(missing_ok=True)  # Zarr would merge a last, partial shard with what lies there
        array[indices.start : indices.stop] = values
        content.update(name.encode())
        content.update(np.ascontiguousarray(values).data)
        sync(path / key)
        files[key] = {"bytes": (path / key).stat().st_size, "sha256": sha256(path / key)}
    for name in {key.split("/")[0] for key in files}:
        sync(path / name)
    receipt = Receipt(shard, len(indices), plan.identity, files, content.hexdigest())
    write_text(path / "receipts" / f"{shard:06d}.json", json.dumps(asdict(receipt), indent=1, sort_keys=True))
    return receipt


def unfinished(path: Path, plan: Plan) -> list[int]:
    """Return the shards without a valid receipt, or whose files are not the size the receipt says."""
    receipts = read_receipts(path)
    return [
        shard
        for shard in range(plan.shard_count)
        if shard not in receipts
        or receipts[shard].identity != plan.identity
        or any(_size(path / key) != entry["bytes"] for key, entry in receipts[shard].files.items())
    ]


def sweep(path: Path) -> None:
    """Remove what a killed writer left under temporary names."""
    for leftover in (*path.glob("*/*.partial"), *path.glob("receipts/.*.tmp")):
        leftover.unlink(missing_ok=True)


def _dtype(name: str) -> type[np.generic]:
    return np.uint8 if name == "mask" else np.float16


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _software() -> dict[str, str]:
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        package: version(package) for package in _SOFTWARE
    }
