"""From a hub: one file into the client's own cache, or a repository into a folder, at one commit and checked."""

import re
from pathlib import Path

from scans.errors import HubError
from scans.hub.address import Address
from scans.hub.client import client, package
from scans.hub.listing import HUBS_OWN, Remote
from scans.hub.refusals import asking

CLIENTS_OWN = ".cache"  # what the client notes of a folder that it fills
_CACHED = re.compile(r"(?P<kind>model|dataset)s--(?P<org>.+)--(?P<name>.+)")  # a repository in its cache


def fetch_file(address: Address, remote: Remote, named: str | None = None) -> Path:
    """Return a file of a repository in the client's cache, where it is fetched once.

    Parameters
    ----------
    address : Address
        Of the file, at a commit.
    remote : Remote
        What the hub says of it.
    named : str, optional
        The branch or tag that led to the commit, for `cached_files` to know it by.

    Raises
    ------
    HubError
        If it cannot be fetched, or is not what the hub says.
    """
    hub, what = client(address), (address.repository, address.path)
    with asking(address):
        path = Path(hub.hf_hub_download(*what, repo_type=address.kind, revision=address.revision))
        if named is not None:
            hub.hf_hub_download(*what, repo_type=address.kind, revision=named)
    if not remote.holds(path):
        raise HubError(
            f"{address}: {path} is not what the hub says that it is; delete that file, and run the command again"
        )
    return path


def fetch_folder(address: Address, folder: Path) -> None:
    """Fetch a repository, or the one file that the address names, into a folder; what is there already stays.

    Parameters
    ----------
    address : Address
        At a commit.
    folder : Path
        Its part `CLIENTS_OWN` is to be removed once all is there.

    Raises
    ------
    HubError
    OSError
        E.g. when the disk is full; what was fetched stays.
    """
    with asking(address):
        client(address).snapshot_download(
            address.repository,
            repo_type=address.kind,
            revision=address.revision,
            local_dir=folder,
            allow_patterns=_literally(address.path) if address.path else None,
            ignore_patterns=HUBS_OWN,
        )


def cached_files(address: Address, suffix: str) -> list[Path]:
    """Return the files with a suffix that an earlier call has left in the client's cache, without asking the hub."""
    errors = package(address).errors
    try:
        folder: str | None = client(address).snapshot_download(
            address.repository, repo_type=address.kind, revision=address.revision, local_files_only=True
        )
    except errors.LocalEntryNotFoundError as error:  # the cache holds what was asked for, not all of the repository
        folder = getattr(error, "snapshot_path", None)
    return [] if folder is None else sorted(path for path in Path(folder).rglob(f"*{suffix}") if path.is_file())


def address_of(path: Path) -> Address | None:
    """Return where on a hub a file in the client's cache came from, at its commit; None of any other file."""
    path = path.absolute()
    for commit in path.parents:
        if commit.parent.name == "snapshots" and (found := _CACHED.fullmatch(commit.parent.parent.name)):
            address = Address("dataset" if found["kind"] == "dataset" else "model", f"{found['org']}/{found['name']}")
            return address.at(commit.name).file(path.relative_to(commit).as_posix())
    return None


def _literally(name: str) -> str:
    """Return a pattern that fits one name alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
