"""Shards: lay a corpus out, grow it, and say which of its shards are still to be made.

A shard is every array of K consecutive samples, made by one writer and committed by a receipt. A shard without a
valid receipt does not exist: it is made again.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from scans.errors import StoreError
from synth.corpus.codec import encode
from synth.corpus.layout import metadata, source_arrays
from synth.corpus.manifest import COPY, ROOT, Manifest, load_manifest
from synth.corpus.receipt import SOURCES, Sums, is_own, read_receipts, source_sums, sources_receipt, sum_of
from synth.store.base import Store
from synth.tumour.sample import Normal

Normals = Callable[[int], Normal]  # the source at a position of the manifest's list


def create(store: Store, manifest: Manifest, normals: Normals) -> None:
    """Lay out an empty corpus with its sources, or check that the one already there is the same.

    Many may do so at once: the corpus appears whole, and only once.

    Raises
    ------
    StoreError
        If something else is there.
    """
    if store.size(ROOT) < 0:
        free = store.is_empty() or _is_begun(store, manifest)
        if not free and store.size(ROOT) < 0:  # by now, another run may have laid it out
            raise StoreError(f"{store} exists and is not a corpus; choose another --out")
        if free and store.lay_out(_files(manifest, normals, {})):
            return
    check_same(load_manifest(store), manifest, store)


def _is_begun(store: Store, manifest: Manifest) -> bool:
    """Say whether nothing is there but what a corpus begins with: in a bucket, it does not appear at once."""
    positions = range(len(manifest.sources))
    sources = {array.key(position) for array in source_arrays(manifest.size).values() for position in positions}
    return set(store.sizes()) <= {*sources, SOURCES, COPY, ROOT, *metadata(manifest)}


def check_same(there: Manifest, wanted: Manifest, store: Store) -> None:
    """Raise StoreError, naming what differs, if a corpus is not the one wanted."""
    if there.layout != wanted.layout:
        raise StoreError(f"{store} holds a corpus in layout {there.layout}; choose another --out, or see synth convert")
    if there.identity == wanted.identity:
        return
    first = (there.generations[0], wanted.generations[0])
    pairs = {
        "samples": (len(there), len(wanted)),
        "seed": tuple(g.seed for g in first),
        "size": (there.size, wanted.size),
        "shard_size": (there.shard_size, wanted.shard_size),
        "settings": tuple(g.settings for g in first),
        "sources": tuple([s["content_sha256"] for s in m.sources] for m in (there, wanted)),
        "statistics": (there.statistics, wanted.statistics),
    }
    differing = [name for name, (one, other) in pairs.items() if one != other]
    hint = "; to add samples to it, use --append" if differing == ["samples"] and len(wanted) > len(there) else ""
    raise StoreError(
        f"{store} holds another corpus (it differs in {', '.join(differing) or 'how its samples were drawn'}); "
        f"choose another --out, or delete it{hint}"
    )


def extend(store: Store, manifest: Manifest, normals: Normals) -> None:
    """Announce more samples, and sources, behind those of a corpus; nothing that is finished is written again.

    Raises
    ------
    StoreError
        If `manifest` is not the corpus there with something added at the end.
    """
    there = load_manifest(store)
    if there.identity == manifest.identity:
        return
    old = len(there.blocks), len(there.sources), len(there.generations)
    if (manifest.blocks[: old[0]], manifest.sources[: old[1]], manifest.generations[: old[2]]) != (
        there.blocks, there.sources, there.generations,
    ):  # fmt: skip
        raise StoreError(f"{store} holds another corpus than the one to be grown; give its own sources and settings")
    try:
        sums = source_sums(store, there)
    except StoreError:
        sums = source_sums(store, manifest)  # written by a run that ended before it announced its sources
    for key, content in _files(manifest, normals, sums):  # the manifest comes last: until then the corpus is as it was
        store.write(key, content)


def _files(manifest: Manifest, normals: Normals, known: Sums) -> Iterator[tuple[str, bytes]]:
    """Yield the files that a corpus begins with, the manifest last; sources that are `known` are there already."""
    sums = dict(known)
    for position in range(len(manifest.sources)):
        if str(position) not in sums:
            files = source_files(manifest, position, normals(position))
            sums[str(position)] = {key: sum_of(content) for key, content in files.items()}
            yield from files.items()
    yield SOURCES, sources_receipt(manifest, sums)
    yield from metadata(manifest).items()
    yield from manifest.files().items()


def source_files(manifest: Manifest, position: int, normal: Normal) -> dict[str, bytes]:
    """Return the files of one source, by key."""
    values = {"normal": normal.voxels, "roi": np.ascontiguousarray(normal.roi).view(np.uint8)}
    arrays = source_arrays(manifest.size)
    return {arrays[name].key(position): encode(arrays[name], values[name]) for name in arrays}


def unfinished(store: Store, manifest: Manifest, shards: Iterable[int] | None = None) -> list[int]:
    """Return those of `shards`, or of all, without a valid receipt, or whose files are not of the size it says."""
    asked = range(manifest.shard_count) if shards is None else list(shards)
    receipts, sizes = read_receipts(store, asked), store.sizes()
    return [
        shard
        for shard in asked
        if shard not in receipts
        or not is_own(manifest, receipts[shard])
        or any(sizes.get(key) != entry["bytes"] for key, entry in receipts[shard].files.items())
    ]
