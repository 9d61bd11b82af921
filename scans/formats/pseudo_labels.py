"""Pseudo-labels: the table of masks that a network drew where nobody annotated, and which of them may be trusted.

`train` writes the table beside the masks, `synth` cuts tumours by those that are confident.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scans.csv_text import csv_text, rows_so_far
from scans.durable import append_text, write_text
from scans.errors import StoreError
from scans.writing import writing

NAME = "pseudo_labels.csv"
_YES = {True: "yes", False: ""}


@dataclass(frozen=True)
class PseudoLabel:
    """What is known of the mask of one scan.

    Attributes
    ----------
    case : str
        Of the dataset.
    mask : str
        Path of the mask from the table's folder on; empty if there is none.
    confident : bool
        Whether the rule trusts it.
    why_not : str
        What the rule has against it, or why there is no mask; empty if it is confident.
    volume_ml : float
    probability, agreement, largest, of_organ : float
        What the rule looks at, see `train.inference.confidence.Confidence`.
    network : str
        SHA-256 of the network.
    reading, rule : str
        How the mask is read of what the network found, and what counts as confident.
    scan_sha256 : str
        Of the files that the network saw, one a modality, joined by spaces.
    roi_sha256, mask_sha256 : str
        Of the ROI mask, empty without one; of the mask.
    """

    case: str
    mask: str = ""
    confident: bool = False
    why_not: str = ""
    volume_ml: float = 0.0
    probability: float = 0.0
    agreement: float = 0.0
    largest: float = 0.0
    of_organ: float = 0.0
    network: str = ""
    reading: str = ""
    rule: str = ""
    scan_sha256: str = ""
    roi_sha256: str = ""
    mask_sha256: str = ""

    def provenance(self) -> dict[str, Any]:
        """Return what a source says of a tumour that was cut by this mask, and not by one drawn by hand."""
        kept = ("network", "reading", "rule", "probability", "agreement", "largest", "of_organ")
        return {key: getattr(self, key) for key in kept}


COLUMNS = [each.name for each in fields(PseudoLabel)]
_NUMBERS = [each.name for each in fields(PseudoLabel) if each.type is float]


def read_pseudo_labels(folder: Path, *, under_way: bool = False) -> dict[str, PseudoLabel]:
    """Return the rows of a folder's table by case, in the order of their names.

    Parameters
    ----------
    folder : Path
    under_way : bool
        Of a run that may have been killed: a row that is cut off at its end is left out.

    Raises
    ------
    StoreError
        If there is no table, or it is not one that `train pseudo-label` wrote.
    """
    path = folder / NAME
    try:
        read, whole = rows_so_far(path.read_bytes())
        head, *lines = read or [[]]
        if head != COLUMNS or not (whole or under_way):
            raise ValueError
        rows = []
        for line in lines:
            values = dict(zip(COLUMNS, line, strict=True))
            if values["confident"] not in _YES.values():
                raise ValueError
            if values["mask"] != Path(values["mask"]).name:  # a stranger's table: nothing outside the folder
                raise ValueError
            known: dict[str, Any] = {**values, **{name: float(values[name]) for name in _NUMBERS}}
            if not all(0 <= known[name] < float("inf") for name in _NUMBERS):
                raise ValueError
            rows.append(PseudoLabel(**{**known, "confident": known["confident"] == _YES[True]}))
    except FileNotFoundError as error:
        raise StoreError(f"{folder}: no {NAME} here; make it with train pseudo-label --out {folder}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise StoreError(f"{path} is damaged or not of train pseudo-label; make it again in another folder") from error
    return {row.case: row for row in sorted(rows, key=lambda row: row.case)}  # of two of a case the later


def write_pseudo_labels(folder: Path, rows: Iterable[PseudoLabel]) -> None:
    """Write a folder's table, cases by name; a crash leaves the old one or the new.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    table = [COLUMNS, *(_cells(row) for row in sorted(rows, key=lambda row: row.case))]
    with writing(folder / NAME, StoreError):
        write_text(folder / NAME, csv_text(table))


def add_pseudo_label(folder: Path, row: PseudoLabel) -> None:
    """Add a row to a folder's table, in place of an earlier one of its case; costs the same however long the table is.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    with writing(folder / NAME, StoreError):
        append_text(folder / NAME, csv_text([_cells(row)]))


def _cells(row: PseudoLabel) -> list[Any]:
    numbers = {name: f"{getattr(row, name):.6g}" for name in _NUMBERS}
    values = {**vars(row), "confident": _YES[row.confident], **numbers}
    return [values[name] for name in COLUMNS]
