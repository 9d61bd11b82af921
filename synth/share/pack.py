"""Pack: a corpus as one file to hand on.

A pack is a bag (`synth.share.bag`) of the files of a corpus and nothing else, made only if the terms of every source
allow it; `synth.share.recipe_pack` is the form that holds no pixels.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scans.catalog.terms import terms_of
from scans.errors import StoreError, UserError
from synth.corpus.layout import metadata, source_arrays
from synth.corpus.manifest import Manifest
from synth.corpus.receipt import (
    CARD,
    SOURCES,
    Receipt,
    content_hash,
    is_file_list,
    is_own,
    read_receipts,
    receipt_key,
    source_sums,
    sources_receipt,
)
from synth.corpus.verify import read_manifest
from synth.report.permissions import contradicting
from synth.share.bag import CORPUS, Item, item_of, write_bag
from synth.store.base import Store
from synth.store.opening import open_store
from synth.store.sealed_json import MOST_BYTES, check_seal, parse

_PART = 2**24  # bytes of a file in memory at once
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Packed:
    """A pack that was written.

    Attributes
    ----------
    path : Path
    bytes : int
    samples : int
    new : bool
        False if the same pack was there already.
    left_out : tuple of str
        Files in the corpus's folder that are no part of it.
    """

    path: Path
    bytes: int
    samples: int
    new: bool
    left_out: tuple[str, ...] = ()


def pack(where: str | Path, out: str | Path, progress: Progress = lambda files, total: None) -> Packed:
    """Pack a corpus with its pixels.

    Parameters
    ----------
    where : str or Path
        The corpus: a folder or a URL.
    out : str or Path
        The file to write, on this machine.
    progress : callable
        Called with (files just packed, files in all).

    Returns
    -------
    Packed

    Raises
    ------
    UserError
        If the terms of a source do not allow it, the corpus is not complete or damaged, or something else is at `out`.
    OSError
        E.g. when the disk is full; nothing is left behind.
    """
    path = local(out)
    store, manifest, receipts = complete(where)
    check_passed_on(
        manifest,
        f"{where} cannot be packed",
        f"synth pack {where} --recipes --out {path} packs no pixels, only how to make them again",
    )
    items = corpus_files(store, manifest, receipts)
    keys = {item.key for item in items}
    new = write_bag(path, CORPUS, items, told_of("A corpus", manifest, receipts), progress)
    left_out = tuple(key for key in store.sizes() if key not in keys and key != ".lock")
    return Packed(path, path.stat().st_size, len(manifest), new, left_out)


def local(out: str | Path) -> Path:
    """Return the path of a pack that is to be written; StoreError if it is a URL."""
    if "://" in str(out):
        raise StoreError(f"--out {out}: a pack is one file on this machine; give a path, and copy it from there")
    return Path(out)


def complete(where: str | Path) -> tuple[Store, Manifest, dict[int, Receipt]]:
    """Open a corpus that is to be packed.

    Raises
    ------
    StoreError
        If there is none, or a part of it is missing or damaged.
    """
    store = open_store(where)
    manifest, findings = read_manifest(store)
    if findings:
        raise StoreError(f"{findings[0]}; then pack it")
    receipts = read_receipts(store, range(manifest.shard_count))
    for shard in range(manifest.shard_count):
        if shard not in receipts:
            raise StoreError(
                f"{where} holds {len(receipts)} of {manifest.shard_count} shards; "
                "run the command that was making it again, then pack it"
            )
        if not is_own(manifest, receipts[shard]):
            raise StoreError(f"{where}: shard {shard} belongs to another corpus; run synth verify")
    return store, manifest, receipts


def check_passed_on(manifest: Manifest, refusal: str, instead: str) -> None:
    """Raise UserError, in a sentence of these parts, if the terms of a source do not let the corpus be passed on."""
    if forbidden := _forbidden(manifest):
        raise UserError(
            f"{refusal}: the terms of {len(forbidden)} of its {len(manifest.sources)} sources do not "
            f"let data derived from them be passed on ({_by_licence(forbidden)}); {instead}"
        )
    if names := contradicting(terms_of(manifest.sources)):
        raise UserError(f"{refusal}: licences of its sources contradict each other ({', '.join(names)}); {instead}")


def _forbidden(manifest: Manifest) -> list[dict[str, str]]:
    """Return the sources whose terms do not let data derived from them be passed on, as a corpus's card says it too."""
    kept = [terms for terms in terms_of(manifest.sources) if not terms.passes_on]
    return [manifest.sources[position] for position in sorted(p for terms in kept for p in terms.sources)]


def _by_licence(sources: list[dict[str, str]]) -> str:
    named: dict[str, list[str]] = {}
    for source in sources:
        named.setdefault(source["licence"], []).append(source["name"])
    return "; ".join(f"licence {licence}: {', '.join(names)}" for licence, names in named.items())


def told_of(what: str, manifest: Manifest, receipts: dict[int, Receipt]) -> dict[str, str]:
    """Return what a bag says of the corpus in it; the identifier is `Corpus.content_hash`."""
    told = f"{what} of {len(manifest)} artificial tumours in {len(manifest.sources)} healthy scans, by layered-tumors"
    return {"External-Description": told, "External-Identifier": content_hash(manifest.identity, receipts)}


def corpus_files(store: Store, manifest: Manifest, receipts: dict[int, Receipt]) -> list[Item]:
    """Return every file of a corpus; what the manifest or a receipt alone decides is written anew."""
    sums = source_sums(store, manifest)
    told = {**metadata(manifest), **manifest.files(), SOURCES: sources_receipt(manifest, sums)}
    for key, content in metadata(manifest).items():
        if store.size(key) < 0 or parse(store.read(key, MOST_BYTES), key) != json.loads(content):
            raise StoreError(f"{store}/{key} is missing or damaged; synth repair writes it again")
    listed: dict[str, dict[str, int | str]] = {}
    for position in range(len(manifest.sources)):
        files = sums.get(str(position), {})
        if set(files) != {array.key(position) for array in source_arrays(manifest.size).values()}:
            raise StoreError(f"{store}/{SOURCES} does not name the files of its sources; synth repair writes it again")
        listed |= files
    for shard, receipt in receipts.items():
        told[receipt_key(shard)] = receipt.to_bytes()
        listed |= receipt.files
    if store.size(CARD) >= 0:
        told[CARD] = store.read(CARD, MOST_BYTES)
        where = f"{store}/{CARD}"
        card = check_seal(parse(told[CARD], where), where).get("files")
        if not isinstance(card, dict) or not is_file_list(card):
            raise StoreError(f"{where} is damaged; synth card writes it again")
        listed |= card
    sizes = store.sizes()
    for key, entry in listed.items():
        if sizes.get(key, -1) != entry["bytes"]:
            raise StoreError(f"{store}/{key} is missing, or not of the size its receipt says; run synth verify")
    return [
        *(item_of(key, content) for key, content in told.items()),
        *(_in_store(store, key, int(entry["bytes"]), str(entry["sha256"])) for key, entry in listed.items()),
    ]


def _in_store(store: Store, key: str, size: int, sha256: str) -> Item:
    def parts() -> Iterator[bytes]:
        for start in range(0, size, _PART):
            yield store.read_part(key, start, min(_PART, size - start))

    return Item(key, size, parts, sha256)
