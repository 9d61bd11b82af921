"""Addresses on a hub: ``hf://datasets/org/name@revision/path`` of data, ``hf://org/name`` of a network."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from scans.errors import HubError

SCHEME = "hf://"
DATASET, MODEL = "dataset", "model"
_ADDRESS = re.compile(
    r"(?:(?P<kind>datasets|models)/)?(?P<repository>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?(?:/(?P<path>[^@]*))?"
)
_OTHER = ("spaces", "buckets", "kernels", "datasets", "models")  # first parts that name no organisation
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHAPES = {DATASET: "hf://datasets/org/name", MODEL: "hf://org/name"}


@dataclass(frozen=True)
class Address:
    """A place on a hub.

    Attributes
    ----------
    kind : {"dataset", "model"}
    repository : str
        ``org/name``.
    revision : str or None
        A branch, a tag or a commit; None: what the hub shows first.
    path : str
        Within the repository; empty: all of it.
    """

    kind: Literal["dataset", "model"]
    repository: str
    revision: str | None = None
    path: str = ""

    def __str__(self) -> str:
        prefix = "datasets/" if self.kind == DATASET else ""
        revision = "" if self.revision is None else f"@{quote(self.revision, safe='')}"
        return f"{SCHEME}{prefix}{self.repository}{revision}{f'/{self.path}' if self.path else ''}"

    @property
    def pinned(self) -> bool:
        """Whether it names a commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, revision: str) -> "Address":
        """Return the same place at another revision."""
        return replace(self, revision=revision)

    def file(self, path: str) -> "Address":
        """Return the address of a file of the repository."""
        return replace(self, path=path)


def on_hub(where: str | Path) -> bool:
    """Whether something is an address on a hub."""
    return str(where).startswith(SCHEME)


def at_revision(where: str, revision: str | None) -> str:
    """Return where something lies, at the revision that ``--revision`` gives; HubError if it lies on no hub."""
    if revision is None:
        return where
    if not on_hub(where):
        raise HubError(f"--revision {revision}: belongs to what is on a hub, and {where} is not; leave it out")
    return str(hub_address(where, revision=revision))


def hub_address(url: str, kind: str | None = None, revision: str | None = None) -> Address:
    """Read an address.

    Parameters
    ----------
    url : str
        With or without ``@revision``.
    kind : {"dataset", "model"}, optional
        What it must be.
    revision : str, optional
        As ``--revision`` gives it.

    Returns
    -------
    Address

    Raises
    ------
    HubError
        If it is none, of the other kind, or names two revisions.

    Examples
    --------
    >>> hub_address("hf://datasets/org/name@v1/corpus.zip").path
    'corpus.zip'
    """
    shape = _SHAPES[kind or DATASET]
    found = _ADDRESS.fullmatch(url.removeprefix(SCHEME).rstrip("/")) if on_hub(url) else None
    if found is None or found["repository"].partition("/")[0] in _OTHER or ".." in (found["path"] or "").split("/"):
        raise HubError(
            f"{url}: is no address on a hub; give {shape}, with @revision after the name for one of its states"
        )
    address = Address(
        "dataset" if found["kind"] == "datasets" else "model",
        found["repository"],
        None if found["revision"] is None else unquote(found["revision"]),
        found["path"] or "",
    )
    if kind not in (None, address.kind):
        what = "corpora and packs are datasets" if kind == DATASET else "networks are models"
        raise HubError(f"{url}: is a {address.kind} on a hub, and {what}; give {shape}")
    if revision is not None and address.revision not in (None, revision):
        raise HubError(f"{url}: names another revision than --revision {revision}; leave one of them out")
    return address if revision is None else address.at(revision)
