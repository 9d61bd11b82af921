"""Markdown made of text that came from elsewhere: names and terms of scans are shown, never obeyed."""

import unicodedata
from collections.abc import Iterable, Sequence

# What could begin markup within a line. Some as entities: a table's `|` and HTML are read before backslashes are.
_ESCAPES = str.maketrans(
    {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"} | {mark: f"\\{mark}" for mark in "\\`*_[]{}~#!$"}
)
# Control characters, those that turn the reading direction of what follows, and halves of a surrogate pair.
_HIDDEN = ("Cc", "Cf", "Cs")


class Markdown(str):
    """Text that is Markdown already; everything else is escaped on its way into a page."""


def clean(value: object) -> str:
    """Return a value as one line of visible text: white space as single blanks, nothing that hides or steers."""
    text = " ".join(str(value).split())
    return " ".join("".join(c for c in text if unicodedata.category(c) not in _HIDDEN).split())


def plain(value: object) -> Markdown:
    """Return Markdown that renders as exactly :func:`clean` of a value, inside a line or a cell of a table."""
    return value if isinstance(value, Markdown) else Markdown(clean(value).translate(_ESCAPES))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[int] = ()) -> Markdown:
    """Return a table.

    Parameters
    ----------
    heads : sequence of str
    rows : iterable of sequence of object
        Each as long as `heads`; shown as they are, whatever they hold. An empty cell is a dash.
    numbers : iterable of int
        Columns set to the right.
    """
    right = set(numbers)
    rule = ["---:" if column in right else "---" for column in range(len(heads))]
    shown = [[plain(cell) or "–" for cell in row] for row in rows]
    lines: list[Sequence[str]] = [[plain(head) for head in heads], rule, *shown]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def bullets(sentences: Iterable[object]) -> Markdown:
    """Return a list of sentences, one a line."""
    return Markdown("\n".join(f"* {_start(plain(sentence))}" for sentence in sentences))


def _start(text: str) -> str:
    """Escape what would open a list or a rule of its own at the start of a line."""
    digits = len(text) - len(text.lstrip("0123456789"))
    if text[:1] in ("-", "+", "="):
        return f"\\{text}"
    return f"{text[:digits]}\\{text[digits:]}" if digits and text[digits : digits + 1] in (".", ")") else text
