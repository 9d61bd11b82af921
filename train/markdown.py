"""Markdown made of text that came from elsewhere: names and terms of scans are shown, never obeyed."""

import unicodedata
from collections.abc import Iterable, Sequence

# What could begin markup within a line. Some as entities: a table's `|` and HTML are read before backslashes are.
_ESCAPES = str.maketrans(
    {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"} | {mark: f"\\{mark}" for mark in "\\`*_[]{}~#!$"}
)
_HIDDEN = ("Cc", "Cf", "Cs")  # control characters, those that turn the reading direction, halves of a pair


class Markdown(str):
    """Text that is Markdown already; everything else is escaped on its way into a page."""


def clean(value: object) -> str:
    """Return a value as one line of visible text."""
    text = " ".join(str(value).split())
    return " ".join("".join(c for c in text if unicodedata.category(c) not in _HIDDEN).split())


def plain(value: object) -> Markdown:
    """Return Markdown that renders as exactly :func:`clean` of a value, within a line or a cell of a table."""
    if isinstance(value, Markdown):
        return value
    return Markdown(clean(value).translate(_ESCAPES))


def table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> Markdown:
    """Return a table of rows as long as `heads`; an empty cell is a dash."""
    lines: list[Sequence[object]] = [heads, ["---"] * len(heads), *([plain(c) or "–" for c in row] for row in rows)]
    return Markdown("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))
