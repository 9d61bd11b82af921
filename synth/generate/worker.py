"""Worker: the task that makes one shard, wherever it runs. It needs neither Dask nor SimpleITK."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scans.errors import StoreError
from synth.corpus.manifest import Manifest, load_manifest
from synth.corpus.receipt import bytes_of
from synth.corpus.shard_writer import ShardWriter
from synth.generators.registry import recorded_way
from synth.generators.way import Way
from synth.sources.reader import SourceStore
from synth.store.base import Store
from synth.store.opening import open_store
from synth.tumour.blend import lay
from synth.tumour.source import Source, lends_tumour

Drawn = tuple[int, Any, Way]  # what makes a sample: its generation, its recipe, and who makes it


def make_shard(sources: Path, out: str, identity: str, shard: int, content: str | None = None) -> int:
    """Make and commit one shard.

    Parameters
    ----------
    sources : Path
        The store of sources.
    out : str
        The corpus, which says what its samples are.
    identity : str
        Of the corpus; a worker that lives on reads its manifest once.
    shard : int
    content : str, optional
        That of its receipt, where it was made before.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    StoreError
        If a source has changed since the corpus was begun, or is damaged; if the samples are not those of `content`.
    OSError
        E.g. when the disk is full; nothing of the shard then counts.
    """
    store, manifest = opened(out, identity)
    lend = Lender(sources, manifest)
    return write_shard(store, manifest, shard, lend, recipes(lend, manifest, shard), content)


def write_shard(
    store: Store,
    manifest: Manifest,
    shard: int,
    lend: "Lender",
    drawn: Iterable[Drawn],
    content: str | None = None,
) -> int:
    """Make what recipes describe, and commit it as a shard; parameters, return and errors as of `make_shard`.

    Parameters
    ----------
    drawn : iterable of (int, recipe, Way)
        Of each sample, in order; sources stand by the corpus's positions.
    """
    with ShardWriter(store, manifest, shard) as writer:
        for generation, recipe, way in drawn:
            normal = lend(recipe.normal)
            layer = way.make(recipe, normal, lend(recipe.donor))
            tumour = lay(layer, normal.normal, recipe.alpha, way.facts.target)
            row = np.full(len(manifest.columns), np.nan)
            row[manifest.own_columns[generation]] = recipe.row()
            writer.add(row, normal.normal, layer, tumour)
        return bytes_of(writer.commit(content))


def recipes(lend: "Lender", manifest: Manifest, shard: int) -> Iterator[Drawn]:
    """Draw the recipes of a shard's samples; sources stand by the corpus's positions."""

    @functools.cache  # of a mixture, each sample may be a draw of its own
    def drawn_with(number: int) -> tuple[Way, list[int]]:
        generation = manifest.generations[number]
        lending = (lends_tumour(manifest.sources[place]) for place in generation.sources)
        return recorded_way(generation, "the manifest"), [at for at, lends in enumerate(lending) if lends]

    for number, first, count in manifest.draws(manifest.indices(shard)):
        way, tumours = drawn_with(number)
        places, seed = manifest.generations[number].sources, manifest.generations[number].seed

        def drawn(position: int, places: tuple[int, ...] = places) -> Source:
            return lend(places[position])

        for index in range(first, first + count):
            recipe = way.draw(drawn, len(places), seed, index, tumours)
            recipe = dataclasses.replace(recipe, normal=places[recipe.normal], donor=places[recipe.donor])
            yield number, recipe, way


class Lender:
    """Gives the sources of a corpus by position, each checked against the hash in its manifest.

    Parameters
    ----------
    path : Path
        A store of sources that holds them, under whatever names.
    manifest : Manifest
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path, self._manifest = path, manifest
        self._store = _source_store(path, manifest.identity, json.dumps(manifest.statistics))

    def __call__(self, position: int) -> Source:
        """Return a source.

        Raises
        ------
        StoreError
            If the store does not hold it, or it is damaged.
        """
        wanted = self._manifest.sources[position]
        name = self._store.named(wanted["content_sha256"])
        if name is None:
            raise StoreError(
                f"{self._path}: source {wanted['name']} has changed since the corpus was begun, or is not there; "
                "synth prepare brings it back from the same scan"
            )
        return self._store.load(name)


@functools.lru_cache(maxsize=2)
def opened(out: str, identity: str) -> tuple[Store, Manifest]:
    """Open a corpus to write, once for each state of it.

    Raises
    ------
    StoreError
        If it is not the one that was asked for.
    """
    store = open_store(out)
    manifest = load_manifest(store)
    if manifest.identity != identity:
        raise StoreError(f"{out} became another corpus meanwhile; run the command again")
    return store, manifest


@functools.lru_cache(maxsize=1)
def _source_store(path: Path, identity: str, statistics: str) -> SourceStore:
    """Open a store once for each corpus: a worker may outlive what it saw, and sources may have joined since."""
    return SourceStore(path, json.loads(statistics))
