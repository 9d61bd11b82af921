"""Dry run: what a corpus would cost, from about two seconds of making it."""

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synth.corpus.creation import source_files
from synth.corpus.layout import metadata
from synth.corpus.manifest import Block, Manifest
from synth.generate.worker import Lender, make_shard
from synth.store.folder import Folder

_SECONDS = 2.0
_FEW = 4  # samples to learn the pace from


@dataclass(frozen=True)
class Estimate:
    """What a corpus would cost.

    Attributes
    ----------
    samples, shards : int
    bytes : int
        On disk.
    core_seconds : float
        Of one core, all in all.
    wall_seconds : float
        Of the workers asked for, if each is as fast as the core that was measured.
    workers : int
    measured : int
        Samples that were made to know.
    """

    samples: int
    shards: int
    bytes: int
    core_seconds: float
    wall_seconds: float
    workers: int
    measured: int


def estimate(manifest: Manifest, sources: Path, workers: int) -> Estimate:
    """Make and encode the first samples of a corpus in a temporary folder, and reckon.

    Parameters
    ----------
    manifest : Manifest
        What is to be made; of one that has grown, its last block.
    sources : Path
        The store that `manifest` was made from.
    workers : int
        That would work at a time, at least 1.

    Raises
    ------
    StoreError
        If a source is not as the manifest says.
    """
    wanted = manifest.blocks[-1].samples
    per_shard = min(wanted, manifest.shard_size)
    shards = -(-wanted // manifest.shard_size)
    _, rough = _make(manifest, sources, _FEW)
    samples = max(_FEW, min(per_shard, int(_SECONDS * _FEW / rough)))
    written, seconds = _make(manifest, sources, samples)
    one = source_files(manifest, 0, Lender(sources.resolve(), manifest)(0).normal)
    return Estimate(
        samples=wanted,
        shards=shards,
        bytes=round(written / samples * wanted) + len(manifest.sources) * sum(map(len, one.values())),
        core_seconds=seconds / samples * wanted,
        wall_seconds=seconds / samples * per_shard * -(-shards // workers),
        workers=workers,
        measured=samples,
    )


def _make(manifest: Manifest, sources: Path, samples: int) -> tuple[int, float]:
    """Make the first samples as one shard; return its bytes and how many seconds it took."""
    with tempfile.TemporaryDirectory(prefix="synth-dry-run-") as folder:
        out = str(Path(folder) / "corpus.zarr")
        few = Block(tuple(_first(manifest, samples + _FEW)))
        part = dataclasses.replace(manifest, shard_size=samples, blocks=(few,))
        Folder(out).lay_out([*metadata(part).items(), *part.files().items()])
        make_shard(sources.resolve(), out, part.identity, 1)  # compiles the kernels and reads sources, once a worker
        began = time.perf_counter()
        written = make_shard(sources.resolve(), out, part.identity, 0)
        return written, time.perf_counter() - began


def _first(manifest: Manifest, samples: int) -> Iterator[tuple[int, int, int]]:
    """Yield the first samples of the last block, and as many behind its end as it is short of."""
    draws = manifest.blocks[-1].draws
    for number, (generation, first, count) in enumerate(draws):
        taken = samples if number == len(draws) - 1 else min(count, samples)
        yield generation, first, taken
        samples -= taken
        if not samples:
            return
