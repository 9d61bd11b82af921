"""Durable writes: a name appears only once its bytes are safely on disk, and a store has one writer."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scans.errors import CheckpointError, StoreError
from scans.writing import writing


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file by temporary name, flush to disk, rename; a crash leaves the old file or the new.

    Raises
    ------
    OSError
        E.g. when the disk is full; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def append_text(path: Path, text: str) -> None:
    """Add a few lines to the end of a file, flushed to disk, or nothing; a crash may leave part of them at its end.

    Costs what the lines take, where `write_text` costs what the whole file does.

    Raises
    ------
    OSError
        E.g. when the disk is full; what was added is cut off again.
    """
    new = not path.exists()
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            left = memoryview(text.encode())
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise
    if new:
        sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Make a folder beside `target`, to be renamed to it; whatever happens, nothing is left under its temporary name.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    folder = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.tmp")  # of no other job or host
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def locked(path: Path, mode: str, shared: bool = False) -> IO[str]:
    """Open a file and lock it until it is closed; the lock goes with the process, however that ends.

    Raises
    ------
    BlockingIOError
        If another holds it.
    """
    file = path.open(mode, encoding="utf-8")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


@contextlib.contextmanager
def only_writer(store: Path, shared: bool = False) -> Iterator[None]:
    """Hold a store against a second run into it.

    Parameters
    ----------
    store : Path
    shared : bool
        Let others in that share too, but nobody who wants it alone.

    Raises
    ------
    StoreError
        If another run holds it.
    """
    # A file of its own, open to read and write: network file systems refuse a lock on a folder, and each kind of
    # lock wants its kind of access.
    try:
        file = locked(store / ".lock", "a+", shared)
    except BlockingIOError as error:
        raise StoreError(f"{store} is being written by another run; wait for it, or choose another --out") from error
    with file:
        yield


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new.

    Raises
    ------
    CheckpointError
        If it cannot be written; the old one is still there.
    """
    with writing(path, CheckpointError):
        write_bytes(path, content)


def in_use(path: Path) -> bool:
    """Whether a training holds the folder at this moment, as far as this machine can see."""
    try:
        locked(path / ".lock", "r", shared=True).close()
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
