"""The network that a user names: a file on this machine, one on a hub, or the one that comes with the software.

Commands give every ``--checkpoint`` and ``--init`` to this door. Networks on a hub are fetched once. How the network of
the software was made, and of what, says ``docs/network.md``.
"""

from collections.abc import Callable
from pathlib import Path

from scans.durable import sha256
from scans.errors import CheckpointError
from scans.hub.address import MODEL, Address, at_revision, hub_address, on_hub
from scans.hub.download import address_of, cached_files, fetch_file
from scans.hub.listing import listing, pin
from scans.hub.refusals import UnreachableError

FLAIR = Path(__file__).parents[1] / "shipped" / "flair.safetensors"
_SUFFIX = ".safetensors"
_SHAPE = f"hf://org/name/NAME{_SUFFIX}"


def checkpoint_at(
    where: str | Path, revision: str | None = None, say: Callable[[str], None] = lambda sentence: None
) -> Path:
    """Return the file of a checkpoint.

    Parameters
    ----------
    where : str or Path
        A path, or ``hf://org/name``: the network of a repository, with ``@revision`` and, where there are several,
        ``/NAME.safetensors``.
    revision : str, optional
        Of a repository: a branch, a tag or a commit.
    say : callable
        Told which file of which commit it is, and its SHA-256.

    Returns
    -------
    Path
        Of a network on a hub: in the cache of the hub's client. Where the hub does not answer, what an earlier call
        has fetched is taken, and `say` is told so.

    Raises
    ------
    CheckpointError
        If the URL is another.
    HubError
        If a revision is given for a file, or the hub has no such network, refuses, or does not answer and nothing was
        fetched before.
    """
    if not on_hub(where):
        if "://" in str(where):
            raise CheckpointError(
                f"{where}: a checkpoint is a file on this machine, or hf://org/name on a hub; give either"
            )
        return Path(at_revision(str(where), revision))
    address = hub_address(str(where), MODEL, revision)
    try:
        pinned = pin(address)
        files = listing(pinned)
        found = pinned.file(_one(address, [path for path in files if path.endswith(_SUFFIX)]))
        name = None if address.pinned else address.revision or "main"
        path, told = fetch_file(found, files[found.path], name), str(found)
    except UnreachableError:
        cached = {each.name: each for each in cached_files(address, _SUFFIX)}
        if not cached:
            raise
        path = cached[_one(address, list(cached))]
        told = f"{address}: the hub does not answer; {path.name} of commit {path.parent.name} was fetched before"
    say(f"{told}: SHA-256 {sha256(path)}")
    return path


def checkpoint_or_shipped(
    given: str | Path | None, revision: str | None = None, say: Callable[[str], None] = lambda sentence: None
) -> Path:
    """Return a checkpoint that was given, or the one that comes with the software; parameters as of `checkpoint_at`.

    Raises
    ------
    CheckpointError
        If none was given, and the installation lacks its own or a revision was.
    HubError
        As of `checkpoint_at`.
    """
    if given is not None:
        return checkpoint_at(given, revision, say)
    if revision is not None:
        raise CheckpointError(f"--revision {revision}: give --checkpoint hf://org/name too, or leave it out")
    if not FLAIR.is_file():
        raise CheckpointError(
            f"{FLAIR}: the network that comes with the software is not there; install it again, or give --checkpoint"
        )
    return FLAIR


def origin_of(checkpoint: Path) -> str:
    """Return where a checkpoint came from, as everything that is made with it records.

    Returns
    -------
    str
        Of a file that `checkpoint_at` fetched its address on the hub, at a commit: ``hf://org/name@COMMIT/NAME``. Of
        any other its name alone, since folders say who works where.
    """
    address = address_of(checkpoint)
    return checkpoint.name if address is None else str(address)


def _one(address: Address, names: list[str]) -> str:
    """Return the name of the one network that is meant."""
    if address.path:
        if address.path not in names:
            raise CheckpointError(
                f"{address}: is no {_SUFFIX} file of that repository; give {_SHAPE}{_such(address, names)}"
            )
        return address.path
    if len(names) != 1:
        found = "several networks" if names else f"no {_SUFFIX} file"
        then = "name one" if names else "give a repository made by train push"
        raise CheckpointError(f"{address}: holds {found}; {then}{_such(address, names)}")
    return names[0]


def _such(address: Address, names: list[str]) -> str:
    return f", such as {address.file(sorted(names)[0])}" if names else ""
