"""Worker: the task that makes one shard, wherever it runs. It needs neither Dask nor SimpleITK."""

import functools
from pathlib import Path

from scans.errors import StoreError
from synth.compose import make_tumour
from synth.recipe import draw_recipe
from synth.shard_writer import ShardWriter
from synth.shards import load_plan
from synth.sources import Source, SourceStore


def make_shard(sources: Path, out: Path, shard: int) -> int:
    """Make and commit one shard.

    Parameters
    ----------
    sources : Path
        The store of sources.
    out : Path
        The corpus, which says what its samples are.
    shard : int

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    StoreError
        If a source has changed since the corpus was begun, or is damaged.
    OSError
        E.g. when the disk is full; nothing of the shard then counts.
    """
    plan = load_plan(out)
    identity = plan.identity

    def lend(position: int) -> Source:
        source = plan.sources[position]
        return _source(sources, identity, source["name"], source["content_sha256"])

    with ShardWriter(out, shard, min(plan.shard_size, plan.samples), plan.size, identity) as writer:
        for index in plan.indices(shard):
            recipe = draw_recipe(lend, len(plan.sources), plan.settings, plan.seed, index)
            normal = lend(recipe.normal)
            writer.add(recipe, normal, make_tumour(recipe, normal, lend(recipe.donor), plan.settings))
        receipt = writer.commit()
    return sum(entry["bytes"] for entry in receipt.files.values())


@functools.cache  # mapped, not read: a source costs its worker no memory of its own, and is checked once
def _source(store: Path, identity: str, name: str, content: str) -> Source:
    source = _store(store, identity).load(name)
    if source.provenance["content_sha256"] != content:
        raise StoreError(f"{store}: source {source.name} has changed since the corpus was begun")
    return source


@functools.lru_cache(maxsize=1)
def _store(path: Path, identity: str) -> SourceStore:
    """Open a store once for each corpus: a worker may outlive what it saw, and sources may have joined since."""
    return SourceStore(path)
