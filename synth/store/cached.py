"""Stores: the files of a corpus in a local folder or behind a URL, and a local copy of what is far away."""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from scans.errors import StoreError
from synth.store.base import Readable, too_large
from synth.store.folder import Folder

_PART = 2**24  # bytes of a file in memory at once, while it is copied


class Cached(Readable):
    """A store whose files are copied to a local folder when first read, each as a whole, and read there.

    A copy is named by its content, so that one folder serves many corpora and many runs, at the same time too.

    Parameters
    ----------
    store : Readable
        What is behind; files that `sums` does not know are read there.
    folder : Path
        For the copies; they are never removed.
    sums : mapping
        ``{key: {"bytes": int, "sha256": str}}``, from receipts: what each file must be.
    """

    def __init__(self, store: Readable, folder: Path, sums: Mapping[str, dict[str, Any]]) -> None:
        self.where = store.where
        self._store, self._sums = store, sums
        self._copies = Folder(folder)
        self._sound: set[str] = set()  # copies seen whole by this process
        self._locks: dict[str, threading.Lock] = {}
        self._turn = threading.Lock()

    def read(self, key: str, most: int | None = None) -> bytes:
        if key not in self._sums:
            return self._store.read(key, most)
        if most is not None and self._sums[key]["bytes"] > most:
            raise too_large(self.where, key, most)
        return self._from_copy(key, self._copies.read)

    def read_part(self, key: str, start: int, length: int) -> bytes:
        if key not in self._sums:
            return self._store.read_part(key, start, length)
        return self._from_copy(key, lambda copy: self._copies.read_part(copy, start, length))

    def read_many(self, keys: Iterable[str], most: int | None = None) -> dict[str, bytes]:
        return self._store.read_many(keys, most)

    def size(self, key: str) -> int:
        return self._store.size(key)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._store.sizes(prefix)

    def sha256(self, key: str) -> str:
        return self._store.sha256(key)

    def mend(self, key: str) -> None:
        """Let a copy that is no longer what it was be fetched again; for a reader that cannot make sense of a file."""
        if key in self._sums:
            copy = self._name(key)
            with self._lock(copy):
                if self._copies.size(copy) >= 0 and self._copies.sha256(copy) != self._sums[key]["sha256"]:
                    self._copies.remove(copy)
                    self._sound.discard(copy)

    def _from_copy(self, key: str, read: Callable[[str], bytes]) -> bytes:
        try:
            return read(self._copy(key))
        except FileNotFoundError:  # somebody cleared the folder
            self._sound.clear()
            return read(self._copy(key))

    def _copy(self, key: str) -> str:
        """Return where the copy of a file is, after making it if there is none of the right size."""
        should, copy = self._sums[key], self._name(key)
        if copy in self._sound:
            return copy
        with self._lock(copy):  # of two threads that want one file, the second finds it here
            if self._copies.size(copy) != should["bytes"]:
                self._fetch(key, copy, {"bytes": should["bytes"], "sha256": should["sha256"]})
            self._sound.add(copy)
        return copy

    def _name(self, key: str) -> str:
        """Return where the copy of a file is, or will be."""
        name = str(self._sums[key]["sha256"])
        if not re.fullmatch("[0-9a-f]{64}", name):
            raise StoreError(f"{self.where}: the receipt of {key!r} is damaged; run synth verify")
        return f"{name[:2]}/{name}"

    def _lock(self, copy: str) -> threading.Lock:
        with self._turn:
            return self._locks.setdefault(copy, threading.Lock())

    def _fetch(self, key: str, copy: str, should: dict[str, Any]) -> None:
        try:
            writing = self._copies.create(copy)
            try:
                for start in range(0, should["bytes"] + 1, _PART):  # one byte more shows a file that is too long
                    writing.append(self._store.read_part(key, start, min(_PART, should["bytes"] + 1 - start)))
                if writing.sum() != should:
                    raise StoreError(f"{self.where}: {key!r} is not what its receipt says; run synth verify")
                writing.commit()
            finally:
                writing.discard()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(
                f"{self._copies}: no room for a copy of {key!r} ({error.strerror}); free some, or choose another folder"
            ) from error
