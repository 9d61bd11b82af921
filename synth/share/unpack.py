"""Unpack: a corpus from a pack that a stranger may have made.

All is checked where it lies, in the pack: names, sizes, checksums, and that it holds the files of the corpus that its
manifest describes and no others. Only then is anything written.
"""

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from scans.errors import StoreError
from synth.corpus.layout import sample_arrays
from synth.corpus.manifest import ROOT, Manifest
from synth.corpus.receipt import CARD, FOLDER, is_file_list
from synth.corpus.verify import check_files, read_manifest
from synth.share.bag import CORPUS, RECIPES, Bag
from synth.store.base import Store
from synth.store.folder import Folder
from synth.store.opening import open_store
from synth.store.sealed_json import MOST_BYTES, check_seal, parse

# What may describe a corpus beside its arrays; a card's receipt is a stranger's too.
_OF_A_CARD = {".csv", ".html", ".json", ".jsonld", ".md", ".parquet", ".png", ".svg", ".txt"}


def unpack(
    pack: str | Path, out: str | Path, progress: Callable[[int, int], None] = lambda files, total: None
) -> Manifest:
    """Unpack a corpus.

    Parameters
    ----------
    pack : str or Path
        Made by `synth.share.pack.pack`.
    out : str or Path
        The corpus to make: a folder or a URL.
    progress : callable
        Called with (files just checked or written, twice the files in all).

    Raises
    ------
    StoreError
        If anything in the pack is not as it must be, or something is at `out`; nothing is left behind.
    """
    bag = open_bag(pack, CORPUS)
    store = open_store(out)
    if not store.is_empty():
        raise StoreError(f"--out {out} exists; choose another --out, or delete it")
    progress(0, 2 * len(bag.sums))
    manifest = check_corpus(bag, lambda: progress(1, 2 * len(bag.sums)))

    def write(target: Store) -> None:
        for key in [*(key for key in bag.sums if key != ROOT), ROOT]:  # which makes a corpus of the rest
            _copy(bag, target, key)
            progress(1, 2 * len(bag.sums))

    if isinstance(store, Folder):
        if not store.fill(write):
            raise StoreError(f"--out {out} appeared meanwhile; choose another --out")
    else:
        try:
            write(store)
        except BaseException:
            with contextlib.suppress(StoreError):
                for key in bag.sums:
                    store.remove(key)
            raise
    return manifest


def open_bag(pack: str | Path, kind: str) -> Bag:
    """Open a pack of a kind.

    Raises
    ------
    StoreError
        If it is none, or of the other kind.
    """
    if "://" in str(pack):
        raise StoreError(f"{pack}: copy the pack to this machine first, and give its path")
    try:
        bag = Bag(pack)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{pack}: no pack here; give a file made by synth pack") from error
    if bag.kind != kind:
        raise StoreError(
            f"{pack} holds the recipes of a corpus and no pixels; "
            f"synth rehydrate {pack} --sources sources.zarr --out corpus.zarr makes them from your scans"
            if bag.kind == RECIPES
            else f"{pack} holds a whole corpus; unpack it with synth unpack {pack} --out corpus.zarr"
        )
    return bag


def check_corpus(bag: Bag, progress: Callable[[], None] = lambda: None) -> Manifest:
    """Check every file of a packed corpus.

    Parameters
    ----------
    bag : Bag
    progress : callable
        Called as each file has been read.

    Raises
    ------
    StoreError
        Naming the first thing that is wrong.
    """
    manifest, findings = read_manifest(bag)
    if findings:
        raise StoreError(f"{findings[0].text.partition(';')[0]}; get the pack again from where it came from")
    if manifest.shard_count > len(bag.sums):
        raise StoreError(f"{bag}: it lacks shards of its corpus; ask for a pack of the finished corpus")
    _check_card(bag, manifest)
    for key in bag.sums:
        bag.sha256(key)  # which it remembers
        progress()
    for finding in itertools.islice(check_files(bag, manifest), 1):
        raise StoreError(f"{bag}: {finding.text.partition(';')[0]}; get the pack again from where it came from")
    return manifest


def _check_card(bag: Bag, manifest: Manifest) -> None:
    """Refuse files that call themselves a card and are something else."""
    if CARD not in bag.sums:
        return
    files = check_seal(parse(bag.read(CARD, MOST_BYTES), CARD), f"{bag}/{CARD}").get("files")
    if not isinstance(files, dict) or not is_file_list(files):
        raise StoreError(f"{bag}: {CARD} is no list of files; get the pack again from where it came from")
    taken = {FOLDER, "sources", *sample_arrays(manifest)}
    for key in files:
        if key.partition("/")[0] in taken or PurePosixPath(key).suffix not in _OF_A_CARD:
            raise StoreError(f"{bag}: {key[:80]!r} is no part of a corpus; whoever packed it is not to be trusted")


def _copy(bag: Bag, target: Store, key: str) -> None:
    writing = target.create(key)
    try:
        for part in bag.parts(key):
            writing.append(part)
        if writing.commit()["sha256"] != bag.sums[key]:
            target.remove(key)
            raise StoreError(f"{bag}: {key} changed while it was unpacked; run the command again")
    finally:
        writing.discard()
