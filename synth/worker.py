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
    store = _store(sources, identity)

    def lend(position: int) -> Source:
        planned = plan.sources[position]
        source = store.load(planned["name"])
        if source.provenance["content_sha256"] != planned["content_sha256"]:
            raise StoreError(f"{sources}: source {source.name} has changed since the corpus was begun")
        return source

    with ShardWriter(out, shard, min(plan.shard_size, plan.samples), plan.size, identity) as writer:
        for index in plan.indices(shard):
            recipe = draw_recipe(lend, len(plan.sources), plan.settings, plan.seed, index)
            normal = lend(recipe.normal)
            writer.add(recipe, normal, make_tumour(recipe, normal, lend(recipe.donor), plan.settings))
        receipt = writer.commit()
    return sum(entry["bytes"] for entry in receipt.files.values())


@functools.lru_cache(maxsize=1)
def _store(path: Path, identity: str) -> SourceStore:
    """Open a store once for each corpus: a worker may outlive what it saw, and sources may have joined since."""
    return SourceStore(path)
