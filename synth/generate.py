"""Generate: sources and settings in, a corpus out; one task a shard."""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scans.durable import only_writer
from scans.errors import StoreError
from scans.region import Synthesis
from synth.cluster import check_workers, open_cluster
from synth.shards import Plan, create, sweep, unfinished
from synth.sources import SourceStore
from synth.tasks import Failure, run_tasks
from synth.worker import make_shard


@dataclass(frozen=True)
class Step:
    """What came of one shard.

    Attributes
    ----------
    shard : int
    samples : int
        In that shard.
    outcome : {"kept", "made", "failed"}
        Finished by an earlier run, or by this one, or not.
    bytes : int
        Written now.
    """

    shard: int
    samples: int
    outcome: Literal["kept", "made", "failed"]
    bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes
    ----------
    kept : int
        Shards that an earlier run had finished.
    made : int
        Shards made now.
    failed : dict of int to str
        Shards that could not be made, and why.
    """

    kept: int
    made: int
    failed: dict[int, str]


def make_plan(
    sources: SourceStore, samples: int, seed: int, settings: Synthesis | None = None, shard_size: int = 64
) -> Plan:
    """Say what a corpus will hold.

    Parameters
    ----------
    sources : SourceStore
    samples : int
        N, at least 1.
    seed : int
        0 to 2**64 - 1.
    settings : Synthesis, optional
        Those of the sources' region if not given.
    shard_size : int
        Samples in a shard.

    Raises
    ------
    StoreError
        For numbers out of range, or a store without sources.
    """
    if samples < 1:
        raise StoreError(f"-n {samples}: ask for at least one sample")
    if not 0 <= seed < 2**64:
        raise StoreError(f"--seed {seed}: give a whole number from 0 to 2**64 - 1")
    if shard_size < 1:
        raise StoreError(f"--shard-size {shard_size}: a shard holds at least one sample")
    if not sources.names:
        raise StoreError(f"{sources.path} holds no finished source; run synth prepare first")
    return Plan(
        samples=samples,
        seed=seed,
        size=sources.size,
        shard_size=shard_size,
        settings=settings or sources.region.synthesis,
        region=sources.region.model_dump(mode="json"),
        statistics=sources.statistics,
        sources=[sources.provenance(name) for name in sources.names],
    )


def generate(
    plan: Plan,
    sources: Path,
    out: Path,
    cluster: str = "local",
    workers: int | None = None,
    only: slice | None = None,
    finished: Callable[[Step], None] = lambda step: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Outcome:
    """Make a corpus, or finish one that an earlier run began.

    Parameters
    ----------
    plan : Plan
    sources : Path
        The store that `plan` was made from.
    out : Path
        The corpus.
    cluster : str
        Where to work; see :func:`synth.cluster.open_cluster`.
    workers : int, optional
        Worker processes of ``local``; all cores if not given, none (this process works) if 0.
    only : slice, optional
        Of the shards: make those alone, beside others that make the rest; all if not given.
    finished : callable
        Called as each shard ends, those of an earlier run first.
    say : callable
        Called with a sentence about the cluster: the dashboard's address, workers that go and come.

    Returns
    -------
    Outcome

    Raises
    ------
    CatalogError
        If there is no such cluster, or its scheduler goes away.
    StoreError
        If `out` holds something else, or another run is writing it.
    """
    check_workers(cluster, workers)
    create(out, plan)
    with only_writer(out, shared=only is not None):
        if only is None:
            sweep(out)
        asked = range(plan.shard_count)[only or slice(None)]
        missing = set(unfinished(out, plan, asked))
        todo = [shard for shard in asked if shard in missing]
        for shard in asked:
            if shard not in missing:
                finished(Step(shard, len(plan.indices(shard)), "kept"))
        failed: dict[int, str] = {}
        work = functools.partial(make_shard, sources.resolve(), out.resolve())
        with (
            open_cluster(cluster, workers, len(todo), say) as client,
            contextlib.closing(run_tasks(client, work, todo, "shard", say)) as results,
        ):
            for shard, result in results:
                if isinstance(result, Failure):
                    failed[shard] = result.reason
                    finished(Step(shard, len(plan.indices(shard)), "failed"))
                else:
                    finished(Step(shard, len(plan.indices(shard)), "made", result))
        if only is None:
            sweep(out)  # after workers that died
    return Outcome(len(asked) - len(todo), len(todo) - len(failed), failed)


def parse_shards(text: str) -> slice:
    """Read which shards to make, as Python reads a slice: ``3::100``, ``0:50``, or one number.

    Raises
    ------
    StoreError
        If it is no such thing.
    """
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
        if len(parts) == 1:
            (first,) = parts
            if first is None or first < 0:
                raise ValueError
            return slice(first, first + 1)
        start, stop, step = (*parts, None)[:3] if len(parts) == 2 else parts
        if any(part is not None and part < 0 for part in parts) or step == 0:
            raise ValueError
    except ValueError as error:
        raise StoreError(
            f"--shards {text}: give START::STEP, as 3::100 for shards 3, 103, 203 and so on, START:STOP, or one number"
        ) from error
    return slice(start, stop, step)
