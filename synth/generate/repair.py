"""Repair: find what is wrong with a corpus, and make exactly that again.

The manifest stands twice and decides every `zarr.json`; sources and shards come out of the store of sources again, byte
for byte. A file gives way only to a whole one that is known to be right: until then it stays, damaged as it is.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scans.errors import StoreError
from synth.cluster import check_workers
from synth.corpus.creation import source_files
from synth.corpus.layout import metadata
from synth.corpus.manifest import Manifest
from synth.corpus.receipt import SOURCES, Sums, read_receipt, source_sums, sources_receipt, sum_of
from synth.corpus.verify import Finding, check_files, read_manifest, verify
from synth.generate.shards import Filled, ShardDone, fill
from synth.generate.worker import Lender, make_shard, opened
from synth.store.base import Store
from synth.store.opening import address, open_store

Filling = Callable[[Callable[[ShardDone], None], Callable[[str], None]], Filled]
Run = Callable[[Manifest, Sequence[int], Filling], Filled]


@dataclass
class Mending:
    """What a repair did.

    Attributes
    ----------
    mended : list of str
        What it made again or removed.
    left : list of str
        What is wrong still, and why.
    needs_sources : bool
        Whether the sources would help.
    """

    mended: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    needs_sources: bool = False


def repair(
    where: str | Path,
    sources: Path | None = None,
    deep: bool = False,
    remove_foreign: bool = False,
    cluster: str = "local",
    workers: int | None = None,
    run: Run = lambda manifest, shards, filling: filling(lambda step: None, lambda sentence: None),
) -> Mending:
    """Mend a corpus, and check it again.

    Parameters
    ----------
    where : str or Path
        A folder or a URL.
    sources : Path, optional
        The store that it was made from, or one that holds its sources under whatever names. Without it only the
        manifest and what follows from it is mended.
    deep : bool
        Decode and recompute every sample, too: finds what checksums agree with.
    remove_foreign : bool
        Remove files that are no part of the corpus.
    cluster, workers
        See :func:`synth.cluster.open_cluster`.
    run : callable
        Calls its last argument, which makes shards, with what is to be called as each ends, and for a sentence
        about the cluster; its first are the manifest and the shards.

    Raises
    ------
    CatalogError
        If there is no such cluster, or its scheduler goes away.
    StoreError
        If there is no corpus, both copies of its manifest are lost, or another run is writing it.
    """
    check_workers(cluster, workers)
    store = open_store(where)
    _read_manifest(store)  # before a lock is put where there is no corpus
    with store.only_writer():
        store.sweep()
        manifest, findings = _read_manifest(store)
        findings += check_files(store, manifest)
        lend = None if sources is None else Lender(sources.resolve(), manifest)
        result = Mending()
        reasons: dict[str, None] = {}  # why something is left, each once
        result.mended += _describe_again(store, manifest, findings)
        if lend is not None:
            result.mended += _lend_again(store, manifest, lend, findings, reasons)
        if remove_foreign:
            result.mended += _remove(store, findings, reasons)

        def make_again(shards: list[int], known: bool) -> None:
            if sources is None or not shards:
                return
            work = functools.partial(_make_again, sources.resolve(), address(where), manifest.identity, known)
            outcome = run(
                manifest, shards,
                lambda progress, say: fill(store, manifest, work, shards, cluster, workers, progress, say, again=True),
            )  # fmt: skip
            result.mended += [f"shard {shard}: made again" for shard in shards if shard not in outcome.failed]
            reasons.update({f"shard {shard}: not made again: {why}": None for shard, why in outcome.failed.items()})
            store.sweep()

        damaged = _shards(findings)
        make_again(damaged, known=True)
        if deep:
            findings = verify(where)
            make_again([shard for shard in _shards(findings) if shard not in damaged], known=False)
        if result.mended:
            findings = verify(where) if deep else [*read_manifest(store)[1], *check_files(store, manifest)]
    result.left = list(dict.fromkeys([*map(str, findings), *reasons]))
    result.needs_sources = sources is None and any(f.shard is not None or f.source is not None for f in findings)
    return result


def _read_manifest(store: Store) -> tuple[Manifest, list[Finding]]:
    try:
        return read_manifest(store)
    except StoreError as error:
        if not store.sizes():
            raise
        why = str(error).partition(";")[0]
        raise StoreError(
            f"{store}: neither copy of the manifest can be used ({why}), and nothing else says what the corpus holds; "
            "make it again elsewhere by the command that made it"
        ) from error


def _shards(findings: Iterable[Finding]) -> list[int]:
    return sorted({finding.shard for finding in findings if finding.shard is not None})


def _describe_again(store: Store, manifest: Manifest, findings: Iterable[Finding]) -> Iterator[str]:
    """Write again what the manifest alone decides, itself last."""
    files = {**metadata(manifest), **manifest.files()}
    for key in [key for key in files if key in {finding.key for finding in findings}]:
        store.write(key, files[key])
        yield f"{key}: written again"


def _lend_again(
    store: Store, manifest: Manifest, lend: Lender, findings: Iterable[Finding], reasons: dict[str, None]
) -> Iterator[str]:
    """Write sources again that are damaged, and their receipt if it is."""
    damaged = {finding.source for finding in findings if finding.source is not None}
    if not damaged:
        return
    try:
        known = source_sums(store, manifest)
    except StoreError:
        known = {}
    sums: Sums = {}
    for position, source in enumerate(manifest.sources):
        if position not in damaged:
            sums[str(position)] = known[str(position)]
            continue
        try:
            files = source_files(manifest, position, lend(position).normal)
            made = {key: sum_of(content) for key, content in files.items()}
            there = known.get(str(position), {})
            if set(there) == set(files) and there != made:
                raise StoreError(
                    f"source {source['name']} would not be the files it was; "
                    "use the versions that the manifest names under software"
                )
        except StoreError as error:
            reasons[f"source {source['name']}: not written again: {error}"] = None
            continue
        sums[str(position)] = made
        for key, content in files.items():
            if store.size(key) != len(content) or store.sha256(key) != made[key]["sha256"]:
                store.write(key, content)
                yield f"source {source['name']}: {key} written again"
    if len(sums) == len(manifest.sources) and sums != known:
        store.write(SOURCES, sources_receipt(manifest, sums))
        yield f"{SOURCES}: written again"


def _remove(store: Store, findings: Iterable[Finding], reasons: dict[str, None]) -> Iterator[str]:
    for key in [finding.foreign for finding in findings if finding.foreign is not None]:
        try:
            store.remove(key)
            yield f"{key}: removed"
        except StoreError as error:  # a name that no store has
            reasons[str(error)] = None


def _make_again(sources: Path, out: str, identity: str, known: bool, shard: int) -> int:
    """Make a shard that must hold what its receipt says, if that is known to be right."""
    receipt = read_receipt(*opened(out, identity), shard) if known else None
    return make_shard(sources, out, identity, shard, receipt.content if receipt else None)
