"""A command that makes a brain mask of a scan, as a user writes it: ``mri_synthstrip -i {scan} -m {mask}``."""

import shlex
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from scans.errors import CatalogError

SCAN, MASK = "{scan}", "{mask}"
_EXAMPLE = f"mri_synthstrip -i {SCAN} -m {MASK}"


def words_of(command: str) -> list[str]:
    """Part a command into words, as a shell would, before any path is put in.

    Returns
    -------
    list of str
        The program first.

    Raises
    ------
    ValueError
        If a quote is left open, or it does not say where the two paths go.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{command!r}: a quote is left open; write it as in a shell, e.g. {_EXAMPLE!r}") from error
    for place in (SCAN, MASK):
        if not any(place in word for word in words[1:]):
            raise ValueError(f"{command!r} does not say where {place} goes; write e.g. {_EXAMPLE!r}")
    return words


def _checked(command: str) -> str:
    if command:
        words_of(command)
    return command


# None: not said. Empty: no masks are made, whatever the region says.
MaskCommand = Annotated[str | None, AfterValidator(lambda command: command and _checked(command))]


def checked_command(command: str | None) -> str | None:
    """Return a command of the command line as it is.

    Raises
    ------
    CatalogError
        As `words_of`.
    """
    try:
        return command and _checked(command)
    except ValueError as error:
        raise CatalogError(f"--brain-mask-with {error}") from error


def told_command(command: str) -> str:
    """Return a command as it may be passed on: what it runs, not where that lies on this machine.

    >>> told_command("/opt/freesurfer/bin/mri_synthstrip -i {scan} -m {mask}")
    'mri_synthstrip -i {scan} -m {mask}'
    """
    return " ".join(PurePosixPath(word).name if "/" in word else word for word in shlex.split(command))
