"""Push: a network to a hub, as `train.share.export` makes it: weights, model card, checksums, all in one commit."""

import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from scans.durable import sha256
from scans.errors import CheckpointError
from scans.hub.address import MODEL, Address
from scans.hub.download import fetch_file
from scans.hub.listing import Remote
from scans.hub.upload import Piece, Pushed, destination, upload
from train.inference.named_network import checkpoint_at
from train.network.checkpoint import load_record
from train.network.data_terms import trained_on, unclear
from train.settings import SettingsError
from train.share.export import SUMS, digests_in, export, listed_in

_CARD = "README.md"


def push(
    what: str | Path,
    url: str,
    *,
    name: str = "",
    evaluations: Sequence[Path] = (),
    licence: str = "",
    anonymous: bool = False,
    terms_read: bool = False,
    private: bool = False,
    revision: str | None = None,
    message: str = "",
    warn: Callable[[str], None] = lambda sentence: None,
) -> Pushed:
    """Push a network.

    Parameters
    ----------
    what : str or Path
        A checkpoint, or a folder that `train.share.export.export` made.
    url : str
        ``hf://org/name``.
    name, evaluations, licence, anonymous
        As of `train.share.export.export`; of a checkpoint alone.
    terms_read : bool
        The user has read the terms of the data, and they allow it.
    private : bool
        Make the repository for its owners alone.
    revision : str, optional
        A branch; ``main`` if not given.
    message : str
        Of the commit.
    warn : callable
        Told in a sentence each what may forbid it.

    Returns
    -------
    Pushed

    Raises
    ------
    UserError
        If terms may forbid it and neither `terms_read` nor `private` is given, what is to be pushed is damaged, or the
        hub refuses. The same call goes on where it was.
    """
    address = destination(url, MODEL, revision)
    with tempfile.TemporaryDirectory(prefix="layered-tumors.") as temporary:
        folder = Path(what)
        if not folder.is_dir():
            folder = Path(temporary) / "export"
            export(
                checkpoint_at(what), folder, name=name, evaluations=evaluations, licence=licence, anonymous=anonymous
            )
        elif name or evaluations or licence or anonymous:
            raise SettingsError(
                f"{what}: is an export already; give --name, --evaluation, --licence and --anonymous to that"
            )
        files = _exported(folder)
        _check_terms(what, folder, files, private or terms_read, warn)
        pieces = [Piece(file, folder / file, digest, describes=file == _CARD) for file, digest in files.items()]
        return upload(
            address,
            pieces,
            message=message or f"A network by layered-tumors: {next(iter(files))}",
            private=private,
            check=lambda there: _earlier(address, there),
        )


def _exported(folder: Path) -> dict[str, str]:
    """Return the files of an export and their SHA-256, the list itself last.

    Raises
    ------
    CheckpointError
        If it is none, or is no longer what it was.
    """
    sums = listed_in(folder)
    if not any(file.endswith(".safetensors") for file in sums):
        raise CheckpointError(f"{folder}: is no folder made by train export; give one, or a checkpoint")
    for file, digest in sums.items():
        if not (folder / file).is_file() or sha256(folder / file) != digest:
            raise CheckpointError(f"{folder / file}: is not what {SUMS} says; export the network again")
    return {**sums, SUMS: sha256(folder / SUMS)}


def _check_terms(
    what: str | Path, folder: Path, files: Collection[str], allowed: bool, warn: Callable[[str], None]
) -> None:
    weights = next(file for file in files if file.endswith(".safetensors"))
    if sentences := unclear(trained_on(load_record(folder / weights).data)):
        if not allowed:
            raise CheckpointError(
                f"{what} is not pushed: {' '.join(sentences).rstrip('.')}; read those terms, then add --terms-read, "
                "or --private to show it to nobody else"
            )
        for sentence in sentences:
            warn(f"before others see it: {sentence} See the top of its page.")


def _earlier(address: Address, there: dict[str, Remote]) -> Collection[str]:
    """Return the files that an earlier push has left, by the list that it has left with them."""
    if SUMS not in there:
        return ()
    lines = fetch_file(address.file(SUMS), there[SUMS]).read_text(encoding="utf-8", errors="replace").splitlines()
    return digests_in(lines).keys() & set(there)
