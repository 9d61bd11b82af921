"""Merge: what a corpus holds that is made out of several, one behind the other.

A source that several of them have is kept once, under all their terms; a sample is kept once, or the merge refused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scans.catalog.region import LATER
from scans.errors import StoreError
from synth.convert.locate import Whereabouts
from synth.corpus import Corpus
from synth.corpus.manifest import Block, Manifest
from synth.corpus.receipt import source_sums
from synth.generate.plan import arranged
from synth.generators.generation import Generation

_UNITED = ("licence", "terms", "citation")  # texts that all bind
_BETWEEN = " / "


def merged(
    corpora: Sequence[Corpus],
    shard_size: int | None = None,
    layout: str | None = None,
    drop_duplicates: bool = False,
) -> Manifest:
    """Say what a corpus will hold that is made out of others, in one block.

    Parameters
    ----------
    corpora : sequence of Corpus
        Finished ones, in the order in which their samples are to stand.
    shard_size : int, optional
        Samples in a shard; that of the first corpus if not given.
    layout : {"layered", "dense"}, optional
        Likewise.
    drop_duplicates : bool
        Take a sample that several hold, or one holds twice, where it stands first, and there alone.

    Raises
    ------
    StoreError
        If the corpora cannot be one: they differ in size, in how scans were prepared or normalised, two sources
        share a name, or a sample is there twice.
    """
    one = corpora[0]
    sources: list[dict[str, Any]] = []
    holders: list[tuple[Corpus, int]] = []  # by a source's position in the merged corpus: who brought it, and where
    generations: list[Generation] = []
    draws: list[tuple[int, int, int]] = []
    known = Whereabouts()
    for other in corpora:
        _check_alike(one, other)
        places = _unite(sources, holders, other)
        numbers = []
        for g in other.manifest.generations:
            generation = replace(g, sources=tuple(places[p] for p in g.sources))
            if generation not in generations:
                generations.append(generation)
            numbers.append(generations.index(generation))
        at = 0
        for number, first, count, there in known.add(other.manifest):
            if there is None:
                draws.append((numbers[number], first, count))
            elif not drop_duplicates:
                raise StoreError(
                    f"sample {at} of {other.store} is sample {there.at} of {corpora[there.corpus].store}; "
                    "give --drop-duplicates to keep it once"
                )
            at += count
    manifest = replace(
        one.manifest, sources=tuple(sources), generations=tuple(generations), blocks=(Block(_joined(draws)),)
    )
    return arranged(manifest, layout, shard_size)


def _joined(draws: Iterable[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Return draws with those that go on where the one before ends made one of it."""
    result: list[tuple[int, int, int]] = []
    for generation, first, count in draws:
        if result and (generation, first) == (result[-1][0], result[-1][1] + result[-1][2]):
            generation, first, count = generation, result[-1][1], result[-1][2] + count
            result.pop()
        result.append((generation, first, count))
    return tuple(result)


def _check_alike(one: Corpus, other: Corpus) -> None:
    if other.size != one.size:
        raise StoreError(
            f"{other.store} has samples of {other.size} voxels a side, {one.store} of {one.size}; "
            "merge corpora of one size"
        )
    keys = sorted({*one.region, *other.region} - set(LATER))
    differing = [key for key in keys if one.region.get(key) != other.region.get(key)]
    if differing:
        raise StoreError(
            f"{other.store} and {one.store} differ in how their scans were prepared ({', '.join(differing)}); "
            "merge corpora of one region"
        )
    if other.statistics != one.statistics:
        raise StoreError(
            f"the scans of {other.store} were normalised by other statistics than those of {one.store}; "
            "prepare them together, in one store of sources"
        )


def _unite(sources: list[dict[str, Any]], holders: list[tuple[Corpus, int]], other: Corpus) -> list[int]:
    """Add the sources of a corpus to those that are there; return where each of them stands now."""
    contents = {source["content_sha256"]: place for place, source in enumerate(sources)}
    names = {source["name"]: place for place, source in enumerate(sources)}
    places = []
    for position, source in enumerate(other.manifest.sources):
        place = contents.get(source["content_sha256"])
        if place is not None:
            _check_same(*holders[place], other, position)
            sources[place] = _under_both(sources[place], source)
        elif source["name"] in names:
            there = holders[names[source["name"]]][0].store
            raise StoreError(
                f"source {source['name']} of {other.store} is not the source of that name in {there}; "
                "prepare one of them anew, under another dataset's name"
            )
        else:
            place = len(sources)
            sources.append(source)
            holders.append((other, position))
        places.append(place)
    return places


def _under_both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a source that is described twice: what either asks for holds."""
    united = {**one, "redistribute_derived": one["redistribute_derived"] and other["redistribute_derived"]}
    for key in _UNITED:
        united[key] = _BETWEEN.join(dict.fromkeys([*one[key].split(_BETWEEN), *other[key].split(_BETWEEN)]))
    return united


def _check_same(one: Corpus, here: int, other: Corpus, there: int) -> None:
    """Refuse a source whose voxels two releases brought to the network's units differently."""
    sums = [
        [entry["sha256"] for _, entry in sorted(source_sums(corpus.store, corpus.manifest)[str(position)].items())]
        for corpus, position in ((one, here), (other, there))
    ]
    if sums[0] != sums[1]:  # perhaps only compressed otherwise
        mine, theirs = one.source(here), other.source(there)
        if not (
            np.array_equal(mine.voxels.view(np.uint16), theirs.voxels.view(np.uint16))
            and np.array_equal(mine.roi, theirs.roi)
        ):
            name = one.manifest.sources[here]["name"]
            raise StoreError(
                f"source {name} has other voxels in {other.store} than in {one.store}; run synth verify on both"
            )
