"""Tables for programs: CSV with one kind of line end on every system, written at once or row by row."""

import csv
import io
from collections.abc import Iterable
from typing import Any


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows, the names of the columns first, as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def rows_so_far(content: bytes) -> tuple[list[list[str]], bool]:
    """Read a table that rows are added to: without the last row, if a crash cut it off.

    Parameters
    ----------
    content : bytes
        As `csv_text` writes it, the names of the columns first.

    Returns
    -------
    rows : list of list of str
        The names of the columns first.
    whole : bool
        Whether it ends with a whole row.

    Raises
    ------
    ValueError, csv.Error
        If it is no such text.
    """
    end = len(content)
    while end and not (content[end - 1 : end] == b"\n" and content.count(b'"', 0, end) % 2 == 0):
        end = content.rfind(b"\n", 0, end - 1) + 1  # an odd quote: this line end is within a sentence of several lines
    rows = csv.reader(io.StringIO(content[:end].decode(), newline=""))
    return [row for row in rows if row], end == len(content)
