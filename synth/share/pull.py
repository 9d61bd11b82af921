"""Pull: a corpus or a pack from a dataset of a hub; it takes its name once every checksum in it is right.

What has come lies in a hidden folder beside its place until then, and the same command goes on with it.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scans.durable import locked, sync
from scans.errors import HubError, StoreError
from scans.hub.address import DATASET, Address, hub_address
from scans.hub.download import CLIENTS_OWN, fetch_folder
from scans.hub.listing import Remote, listing, pin
from scans.writing import no_folder_for, writing
from synth.corpus.manifest import ROOT, Manifest
from synth.corpus.verify import check_files, read_manifest
from synth.share.bag import CORPUS, Bag
from synth.share.recipe_pack import Recipes
from synth.share.unpack import check_corpus
from synth.store.folder import Folder

_LOCK = ".lock"
_ASK = "ask who pushed it to push it again"


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Attributes
    ----------
    kind : {"corpus", "pack", "recipes"}
    address : Address
        At the commit that it was taken from.
    manifest : Manifest
    left_out : tuple of str
        Files of the repository that are no part of the corpus.
    """

    kind: str
    address: Address
    manifest: Manifest
    left_out: tuple[str, ...] = ()


def pull(url: str, out: str | Path, revision: str | None = None) -> Pulled:
    """Pull a corpus or a pack.

    Parameters
    ----------
    url : str
        ``hf://datasets/org/name``, or one pack in it, ``hf://datasets/org/name/corpus.zip``.
    out : str or Path
        The folder to make of a corpus, or the file of a pack.
    revision : str, optional
        A branch, a tag or a commit.

    Returns
    -------
    Pulled

    Raises
    ------
    UserError
        If the hub refuses, it holds neither, something is at `out`, the disk is full, or what came is not as it must
        be. What has come whole is kept for the same call.
    """
    if "://" in str(out):
        raise StoreError(f"{out}: a pull ends in a folder or a file on this machine; give a path")
    place = Path(out)
    if os.path.lexists(place):
        raise StoreError(f"{out} exists; choose another place, or delete it")
    if not place.absolute().parent.is_dir():
        raise StoreError(no_folder_for(place))
    at = pin(hub_address(url, DATASET, revision))
    files = listing(at)
    at = _what(at, files)
    with writing(place, StoreError), _staged(place) as folder:
        fetch_folder(at, folder)
        taken = folder / at.path if at.path else folder
        try:
            pulled = _pack(at, taken) if at.path else _corpus(at, folder, files)
        except StoreError as error:
            if damaged := _damaged(at, folder, files):
                raise damaged from error
            shutil.rmtree(folder, ignore_errors=True)  # it came as it is there: there is nothing to go on with
            raise
        _put(folder, taken, place)
    return pulled


def _what(at: Address, files: dict[str, Remote]) -> Address:
    """Return the address of the one thing that is to be pulled: of a corpus the repository's, of a pack its file's."""
    packs = [path for path in files if path.endswith(".zip") and "/" not in path]
    if at.path:
        if at.path not in packs:
            raise HubError(f"{at}: is no pack in that repository; give {at.file('')}{_named(at, packs)}")
        return at
    if ROOT in files:
        return at
    if len(packs) != 1:
        found = "several packs" if packs else "neither a corpus nor a pack"
        raise HubError(
            f"{at}: holds {found}; give {'one of them' if packs else 'another repository'}{_named(at, packs)}"
        )
    return at.file(packs[0])


def _named(at: Address, packs: list[str]) -> str:
    return f", such as {at.file(packs[0])}" if packs else ""


@contextlib.contextmanager
def _staged(place: Path) -> Iterator[Path]:
    """Make, or take up, the folder in which a pull to a place lies until it is whole; one call at a time has it."""
    folder = place.with_name(f".{place.name[:100]}.pull")
    folder.mkdir(exist_ok=True)
    try:
        lock = locked(folder / _LOCK, "a+")
    except BlockingIOError as error:
        raise StoreError(f"{place} is being pulled by another run; wait for it, or choose another place") from error
    with lock:
        yield folder


def _corpus(at: Address, folder: Path, files: dict[str, Remote]) -> Pulled:
    """Check a corpus that has come; remove what is no part of it."""
    shutil.rmtree(folder / CLIENTS_OWN, ignore_errors=True)
    store = Folder(folder)
    manifest, findings = read_manifest(store)
    left_out = []
    for finding in (*findings, *check_files(store, manifest)):
        if finding.foreign is None:
            raise StoreError(f"{at}: {finding.text.partition(';')[0].replace(f'{store}/', '')}; {_ASK}")
        store.remove(finding.foreign)
        if finding.foreign in files:  # else another state of the repository has left it here
            left_out.append(finding.foreign)
    return Pulled("corpus", at, manifest, tuple(left_out))


def _pack(at: Address, file: Path) -> Pulled:
    bag = Bag(file)
    if bag.kind == CORPUS:
        return Pulled("pack", at, check_corpus(bag))
    return Pulled("recipes", at, Recipes(file).manifest)


def _damaged(at: Address, folder: Path, files: dict[str, Remote]) -> HubError | None:
    """Remove files that are not what the hub says; return the error that tells of it, None if all are."""
    wrong = [path for path, remote in files.items() if (folder / path).is_file() and not remote.holds(folder / path)]
    for path in wrong:
        (folder / path).unlink()
    if not wrong:
        return None
    return HubError(f"{at}: {wrong[0]} did not come as it is on the hub; run the command again, which fetches it anew")


def _put(folder: Path, taken: Path, place: Path) -> None:
    """Give what is whole its name."""
    if os.path.lexists(place):
        raise StoreError(f"{place} appeared meanwhile; choose another place")
    if taken is folder:
        (folder / _LOCK).unlink()
        for each in folder.rglob("*"):
            sync(each)
        sync(folder)
        folder.rename(place)
    else:
        sync(taken)
        taken.rename(place)
        shutil.rmtree(folder, ignore_errors=True)
    sync(place.absolute().parent)
