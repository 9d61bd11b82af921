"""Generate: sources and settings in, a corpus out; one task a shard."""

import functools
from collections.abc import Callable
from pathlib import Path

from synth.cluster import check_workers
from synth.corpus.creation import create, extend
from synth.corpus.manifest import ROOT, Manifest
from synth.generate.shards import Filled, ShardDone, fill, writing
from synth.generate.worker import Lender, make_shard
from synth.store.opening import address, open_store


def generate(
    manifest: Manifest,
    sources: Path,
    out: str | Path,
    cluster: str = "local",
    workers: int | None = None,
    only: slice | None = None,
    progress: Callable[[ShardDone], None] = lambda step: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Filled:
    """Make a corpus, finish one that an earlier run began, or let one grow.

    Parameters
    ----------
    manifest : Manifest
        From `make_manifest`, or from `grown` for a corpus that is there.
    sources : Path
        The store that it was made from.
    out : str or Path
        The corpus: a folder or a URL.
    cluster : str
        Where to work; see :func:`synth.cluster.open_cluster`.
    workers : int, optional
        Worker processes of ``local``; all cores if not given, none (this process works) if 0.
    only : slice, optional
        Of the shards: make those alone, beside others that make the rest; all if not given.
    progress, say : callable
        See :func:`synth.generate.shards.fill`.

    Raises
    ------
    CatalogError
        If there is no such cluster, or its scheduler goes away.
    StoreError
        If `out` holds something else, or another run is writing it.
    """
    check_workers(cluster, workers)
    store = open_store(out)
    lend = Lender(sources.resolve(), manifest)
    if len(manifest.blocks) > 1 and store.size(ROOT) >= 0:
        with store.only_writer(shared=only is not None):
            extend(store, manifest, lambda position: lend(position).normal)
    else:
        create(store, manifest, lambda position: lend(position).normal)
    shards = range(manifest.shard_count)[only or slice(None)]
    work = functools.partial(make_shard, sources.resolve(), address(out), manifest.identity)
    with writing(store, shared=only is not None):
        return fill(store, manifest, work, shards, cluster, workers, progress, say)
