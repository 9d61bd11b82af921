"""One scan among many: whatever goes wrong with it is told in a sentence, and ends nothing but this scan."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from scans.errors import ScanError, UserError

_MOST_WORDS = 200  # letters of another library's message; some hold whole arrays


@contextlib.contextmanager
def one_scan(where: str | Path) -> Iterator[None]:
    """Run what is done with one scan; make a `ScanError` of anything that it raises.

    Every loop over scans runs its body in this and catches `UserError`: one scan never ends a run.

    Parameters
    ----------
    where : str or Path
        The scan, as a user would name it.

    Raises
    ------
    ScanError
        In place of any exception that is no `UserError`; those pass, and so does a stop by the user.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise ScanError(why_not_used(where, error)) from error


def why_not_used(where: str | Path, error: Exception) -> str:
    """Say in one sentence, without a full stop, what a library raised over a scan, and what to do about it.

    Parameters
    ----------
    where : str or Path
        The scan, as a user would name it; where the system names a file itself, that one is told.
    error : Exception
    """
    said = " ".join(str(error).split())
    if lacks_memory(error):
        return f"{where}: there is not enough memory for it; take a larger machine, or resample it more coarsely"
    if isinstance(error, OSError) and error.strerror:  # of the system; gzip's own have no such word
        return f"{error.filename or where} cannot be read ({error.strerror}); check the file and its permissions"
    told = f"{type(error).__name__}: {said[:_MOST_WORDS]}" if said else type(error).__name__
    return f"{where} cannot be used ({told}); copy or export it again, and if that does not help, report it"


def lacks_memory(error: Exception) -> bool:
    """Say whether an error is of memory; torch and ITK tell it in words alone."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said
