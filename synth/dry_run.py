"""Dry run: what a corpus would cost, from about two seconds of making it."""

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from synth.shards import Plan, create
from synth.worker import make_shard

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


def estimate(plan: Plan, sources: Path, workers: int) -> Estimate:
    """Make and encode the first samples of a corpus in a temporary folder, and reckon.

    Parameters
    ----------
    plan : Plan
    sources : Path
        The store that `plan` was made from.
    workers : int
        That would work at a time, at least 1.

    Returns
    -------
    Estimate

    Raises
    ------
    StoreError
        If a source is not as the plan says.
    """
    _, rough = _make(plan, sources, _FEW)
    samples = max(_FEW, min(plan.samples, plan.shard_size, int(_SECONDS * _FEW / rough)))
    written, seconds = _make(plan, sources, samples)
    return Estimate(
        samples=plan.samples,
        shards=plan.shard_count,
        bytes=round(written / samples * plan.samples),
        core_seconds=seconds / samples * plan.samples,
        wall_seconds=seconds / samples * min(plan.shard_size, plan.samples) * -(-plan.shard_count // workers),
        workers=workers,
        measured=samples,
    )


def _make(plan: Plan, sources: Path, samples: int) -> tuple[int, float]:
    """Make the first samples as one shard; return its bytes and how many seconds it took."""
    with tempfile.TemporaryDirectory(prefix="synth-dry-run-") as folder:
        out = Path(folder) / "corpus.zarr"
        create(out, dataclasses.replace(plan, samples=samples + _FEW, shard_size=samples))
        make_shard(sources.resolve(), out, 1)  # the few last: compiles the kernels and reads sources, once a worker
        began = time.perf_counter()
        written = make_shard(sources.resolve(), out, 0)
        return written, time.perf_counter() - began
