"""The summary of a segmented folder: ``summary.csv``, one row a scan, with every scan that is done at every moment.

A row says what its mask was made from (the network's weights, the options, the bytes of the scan), so that the same
command goes on where it stopped and never takes the mask of another network for its own.
"""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from scans.csv_text import csv_text, rows_so_far
from scans.durable import append_text, write_text
from train.settings import SettingsError

NAME = "summary.csv"
_BEGUN = ".begun.csv"  # while a run is under way, and after one that was killed
STARTED = "stopped while this scan was segmented; the same command does it again"


@dataclass(frozen=True)
class SummaryRow:
    """What is known of one scan.

    Attributes
    ----------
    case : str
        ``OUT/CASE_mask.nii.gz`` is its mask.
    scan : str
        Its files, joined by commas.
    mask : str
        Path of the mask from the folder of the summary on; empty if there is none.
    volume_ml : str
        Of the mask; like the other numbers empty if there is none.
    components : str
        Parts of the mask that touch nowhere, not even at a corner.
    largest_ml : str
        Volume of the largest.
    seconds : str
        From reading the scan to its mask on disk.
    problem, note : str
        Why there is no mask; what to know about the one there is.
    checkpoint, scan_sha256 : str
        Hexadecimal digits of the SHA-256 of the network, and of all files that the scan and its ROI mask
        are made of; of a scan in one file, that file's own.
    options : str
        Those that change the result.
    classes_ml : dict of str to str
        Volume of each class, where there are several; a column ``NAME (ml)`` each, after all others.
    """

    case: str
    scan: str
    mask: str = ""
    volume_ml: str = ""
    components: str = ""
    largest_ml: str = ""
    seconds: str = ""
    problem: str = ""
    note: str = ""
    checkpoint: str = ""
    options: str = ""
    scan_sha256: str = ""
    classes_ml: dict[str, str] = field(default_factory=dict)

    def made_by(self, other: "SummaryRow") -> bool:
        """Tell whether the same network with the same options stands behind both rows."""
        return (self.checkpoint, self.options) == (other.checkpoint, other.options)


COLUMNS = [each.name for each in fields(SummaryRow) if each.name != "classes_ml"]
_ML = " (ml)"


def read_summary(folder: Path) -> dict[str, SummaryRow]:
    """Return the rows of a folder's summary by case, and those of scans that a killed run had begun; perhaps none.

    Raises
    ------
    SettingsError
        If the file there is not a summary.
    """
    return _together(_read(folder / NAME), _read(folder / _BEGUN))


class SummaryFile:
    """The summary of a folder while a run adds to it, row by row: what a row costs does not grow with the folder.

    Scans that are begun stand in a hidden list beside it, so that a mask without a row is known for a run's own,
    however the run ended. A row in place of another, as of an earlier run, has the whole file written anew.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    rows : dict of str to SummaryRow
        By case, in the order in which scans were begun.

    Raises
    ------
    SettingsError
        If the file there is not a summary; by every method, if it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        written = _read(folder / NAME)
        self.rows = _together(written, _read(folder / _BEGUN))
        self._begun: set[str] = set()  # cases that the hidden list alone has
        self._classes = written.classes  # that the file has columns for
        if (folder / _BEGUN).exists() or not written.whole:  # a run was killed
            self._rewrite()
            self._forget()

    def begun(self, rows: Iterable[SummaryRow]) -> None:
        """Say of scans that they are begun: their masks may be there from now on."""
        rows = list(rows)
        new = [row for row in rows if row.case not in self.rows]
        self.rows.update({row.case: row for row in rows})
        if new:
            self._add(_BEGUN, [_cells(row) for row in new])
            self._begun.update(row.case for row in new)
        if len(new) < len(rows):
            self._rewrite()

    def settled(self, row: SummaryRow) -> None:
        """Say what came of a scan that was begun."""
        self.rows[row.case] = row
        fits = (self.folder / NAME).exists() and row.classes_ml.keys() <= set(self._classes)
        if row.case in self._begun and fits:
            self._add(NAME, [_cells(row, self._classes)])
            self._begun.remove(row.case)
        else:
            self._begun.discard(row.case)
            self._rewrite()

    def close(self) -> None:
        """End the list of what is begun: whatever did not come to its end has a row that says so."""
        if self._begun:
            self._begun.clear()
            self._rewrite()
        self._forget()

    def _rewrite(self) -> None:
        """Write the whole file; a crash leaves the old one or the new."""
        rows = [row for row in self.rows.values() if row.case not in self._begun]
        self._classes = list(dict.fromkeys(name for row in rows for name in row.classes_ml))
        table = [[*COLUMNS, *(f"{name}{_ML}" for name in self._classes)]]
        with self._written():
            write_text(self.folder / NAME, csv_text([*table, *(_cells(row, self._classes) for row in rows)]))

    def _add(self, name: str, table: list[list[str]]) -> None:
        """Add rows to a file; the first ones come with the names of the columns, whole or not at all."""
        path = self.folder / name
        with self._written():
            if path.exists():
                append_text(path, csv_text(table))
            else:
                write_text(path, csv_text([COLUMNS, *table]))

    def _forget(self) -> None:
        with self._written():
            (self.folder / _BEGUN).unlink(missing_ok=True)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = f"{self.folder / NAME} cannot be written ({error.strerror}); the masks so far stay"
            raise SettingsError(said) from error


class _Table(NamedTuple):
    """What a file holds: rows by case, the classes that it has columns for, and whether its last line is whole."""

    rows: dict[str, SummaryRow]
    classes: list[str]
    whole: bool


def _together(written: _Table, begun: _Table) -> dict[str, SummaryRow]:
    return written.rows | {case: row for case, row in begun.rows.items() if case not in written.rows}


def _read(path: Path) -> _Table:
    """Read a file of rows, without a line at its end that a crash cut off."""
    try:
        if not path.exists():
            return _Table({}, [], True)
        read, whole = rows_so_far(path.read_bytes())
        head, *lines = read or [[]]
        classes = head[len(COLUMNS) :]
        if head[: len(COLUMNS)] != COLUMNS or not all(name.endswith(_ML) for name in classes):
            raise ValueError
        classes = [name.removesuffix(_ML) for name in classes]
        rows = {}
        for line in lines:
            own = dict(zip(COLUMNS, line, strict=False))
            volumes = dict(zip(classes, line[len(COLUMNS) :], strict=True))
            row = SummaryRow(**own, classes_ml={name: ml for name, ml in volumes.items() if ml})
            float(row.volume_ml or 0)
            rows[row.case] = row
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise SettingsError(f"{path} is not a summary that train segment wrote; choose another --out") from error
    return _Table(rows, classes, whole)


def _cells(row: SummaryRow, classes: Iterable[str] = ()) -> list[str]:
    return [*(getattr(row, name) for name in COLUMNS), *(row.classes_ml.get(name, "") for name in classes)]
