"""The summary of a segmented folder: ``summary.csv``, one row a scan, whole at every moment.

A row says what its mask was made from (the network's weights, the options, the bytes of the scan), so that the same
command goes on where it stopped and never takes the mask of another network for its own.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

from scans.csv_text import csv_text
from scans.durable import write_text
from train.settings import SettingsError

NAME = "summary.csv"
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
    """Return the rows of a folder's summary by case; none if there is no summary.

    Raises
    ------
    SettingsError
        If the file there is not a summary.
    """
    path = folder / NAME
    try:
        if not path.exists():
            return {}
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        names = list(reader.fieldnames or [])
        classes = names[len(COLUMNS) :]
        if names[: len(COLUMNS)] != COLUMNS or not all(name.endswith(_ML) for name in classes):
            raise ValueError
        rows = []
        for values in reader:
            volumes = {name.removesuffix(_ML): values.pop(name) for name in classes}
            row = SummaryRow(**values, classes_ml={name: ml for name, ml in volumes.items() if ml})
            float(row.volume_ml or 0)
            rows.append(row)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise SettingsError(f"{path} is not a summary that train segment wrote; choose another --out") from error
    return {row.case: row for row in rows}


def write_summary(folder: Path, rows: Iterable[SummaryRow]) -> None:
    """Write a folder's summary; a crash leaves the old one or the new.

    Raises
    ------
    SettingsError
        If it cannot be written.
    """
    rows = list(rows)
    classes = dict.fromkeys(name for row in rows for name in row.classes_ml)
    table = [[*COLUMNS, *(f"{name}{_ML}" for name in classes)]]
    for row in rows:
        numbers = [row.classes_ml.get(name, "") for name in classes]
        table.append([*(getattr(row, name) for name in COLUMNS), *numbers])
    try:
        write_text(folder / NAME, csv_text(table))
    except OSError as error:
        raise SettingsError(f"{folder / NAME} cannot be written ({error.strerror}); the masks so far stay") from error
