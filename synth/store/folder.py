"""A store in a local folder: what was written survives a crash, and a link in it leads nowhere."""

import contextlib
import errno
import functools
import hashlib
import os
import stat
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager as ContextManager
from pathlib import Path

from scans.durable import new_folder, only_writer, sync, write_bytes
from scans.errors import StoreError
from synth.store.base import Content, Growing, Store, check_key, check_part, too_large

_MOST_OPEN = 64  # files kept open for reading
_SEND = 2**24  # bytes of a file between two calls that start writing to disk


class Folder(Store):
    """A store in a local folder."""

    def __init__(self, where: str | Path) -> None:
        self.where = str(where)
        self.root = Path(os.path.realpath(self.where.removeprefix("file://")))  # a link to a store is the user's own
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._turn = threading.Lock()

    def read(self, key: str, most: int | None = None) -> bytes:
        opened = self._open(key)
        if most is not None and opened.size > most:
            raise too_large(self.where, key, most)
        return opened.part(0, opened.size)

    def read_part(self, key: str, start: int, length: int) -> bytes:
        with self._turn:
            opened = self._opened.get(key)
            if opened is not None:
                self._opened.move_to_end(key)
        if opened is None:
            opened = self._open(key)
            with self._turn:
                self._opened[key] = opened
                while len(self._opened) > _MOST_OPEN:
                    self._opened.popitem(last=False)
        check_part(self.where, key, start, length)
        return opened.part(start, length)

    def read_many(self, keys: Iterable[str], most: int | None = None) -> dict[str, bytes]:
        found = {}
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                found[key] = self.read(key, most)
        return found

    def size(self, key: str) -> int:
        return _size(self._path(key))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        top = self._path(prefix) if prefix else self.root
        if prefix and not (top.is_dir() and not top.is_symlink()):
            return {prefix: _size(top)} if os.path.lexists(top) else {}
        return {key: _size(self.root / key) for key in sorted(_below(top, prefix))}

    def sha256(self, key: str) -> str:
        opened = self._open(key)  # a name for it keeps it open
        with open(opened.fileno(), "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def write(self, key: str, content: bytes) -> None:
        path = self._path(key)
        _make(path.parent)
        write_bytes(path, content)
        self._forget(key)

    def create(self, key: str) -> Growing:
        path = self._path(key)
        _make(path.parent)
        return _FileWriting(path, functools.partial(self._forget, key))

    def flush(self, folders: Iterable[str]) -> None:
        for folder in folders:
            sync(self._path(folder) if folder else self.root)

    def remove(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)
        self._forget(key)

    def only_writer(self, shared: bool = False) -> ContextManager[None]:
        _make(self.root)
        return only_writer(self.root, shared)

    def lay_out(self, files: Iterable[tuple[str, bytes]]) -> bool:
        def write(new: Folder) -> None:
            for key, content in files:
                new.write(key, content)

        return self.fill(write)

    def fill(self, write: "Callable[[Folder], None]") -> bool:
        """Let a folder be written beside its place, then put it there; False if something is there by then."""
        _make(self.root.parent)
        with new_folder(self.root) as folder:
            write(Folder(folder))
            if self.is_empty():  # a lock that somebody holds, maybe the caller, stays the same lock
                with contextlib.suppress(FileNotFoundError):
                    os.link(self.root / ".lock", folder / ".lock")
                    (self.root / ".lock").unlink()
            try:
                folder.rename(self.root)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                return False
        sync(self.root.parent)
        return True

    def is_empty(self) -> bool:
        if not self.root.is_dir():
            return not self.root.exists()
        return all(entry.name == ".lock" for entry in self.root.iterdir())

    def sweep(self) -> None:
        for key in _below(self.root):
            name = key.rpartition("/")[2]
            if name.endswith(".partial") or (name.startswith(".") and name.endswith(".tmp")):
                (self.root / key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        """Return the path of a key, none of whose folders is a link."""
        path = self.root
        for part in check_key(key):
            if path is not self.root and path.is_symlink():
                raise self._a_link(key)
            path = path / part
        return path

    def _open(self, key: str) -> "Opened":
        path = self._path(key)
        try:  # a pipe would wait for its writer
            opened = Opened(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._a_link(key) from error
            if error.errno == errno.ENOTDIR:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
            raise
        if not opened.is_file:
            raise StoreError(f"{self.where}: {key!r} is no file; make the store again")
        return opened

    def _a_link(self, key: str) -> StoreError:
        return StoreError(f"{self.where}: {key!r} is, or is behind, a symbolic link; put the files themselves there")

    def _forget(self, key: str) -> None:
        with self._turn:
            self._opened.pop(key, None)


class _FileWriting(Growing):
    """One file, written under a temporary name that no other writer has."""

    def __init__(self, path: Path, done: Callable[[], None]) -> None:
        super().__init__(path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial"))
        self._path, self._done = path, done
        self._sent = 0

    def append(self, content: Content) -> None:
        super().append(content)
        if self.bytes - self._sent > _SEND and hasattr(os, "posix_fadvise"):  # macOS has none
            # The disk sets to work while the next samples are made; the pages are of no further use here.
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._sent = self.bytes

    def _publish(self) -> None:
        os.fsync(self._file.fileno())
        self._temporary.replace(self._path)
        self._done()


class Opened:
    """A file open for reading. The last thread to let go of it closes it, so none reads from a closed one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self.is_file, self.size = stat.S_ISREG(found.st_mode), found.st_size

    def __del__(self) -> None:
        os.close(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def part(self, start: int, length: int) -> bytes:
        """Return bytes of it; the length is untrusted, and allocates no more than there is."""
        length = max(0, min(length, self.size - start))
        parts = []
        while length > 0 and (part := os.pread(self._descriptor, length, start)):  # 2 GiB at once, or a signal came
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _below(folder: Path, key: str = "") -> Iterator[str]:
    """Yield the key of whatever is below a folder and is no folder; others may write there meanwhile."""
    folders = [(folder, key)]
    while folders:
        folder, key = folders.pop()
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                below = f"{key}/{entry.name}" if key else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append((folder / entry.name, below))
                else:
                    yield below


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _make(folder: Path) -> None:
    """Make a folder and those above it, safely on disk."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)
