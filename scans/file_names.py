"""Names of files: bytes that a text need not be able to hold, what suits a name, and links that lead nowhere."""

import re
from collections.abc import Sequence
from pathlib import Path

_NO_TEXT = re.compile("[\udc80-\udcff]")  # how Python keeps the bytes of a name that are not UTF-8


def in_utf8(name: str) -> str:
    r"""Return a file's name as any file in UTF-8, and any file system, takes it.

    Old Windows shares and tar files hold names in Latin-1 and the like. A byte that is not UTF-8 is written as in a
    URL; all other names stay as they are.

    >>> in_utf8("caf\udce9_flair")
    'caf%E9_flair'
    """
    return _NO_TEXT.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", name)


def nowhere(path: Path) -> str:
    """Say that a path is a link to nothing, in a sentence; empty if it is not."""
    if not path.is_symlink() or path.exists():
        return ""
    return f"{path} is a link to nothing; fetch what it leads to (git annex get, dvc pull), or remove the link"


def safe_names(names: Sequence[str]) -> list[str]:
    """Make names fit for a tag or a key: letters, digits, dash and underscore; no two alike."""
    safe: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name) or "_"
        endings = ("", *(f"-{number}" for number in range(2, len(names) + 1)))
        safe.append(next(plain + ending for ending in endings if plain + ending not in safe))
    return safe
