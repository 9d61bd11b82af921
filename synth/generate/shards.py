"""Fill: make the shards that a corpus lacks, one task each, wherever the tasks run.

What makes a shard is a function of its number: from sources (`synth.generate.worker`), or out of other corpora
(`synth.convert.assemble`).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from synth.cluster import open_cluster
from synth.corpus.creation import unfinished
from synth.corpus.manifest import Manifest
from synth.store.base import Store
from synth.tasks import Failure, run_tasks


@dataclass(frozen=True)
class ShardDone:
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
class Filled:
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


@contextlib.contextmanager
def writing(store: Store, shared: bool = False) -> Iterator[None]:
    """Hold a corpus against other writers, and leave nothing in it that killed ones left.

    Parameters
    ----------
    store : Store
    shared : bool
        Beside others that make other shards: what they are writing is not swept away.
    """
    with store.only_writer(shared=shared):
        if not shared:
            store.sweep()
        yield
        if not shared:
            store.sweep()  # after workers that died


def fill(
    store: Store,
    manifest: Manifest,
    work: Callable[[int], int],
    shards: Sequence[int],
    cluster: str = "local",
    workers: int | None = None,
    progress: Callable[[ShardDone], None] = lambda step: None,
    say: Callable[[str], None] = lambda sentence: None,
    again: bool = False,
) -> Filled:
    """Make those of `shards` that are not finished; the caller holds the store against other writers.

    Parameters
    ----------
    store : Store
        A corpus that is laid out.
    manifest : Manifest
    work : callable
        Makes and commits the shard of a number; returns the bytes written. Goes to workers by pickle.
    shards : sequence of int
    cluster, workers
        See :func:`synth.cluster.open_cluster`.
    progress : callable
        Called as each shard ends, those of an earlier run first.
    say : callable
        Called with a sentence about the cluster: the dashboard's address, workers that go and come.
    again : bool
        Make those too that look finished: somebody knows better.
    """
    missing = set(shards if again else unfinished(store, manifest, shards))
    todo = [shard for shard in shards if shard in missing]
    for shard in shards:
        if shard not in missing:
            progress(ShardDone(shard, len(manifest.indices(shard)), "kept"))
    failed: dict[int, str] = {}
    with (
        open_cluster(cluster, workers, len(todo), say) as client,
        contextlib.closing(run_tasks(client, work, todo, "shard", say)) as results,
    ):
        for shard, result in results:
            samples = len(manifest.indices(shard))
            if isinstance(result, Failure):
                failed[shard] = result.reason
                progress(ShardDone(shard, samples, "failed"))
            else:
                progress(ShardDone(shard, samples, "made", result))
    return Filled(len(shards) - len(todo), len(todo) - len(failed), failed)
