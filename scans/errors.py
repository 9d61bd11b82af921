"""Mistakes of a user or of a file, each told in one sentence: what is wrong, where, what to do."""

import unicodedata

# Control characters, those that turn the reading direction, separators of lines, and bytes of a name that is no UTF-8.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


class UserError(Exception):
    """Base of every error whose message is meant for the user; command lines print it without a traceback.

    The message is made `printable`: it can name any file.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(message))


class CatalogError(UserError):
    """A catalog, or a setting in it, is not as it must be."""


class ScanError(UserError):
    """A scan, or a mask that comes with it, cannot be used."""


class StoreError(UserError):
    """A sources store or a corpus is missing, damaged, or made by something else."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or does not fit."""


class HubError(UserError):
    """A hub refuses, does not answer, or does not hold what is asked of it."""


def printable(text: object) -> str:
    r"""Return a text, or a path, as any terminal and any file in UTF-8 takes it, on one line.

    Names of files are bytes. Python keeps those that are not UTF-8 as lone surrogates, which cannot be printed.

    >>> printable("caf\udce9\n")
    'caf\\xe9\\n'
    """
    return "".join(_escaped(c) if unicodedata.category(c) in _UNPRINTABLE else c for c in str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
