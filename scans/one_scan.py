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
        raise ScanError(_sentence(where, error)) from error


def _sentence(where: str | Path, error: Exception) -> str:
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in said.lower() or "allocate memory" in said.lower():
        # torch and ITK tell it in words alone
        return f"{where}: there is not enough memory for it; take a larger machine, or resample it more coarsely"
    if isinstance(error, OSError):
        return f"{error.filename or where}: {error.strerror or said}; check the file and its permissions"
    told = f"{type(error).__name__}: {said[:_MOST_WORDS]}" if said else type(error).__name__
    return f"{where} cannot be used ({told}); export it again, and if that does not help, report it"
