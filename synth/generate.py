"""Generate: sources and settings in, a corpus out; one Dask task a shard."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scans.durable import only_writer
from scans.errors import StoreError, UserError
from scans.region import Synthesis
from synth.cluster import open_cluster
from synth.compose import make_sample
from synth.recipe import draw_recipe
from synth.shards import Assembly, Plan, create, load_plan, sweep, unfinished, write_shard
from synth.sources import Source, SourceStore

_IN_FLIGHT = 4  # shards submitted per worker: enough to keep it busy, few enough for any number of shards
_TRIES = 2  # of a shard that fails


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
    finished: Callable[[int, int], None] = lambda shard, samples: None,
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
    finished : callable
        Called with (shard, samples in it) as each shard is done, those of an earlier run first.

    Returns
    -------
    Outcome

    Raises
    ------
    StoreError
        If `out` holds something else, or another run is writing it.
    """
    create(out, plan)
    with only_writer(out):
        sweep(out)
        todo = unfinished(out, plan)
        missing = set(todo)
        kept = [shard for shard in range(plan.shard_count) if shard not in missing]
        for shard in kept:
            finished(shard, len(plan.indices(shard)))
        failed: dict[int, str] = {}
        results = _here(sources, out, todo) if workers == 0 else _on_cluster(sources, out, todo, cluster, workers)
        for shard, failure in results:
            if failure:
                failed[shard] = failure
            else:
                finished(shard, len(plan.indices(shard)))
    return Outcome(len(kept), len(todo) - len(failed), failed)


def make_shard(sources: Path, out: Path, shard: int) -> int:
    """Make and commit one shard; the task that a worker runs.

    Returns
    -------
    int
        The shard.
    """
    plan = load_plan(out)
    identity = plan.identity

    def lend(position: int) -> Source:
        source = plan.sources[position]
        return _source(sources, identity, source["name"], source["content_sha256"])

    assembly = Assembly()
    for index in plan.indices(shard):
        recipe = draw_recipe(lend, len(plan.sources), plan.settings, plan.seed, index)
        normal = lend(recipe.normal)
        assembly.add(recipe, make_sample(recipe, normal, lend(recipe.donor), plan.settings), normal.normal)
    write_shard(out, plan, shard, assembly)
    return shard


@functools.lru_cache(maxsize=64)  # at 128 voxels about 25 MB a source
def _source(store: Path, identity: str, name: str, content: str) -> Source:
    source = _store(store, identity).load(name)
    if source.provenance["content_sha256"] != content:
        raise StoreError(f"{store}: source {source.name} has changed since the corpus was begun")
    return source


@functools.lru_cache(maxsize=1)
def _store(path: Path, identity: str) -> SourceStore:
    """Open a store once for each corpus: a worker may outlive what it saw, and sources may have joined since."""
    return SourceStore(path)


def _reason(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _here(sources: Path, out: Path, shards: list[int]) -> Iterator[tuple[int, str | None]]:
    for shard in shards:
        try:
            make_shard(sources, out, shard)
        except (UserError, OSError) as error:
            yield shard, _reason(error)
        else:
            yield shard, None


def _on_cluster(
    sources: Path, out: Path, shards: list[int], cluster: str, workers: int | None
) -> Iterator[tuple[int, str | None]]:
    """Run one task a shard, a bounded number of them in flight."""
    from distributed import as_completed

    if not shards:
        return
    with open_cluster(cluster, workers) as client:
        submit = functools.partial(client.submit, make_shard, sources.resolve(), out.resolve(), retries=_TRIES - 1)
        waiting = iter(shards)
        numbers, queue = {}, as_completed()

        def submit_next(count: int) -> None:
            for shard in itertools.islice(waiting, count):
                future = submit(shard, key=f"shard-{shard}-of-{out.name}", pure=False)
                numbers[future.key] = shard
                queue.add(future)

        submit_next(_IN_FLIGHT * max(len(client.scheduler_info()["workers"]), 1))
        for future in queue:
            error = future.exception()
            yield numbers.pop(future.key), (_reason(error) if error else None)
            submit_next(1)
