"""Push: a corpus or a pack into a dataset of a hub, with its card; what may not be passed on stays here.

A repository holds one corpus, which may grow there as it does in a folder, but is never replaced by another: whoever
pinned a commit of it keeps that, and whoever did not never reads two corpora mixed.
"""

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from scans.durable import sha256
from scans.errors import HubError, StoreError
from scans.hub.address import DATASET, Address
from scans.hub.listing import Remote
from scans.hub.upload import Piece, Pushed, destination, upload
from synth.corpus import Corpus
from synth.corpus.manifest import ROOT
from synth.corpus.receipt import CARD
from synth.report.card import card_with_receipt
from synth.share.bag import CORPUS, Bag, Item
from synth.share.pack import check_passed_on, complete, corpus_files
from synth.share.pack_page import pack_page
from synth.share.recipe_pack import Recipes
from synth.share.unpack import check_corpus
from synth.store.folder import Folder

_PAGE = "README.md"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.zip")
Progress = Callable[[int, int], None]


def push(
    what: str,
    url: str,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str = "",
    progress: Progress = lambda files, total: None,
) -> Pushed:
    """Push a corpus, or a pack of one.

    Parameters
    ----------
    what : str
        A corpus in a folder, or a file made by `synth.share.pack.pack` or `synth.share.recipe_pack.pack_recipes`.
    url : str
        ``hf://datasets/org/name``.
    revision : str, optional
        A branch; ``main`` if not given.
    private : bool
        Make the repository for its owners alone.
    message : str
        Of the commit.
    progress : callable
        Called with (files just settled, files in all).

    Returns
    -------
    Pushed

    Raises
    ------
    UserError
        If the terms of a source do not allow it, something here is damaged or incomplete, the hub refuses, or it
        holds something else already. The same call goes on where it was.
    """
    address = destination(url, DATASET, revision)
    pieces = _of_pack(Path(what), address) if Path(what).is_file() else _of_corpus(what, address)
    words = message or f"Artificial tumours by layered-tumors: {Path(what).name}"
    return upload(address, pieces, message=words, private=private, check=_fitting(address, pieces), progress=progress)


def _of_pack(pack: Path, address: Address) -> list[Piece]:
    """Return a pack, checked as whoever takes it out will, and its page."""
    if not _NAME.fullmatch(pack.name):
        raise StoreError(
            f"{pack}: call it something.zip, in plain letters and digits; that will be its name on the hub"
        )
    bag = Bag(pack)
    voxels = bag.kind == CORPUS
    manifest = check_corpus(bag) if voxels else Recipes(pack).manifest
    if voxels:
        check_passed_on(
            manifest, f"{pack} is not pushed", "synth pack --recipes packs no pixels, and that pack can be pushed"
        )
    page = pack_page(manifest, pack.name, str(replace(address, revision=None)), voxels=voxels).encode()
    return [Piece(pack.name, pack, sha256(pack)), _in_memory(_PAGE, page)]


def _of_corpus(where: str, address: Address) -> list[Piece]:
    """Return the files of a corpus, with its card."""
    store, manifest, receipts = complete(where)
    if not isinstance(store, Folder):
        raise StoreError(f"{where}: only a corpus in a folder is pushed; synth pack it into a file here, and push that")
    check_passed_on(
        manifest,
        f"{where} is not pushed",
        f"synth pack {where} --recipes --out recipes.zip packs no pixels, and that pack can be pushed",
    )
    items = corpus_files(store, manifest, receipts)
    pieces = [_piece(store, item) for item in items]
    if store.size(CARD) < 0:
        card = card_with_receipt(Corpus(where))
        pieces += [_in_memory(key, content) for key, content in card.items()]
    return pieces


def _piece(store: Folder, item: Item) -> Piece:
    """Return a file of a corpus as it is sent, after comparing it with its receipt."""
    if item.sha256 is None:  # decided by the manifest or a receipt
        return _in_memory(item.key, b"".join(item.parts()))
    of_card = item.key.partition("/")[0] == "card" or "/" not in item.key
    if store.sha256(item.key) != item.sha256:
        raise StoreError(f"{store}/{item.key} is damaged: its SHA-256 differs from the receipt; run synth verify")
    return Piece(item.key, store.root / item.key, item.sha256, describes=of_card)


def _in_memory(path: str, content: bytes) -> Piece:
    return Piece(path, content, hashlib.sha256(content).hexdigest(), describes=True)


def _fitting(address: Address, pieces: list[Piece]) -> Callable[[dict[str, Remote]], Collection[str]]:
    """Return what refuses a repository that holds another corpus, or one that has more than this."""
    ours = {piece.path for piece in pieces}
    data = {piece.path: piece for piece in pieces if not piece.describes and ROOT in ours}  # a pack may be replaced
    folders = {path.partition("/")[0] for path in ours if "/" in path} - {"card"}

    def check(there: dict[str, Remote]) -> Collection[str]:
        if ROOT in there and ROOT not in ours:
            raise HubError(
                f"{address}: holds a corpus already, and a pack has no place beside it; give another repository"
            )
        if ROOT in ours and (packs := [path for path in there if path.endswith(".zip") and "/" not in path]):
            raise HubError(f"{address}: holds a pack already, {packs[0]}; give another repository")
        for path, remote in there.items():
            foreign = path not in ours and path.partition("/")[0] in folders
            if foreign or (path in data and not remote.holds(data[path].content, data[path].sha256)):
                raise HubError(
                    f"{address}: holds another corpus already ({path} is not this one's); "
                    "give another repository, or another --revision BRANCH"
                )
        return ()

    return check
