"""What a repository of a hub holds at one commit: its files, their sizes and checksums."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from scans.durable import sha256
from scans.hub.address import Address
from scans.hub.client import client
from scans.hub.refusals import asking

HUBS_OWN = ".gitattributes"  # a hub puts it into every repository


@dataclass(frozen=True)
class Remote:
    """A file on a hub.

    Attributes
    ----------
    size : int
        In bytes.
    sha256 : str or None
        Of a large file; a hub keeps small text as git does, by `blob`.
    blob : str
        SHA-1 of a small file, as git counts it.
    """

    size: int
    sha256: str | None
    blob: str

    def holds(self, content: bytes | Path, digest: str | None = None) -> bool:
        """Whether it is the same as a content in memory or a local file, whose SHA-256 may be known."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if size != self.size:
            return False
        if self.sha256 is not None:
            return self.sha256 == (digest or (_digest(content) if isinstance(content, bytes) else sha256(content)))
        small = content if isinstance(content, bytes) else content.read_bytes()
        return hashlib.sha1(b"blob %d\0" % size + small, usedforsecurity=False).hexdigest() == self.blob


def pin(address: Address) -> Address:
    """Return the address of the commit that an address leads to now.

    Raises
    ------
    HubError
        If the hub has no such repository or revision, does not show it, or does not answer.
    """
    with asking(address):
        info = client(address).repo_info(address.repository, repo_type=address.kind, revision=address.revision)
    return address.at(str(info.sha))


def listing(address: Address) -> dict[str, Remote]:
    """Return the files of a repository, by path within it, but for the hub's own.

    Raises
    ------
    HubError
        As of `pin`.
    """
    hub = client(address)
    from huggingface_hub.hf_api import RepoFolder

    with asking(address):
        tree = hub.list_repo_tree(address.repository, repo_type=address.kind, revision=address.revision, recursive=True)
        return {
            entry.path: Remote(entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
            for entry in tree
            if not isinstance(entry, RepoFolder) and entry.path != HUBS_OWN
        }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
