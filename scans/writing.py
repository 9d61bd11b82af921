"""What cannot be written: which folder it is, why, and what to do, in one sentence."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from scans.errors import UserError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT)
_OF_WRITING = (*_NO_SPACE, errno.EROFS)  # never of reading
_REFUSALS = (*_OF_WRITING, *_NOT_ALLOWED, *_NO_FOLDER, errno.ENAMETOOLONG, errno.ELOOP)


class WriteError(UserError):
    """A file or a folder cannot be written."""


def why_not_written(path: Path, error: OSError) -> str:
    """Say why something cannot be written, and what to do about it.

    Parameters
    ----------
    path : Path
        The file or the folder.
    error : OSError
        What came of trying.

    Returns
    -------
    str
        A sentence without a full stop: the path, the folder that is in the way, what to do.
    """
    above = _nearest(path)
    where = above if above.is_dir() else above.parent
    if error.errno in _NO_SPACE:
        return f"{path}: no space is left where {where} lies; free some, or choose another place"
    if error.errno == errno.EROFS:
        return f"{path}: cannot be written, {where} lies on a read-only file system; choose another place"
    if error.errno in _NOT_ALLOWED:
        return f"{path}: cannot be written, you may not write in {where}; ask who owns it, or choose another place"
    if error.errno == errno.ENAMETOOLONG:
        return f"{path}: the name is too long for this file system; choose a shorter one"
    if error.errno in _NO_FOLDER and above.is_symlink() and not above.exists():
        return f"{path}: {above} is a link that leads nowhere; mend it, or choose another place"
    if error.errno in _NO_FOLDER and above == path and above.is_dir():
        return f"{path}: is a folder, and a file is to be written there; choose another name"
    if error.errno in _NO_FOLDER and not above.is_dir():
        return f"{path}: cannot be made, {above} is a file and no folder; choose another place, or move the file away"
    if error.errno == errno.ENOENT:
        return f"{path}: there is no folder {path.parent}; make it, or choose another place"
    return f"{path}: cannot be written ({error.strerror or error}); choose another place"


def no_folder_for(path: Path) -> str:
    """Say, as `why_not_written` does, that a file's folder is not there."""
    return why_not_written(path, FileNotFoundError(errno.ENOENT, "no such folder"))


def concerns(target: Path, error: OSError) -> bool:
    """Tell whether an error is of writing to a target, of which hidden files beside it are part while it is made."""
    if error.errno not in _REFUSALS:
        return False
    if error.filename is None:
        return error.errno in _OF_WRITING
    target, file = (Path(os.path.abspath(each)) for each in (target, os.fsdecode(error.filename)))
    beside = target.parent / f".{target.name}"
    return file == target or target in file.parents or file in target.parents or str(file).startswith(f"{beside}.")


@contextlib.contextmanager
def writing(path: Path, kind: type[UserError] = WriteError) -> Iterator[None]:
    """Turn an OSError of what is done within into one sentence about `path`.

    Raises
    ------
    UserError
        Of the given kind.
    """
    try:
        yield
    except OSError as error:
        raise kind(why_not_written(path, error)) from error


def make_folder(path: Path, kind: type[UserError] = WriteError) -> None:
    """Make a folder and those above it, and see that files can be made in it, before hours of work.

    Raises
    ------
    UserError
        Of the given kind, if it cannot be made or nothing can be written there.
    """
    with writing(path, kind):
        path.mkdir(parents=True, exist_ok=True)
        check_writable(path)


def check_writable(folder: Path) -> None:
    """Make a file in a folder and take it away again; OSError if that cannot be done."""
    probe = folder / f".writable.{os.getpid()}.tmp"
    probe.touch()
    probe.unlink()


def _nearest(path: Path) -> Path:
    """Return the path itself, or the nearest above it that is there, links that lead nowhere included."""
    for each in (path, *path.parents):
        with contextlib.suppress(OSError):
            each.lstat()
            return each
    return path
