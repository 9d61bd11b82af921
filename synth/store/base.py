"""Files by key: what every store does, wherever it is.

A key is a relative path with ``/`` between its parts, as ``composite/c.0.0.0.0``. Manifests name keys, and anybody may
have written a manifest: a key leads nowhere but into the store, and a link inside a store is not followed.
"""

import contextlib
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager as ContextManager
from pathlib import Path
from typing import Any

from scans.errors import StoreError

Content = bytes | memoryview

_LONGEST_PART, _LONGEST_KEY = 200, 1024  # bytes: file systems take names of 255, temporary ones too; S3 such keys


class Readable(ABC):
    """Files by key, to be read.

    Every method that takes a key raises `StoreError` for one that is not a plain relative path. Reading is
    thread-safe.

    Attributes
    ----------
    where : str
        The store's name, as the user gave it.
    """

    where: str

    def __str__(self) -> str:
        return self.where

    @abstractmethod
    def read(self, key: str, most: int | None = None) -> bytes:
        """Return a whole file.

        Raises
        ------
        FileNotFoundError
            If it is absent.
        StoreError
            If it is larger than `most` bytes; no more than these are fetched.
        """

    @abstractmethod
    def read_part(self, key: str, start: int, length: int) -> bytes:
        """Return bytes ``start`` to ``start + length`` of a file; fewer at its end.

        Raises
        ------
        FileNotFoundError
            If it is absent.
        """

    @abstractmethod
    def read_many(self, keys: Iterable[str], most: int | None = None) -> dict[str, bytes]:
        """Return those files that exist, by key; many at a time where that is faster."""

    @abstractmethod
    def size(self, key: str) -> int:
        """Return a file's bytes; -1 if it is absent, or no plain file."""

    @abstractmethod
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the bytes of every file at or below a folder, by key; -1 for a link, which is not followed."""

    @abstractmethod
    def sha256(self, key: str) -> str:
        """Return a file's SHA-256, as hexadecimal digits; FileNotFoundError if it is absent."""


class Store(Readable):
    """Files by key, to be read and written."""

    @abstractmethod
    def write(self, key: str, content: bytes) -> None:
        """Write a whole file; others see the old one or the new."""

    @abstractmethod
    def create(self, key: str) -> "Growing":
        """Begin a file that grows."""

    @abstractmethod
    def flush(self, folders: Iterable[str]) -> None:
        """Return when the names of the files in these folders are safely on disk."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def only_writer(self, shared: bool = False) -> ContextManager[None]:
        """Hold the store against a second run into it, where that is possible; see `scans.durable.only_writer`."""

    @abstractmethod
    def lay_out(self, files: Iterable[tuple[str, bytes]]) -> bool:
        """Make a new store of these files, in this order; return False if there is one already."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Return whether nothing is there."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what killed writers left under temporary names."""


def check_key(key: str) -> list[str]:
    """Return the parts of a key.

    Raises
    ------
    StoreError
        If it is not a plain relative path.
    """
    parts = key.split("/")
    if (
        re.search(r"[\\\0\ud800-\udfff]|^[A-Za-z]:", key)  # lone surrogates are no characters
        or any(part in ("", ".", "..") or len(part.encode()) > _LONGEST_PART for part in parts)
        or len(key.encode()) > _LONGEST_KEY
    ):
        raise StoreError(f"{key[:80]!r} is no name of a file in a store; whoever wrote it is not to be trusted")
    return parts


def check_part(where: str, key: str, start: int, length: int) -> None:
    """Raise StoreError for a place in a file that cannot be."""
    if start < 0 or length < 0:
        raise StoreError(f"{where}: {key!r} is damaged: {length} bytes at {start} cannot be; make the store again")


def too_large(where: str, key: str, most: int) -> StoreError:
    """Return the error of a file that is larger than it can rightly be."""
    return StoreError(f"{where}: {key!r} is damaged: it is larger than {most} bytes; make the store again")


class Growing:
    """A file under a temporary name that takes its own when committed; `_publish` gives it."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._file = temporary.open("wb")
        self._sum = hashlib.sha256()
        self.bytes = 0  # written so far

    def append(self, content: Content) -> None:
        """Append to the file."""
        self.bytes += self._file.write(content)
        self._sum.update(content)

    def sum(self) -> dict[str, Any]:
        """Return what a receipt says of the file as it is now."""
        return {"bytes": self.bytes, "sha256": self._sum.hexdigest()}

    def commit(self) -> dict[str, Any]:
        """Give the file its name, or leave nothing; return what a receipt says of it."""
        try:
            self._file.flush()
            self._publish()
        finally:
            self.discard()
        return self.sum()

    def discard(self) -> None:
        """Remove what was not committed; harmless after `commit`, and on a full disk."""
        with contextlib.suppress(OSError):  # on a full disk, closing fails too
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _publish(self) -> None:
        raise NotImplementedError
