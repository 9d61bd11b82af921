"""Shards: lay a corpus out, and say which of its shards are still to be made.

A shard is every array of samples ``k*K`` to ``(k+1)*K - 1``, made by one writer and committed by a receipt. A shard
without a valid receipt does not exist: it is made again.
"""

import hashlib
import json
import platform
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ZstdCodec

from scans.durable import sync, write_text
from scans.errors import StoreError
from scans.region import Synthesis
from synth.corpus import FORMAT, VERSION, VOLUMES, attributes, read_receipts
from synth.recipe import COLUMNS
from synth.shard_writer import DTYPES, LZ4, ZSTD_LEVEL

_DENSE = (BytesCodec(), BloscCodec(**LZ4), Crc32cCodec())  # type: ignore[arg-type]
_SPARSE = (BytesCodec(), ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec())
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

    Many may do so at once: the corpus appears whole, and only once.

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
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:  # of no other job or host
        _lay_out(Path(folder) / path.name, plan)
        try:
            (Path(folder) / path.name).rename(path)
        except OSError:
            if not (path / "zarr.json").exists():
                raise
            create(path, plan)  # another was first; is it the same?
    sync(path.parent)


def _lay_out(path: Path, plan: Plan) -> None:
    (path / "receipts").mkdir(parents=True)
    group = zarr.open_group(path, mode="a", zarr_format=3)
    side, count, per_shard = plan.size, plan.samples, min(plan.shard_size, plan.samples)
    for name in VOLUMES:
        group.create_array(
            name,
            shape=(count, side, side, side),
            dtype=DTYPES[name],
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


def unfinished(path: Path, plan: Plan, shards: range | None = None) -> list[int]:
    """Return those of `shards`, or of all, without a valid receipt, or whose files are not of the size it says."""
    receipts = read_receipts(path, shards)
    return [
        shard
        for shard in (range(plan.shard_count) if shards is None else shards)
        if shard not in receipts
        or receipts[shard].identity != plan.identity
        or any(_size(path / key) != entry["bytes"] for key, entry in receipts[shard].files.items())
    ]


def sweep(path: Path) -> None:
    """Remove what a killed writer left under temporary names."""
    for leftover in (*path.glob("*/*.partial"), *path.glob("receipts/.*.tmp")):
        leftover.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _software() -> dict[str, str]:
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        package: version(package) for package in _SOFTWARE
    }
