"""To a hub: files are sent in slices, those that are there already are not sent again, and in the end all are compared.

A commit holds at most a thousand files, and what describes the rest goes with the last: of a corpus sent in several
commits no reader sees half, and most are sent in one.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scans.errors import HubError
from scans.hub.address import Address, hub_address
from scans.hub.client import check_login, client
from scans.hub.listing import Remote, listing, pin
from scans.hub.refusals import asking, passing

_SLICE = 100  # files between two steps of the progress
_COMMIT = 1000  # files: hubs give up on much larger commits
_TRIES, _WAIT_S = 4, 1.0  # doubled with each try


@dataclass(frozen=True)
class Piece:
    """A file to be sent.

    Attributes
    ----------
    path : str
        Within the repository.
    content : bytes or Path
        In memory, or a local file.
    sha256 : str
    describes : bool
        Whether it tells of the others, so that it must not be there before them.
    """

    path: str
    content: bytes | Path
    sha256: str
    describes: bool = False


@dataclass(frozen=True)
class Pushed:
    """What came of an upload.

    Attributes
    ----------
    address : Address
        At the commit that holds it all.
    files, sent : int
        Files compared in the end, and those of them that had to be sent.
    """

    address: Address
    files: int
    sent: int


def destination(url: str, kind: str, revision: str | None) -> Address:
    """Return the repository that a push goes to; asked before anything is read, so that nobody waits for a refusal.

    Parameters
    ----------
    url, kind, revision
        As of `scans.hub.address.hub_address`.

    Raises
    ------
    HubError
        If it is none, or a file of one, or nobody is logged in.
    """
    address = hub_address(url, kind, revision)
    if address.path:
        raise HubError(f"{url}: give a whole repository, {address.file('')}")
    check_login(address)
    return address


def upload(
    address: Address,
    pieces: Sequence[Piece],
    *,
    message: str,
    private: bool = False,
    check: Callable[[dict[str, Remote]], Collection[str]] = lambda there: (),
    progress: Callable[[int, int], None] = lambda files, total: None,
) -> Pushed:
    """Send files to a repository, which is made if there is none.

    Parameters
    ----------
    address : Address
        Its revision is a branch, made if there is none; None: ``main``.
    pieces : sequence of Piece
    message : str
        Of the commits.
    private : bool
        Make the repository for its owners alone.
    check : callable
        Called with what is there before anything is sent; raises where that is in the way, returns the paths of what
        is to be removed.
    progress : callable
        Called with (files just settled, files in all).

    Returns
    -------
    Pushed

    Raises
    ------
    HubError
        If nobody is logged in, the hub refuses, or it holds something else in the end. The same call goes on.
    """
    if address.pinned:
        raise HubError(f"{address}: a commit cannot be added to; give a branch, or no revision")
    _make(address, private)
    there = listing(address)
    gone = sorted(set(check(there)) - {piece.path for piece in pieces})
    lacking = _lacking(pieces, there)
    progress(len(pieces) - len(lacking), len(pieces))
    ordered = sorted(lacking, key=lambda piece: piece.describes)
    commits = [ordered[start : start + _COMMIT] for start in range(0, len(ordered), _COMMIT)] or [[]] * bool(gone)
    for number, commit in enumerate(commits, 1):
        last = number == len(commits)
        part = "" if len(commits) == 1 else f" (part {number} of {len(commits)})"
        _commit(address, commit, gone if last else (), message + part, lambda files: progress(files, len(pieces)))
    at = pin(address)
    if wrong := _lacking(pieces, listing(at)):
        raise HubError(
            f"{at}: {wrong[0].path} is not there as it was sent; run the command again, and report it if it stays so"
        )
    return Pushed(at, len(pieces), len(lacking))


def _make(address: Address, private: bool) -> None:
    """Make the repository and the branch, where there are none."""
    check_login(address)
    with asking(address):
        hub = client(address)
        hub.whoami()
        hub.create_repo(address.repository, repo_type=address.kind, private=private or None, exist_ok=True)
        if private and not hub.repo_info(address.repository, repo_type=address.kind).private:
            raise HubError(
                f"{address}: is there, and everybody sees it; make it private on its page first, or leave out --private"
            )
        if address.revision is not None:
            hub.create_branch(address.repository, branch=address.revision, repo_type=address.kind, exist_ok=True)


def _lacking(pieces: Sequence[Piece], there: dict[str, Remote]) -> list[Piece]:
    return [
        piece for piece in pieces if piece.path not in there or not there[piece.path].holds(piece.content, piece.sha256)
    ]


def _commit(
    address: Address, pieces: Sequence[Piece], gone: Collection[str], message: str, sent: Callable[[int], None]
) -> None:
    """Send pieces and commit them, again if the hub fails for the moment; those it has by then are not sent twice."""
    told = 0
    for attempt in range(_TRIES):
        with asking(address):
            try:
                for files in _sent(address, pieces, gone, message):
                    sent(max(0, files - told))
                    told = max(told, files)
                return
            except Exception as error:
                if attempt == _TRIES - 1 or not passing(error):
                    raise
        time.sleep(_WAIT_S * 2**attempt)
        there = listing(address)  # a commit may have been made, and only the answer been lost
        gone = [path for path in gone if path in there]
        if not _lacking(pieces, there) and not gone:
            sent(len(pieces) - told)
            return


def _sent(address: Address, pieces: Sequence[Piece], gone: Collection[str], message: str) -> Iterator[int]:
    """Send pieces, then commit them; yield how many are sent as each slice is."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # ours is drawn
    hub, kind, branch = client(address), address.kind, address.revision
    operations: list[Any] = []
    for start in range(0, len(pieces), _SLICE):
        some = [
            CommitOperationAdd(piece.path, piece.content if isinstance(piece.content, bytes) else str(piece.content))
            for piece in pieces[start : start + _SLICE]
        ]
        hub.preupload_lfs_files(address.repository, some, free_memory=False, repo_type=kind, revision=branch)
        operations += some
        if len(operations) < len(pieces):
            yield len(operations)
    operations += [CommitOperationDelete(path) for path in gone]
    hub.create_commit(address.repository, operations, commit_message=message, repo_type=kind, revision=branch)
    yield len(pieces)
