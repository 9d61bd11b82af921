"""Rehydrate: make a corpus again from its recipes and a lab's own copy of the scans, and say whether it is the same.

The recipes are a stranger's: each is checked against the settings it says it was drawn with before anything is made
of it, and what it asks for is bounded by the scans that are here.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scans.catalog.catalog import Catalog
from scans.errors import StoreError
from synth.cluster import check_workers
from synth.corpus.creation import create
from synth.corpus.receipt import read_receipts
from synth.generate.plan import arranged
from synth.generate.shards import Filled, ShardDone, fill, writing
from synth.generate.worker import Drawn, Lender, opened, write_shard
from synth.share.match_sources import region_of, unmatched
from synth.share.recipe_pack import Recipes, check_rows
from synth.sources.prepare import Report, prepare_datasets
from synth.sources.reader import SourceStore
from synth.store.opening import address, open_store


def prepare_for(
    recipes: Recipes,
    catalog: Catalog,
    names: list[str],
    sources: Path,
    cluster: str = "local",
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda steps, total: None,
    say: Callable[[str], None] = lambda sentence: None,
    pseudo_labels: Path | None = None,
) -> Report:
    """Prepare scans as those of the corpus were, whatever the catalog says of their region.

    Parameters
    ----------
    recipes : Recipes
    catalog : Catalog
        Says where the scans are.
    names : list of str
        Datasets.
    sources : Path
        The store to make or to add to.
    cluster, workers, progress, say, pseudo_labels
        See :func:`synth.sources.prepare.prepare_datasets`.
    """
    region = region_of(recipes.manifest)
    ours = catalog.model_copy(update={"regions": dict.fromkeys(catalog.regions, region)})
    normals, tumours = (
        [name for name in names if (catalog.dataset(name).role == "tumour") == lending] for lending in (False, True)
    )
    return prepare_datasets(
        ours, normals, sources, recipes.manifest.size, cluster, workers, progress, say, tumours=tumours,
        pseudo_labels=pseudo_labels,
    )  # fmt: skip


@dataclass(frozen=True)
class Sameness:
    """How a corpus compares with the one its recipes are from.

    Attributes
    ----------
    shards : int
    differing : tuple of int
        Shards whose samples are not the same.
    same_files : bool
        Whether each file is the same too, byte by byte.
    """

    shards: int
    differing: tuple[int, ...]
    same_files: bool


def rehydrate(
    pack: str | Path,
    sources: Path,
    out: str | Path,
    layout: str | None = None,
    cluster: str = "local",
    workers: int | None = None,
    progress: Callable[[ShardDone], None] = lambda step: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> tuple[Filled, Sameness]:
    """Make a corpus from its recipes, or finish one that an earlier run began.

    Parameters
    ----------
    pack : str or Path
        Made by `synth.share.pack.pack_recipes`.
    sources : Path
        A store that holds the sources of the corpus, under whatever names.
    out : str or Path
        The corpus to make: a folder or a URL.
    layout : {"layered", "dense"}, optional
        The original's if not given.
    cluster, workers, progress, say
        See :func:`synth.generate.shards.fill`.

    Returns
    -------
    Filled
    Sameness
        Of the shards that are there.

    Raises
    ------
    StoreError
        If the pack is damaged, the sources do not match, or `out` holds something else.
    CatalogError
        If there is no such cluster, or its scheduler goes away.
    """
    check_workers(cluster, workers)
    recipes = Recipes(pack)
    manifest = arranged(recipes.manifest, layout)
    missing = unmatched(manifest, SourceStore(sources, manifest.statistics))
    if missing:
        raise StoreError(
            f"{sources} lacks {len(missing)} of the {len(manifest.sources)} sources of {pack}, "
            f"{missing[0].name} among them: {missing[0].reason}"
        )
    store = open_store(out)
    lend = Lender(sources.resolve(), manifest)
    create(store, manifest, lambda position: lend(position).normal)
    with writing(store):
        work = functools.partial(make_shard, Path(pack).resolve(), sources.resolve(), address(out), manifest.identity)
        outcome = fill(store, manifest, work, range(manifest.shard_count), cluster, workers, progress, say)
    return outcome, compare(recipes, out)


def compare(recipes: Recipes, out: str | Path) -> Sameness:
    """Compare the shards that are there with those the recipes are from, by their receipts."""
    store, shards = open_store(out), recipes.manifest.shard_count
    receipts = read_receipts(store, range(shards))
    differing, files = [], []
    for shard, receipt in receipts.items():
        content, whole = recipes.digests(shard)
        if receipt.content != content:
            differing.append(shard)
        files.append(hashlib.sha256(receipt.to_bytes()).digest() == whole)
    return Sameness(len(receipts), tuple(sorted(differing)), all(files))


def make_shard(pack: Path, sources: Path, out: str, identity: str, shard: int) -> int:
    """Make and commit one shard from its recipes; the task of a worker.

    Parameters
    ----------
    pack : Path
    sources : Path
    out : str
        The corpus, laid out.
    identity : str
        Of the corpus; a worker that lives on reads its manifest, and the pack, once.
    shard : int

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    StoreError
        If a recipe is not as it must be, or a source is damaged.
    OSError
        E.g. when the disk is full; nothing of the shard then counts.
    """
    store, manifest = opened(out, identity)
    recipes = _opened(pack, identity)
    lend = Lender(sources, manifest)

    def fitting() -> Iterator[Drawn]:
        for generation, recipe, way in check_rows(manifest, shard, recipes.rows(shard), str(pack)):
            if not way.fits(recipe, lend(recipe.normal), lend(recipe.donor)):
                raise StoreError(f"{pack}: shard {shard} holds a tumour that no scan could hold; get the pack again")
            yield generation, recipe, way

    return write_shard(store, manifest, shard, lend, fitting())


@functools.lru_cache(maxsize=1)
def _opened(pack: Path, identity: str) -> Recipes:
    """Open a pack once for each corpus."""
    recipes = Recipes(pack)
    if recipes.manifest.identity != identity:
        raise StoreError(f"{pack} became another pack meanwhile; run the command again")
    return recipes
