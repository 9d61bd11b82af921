"""Pseudo-donors: scans whose tumours are cut by masks that a network drew, in place of those of an annotator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scans.catalog.dataset import Dataset
from scans.errors import CatalogError, ScanError
from scans.formats.files import content_sha256
from scans.formats.pseudo_labels import NAME, PseudoLabel, read_pseudo_labels
from scans.image.cases import Case


@dataclass(frozen=True)
class PseudoDonors:
    """The confident masks of one dataset.

    Attributes
    ----------
    dataset : str
    rows : dict of str to PseudoLabel
        The confident ones, by case; none where a dataset's own labels are used.
    """

    dataset: str = ""
    rows: dict[str, PseudoLabel] = field(default_factory=dict)

    def of(self, case: Case) -> PseudoLabel | None:
        """Return what is known of the mask that a case's tumour is cut by; None if that is a label of the dataset."""
        return self.rows.get(case.name) if case.dataset == self.dataset else None

    def stale(self, finished: Mapping[str, dict[str, Any]]) -> list[str]:
        """Return which finished sources of the dataset lend what a network drew, though it is not confident now."""
        return [
            name
            for name, source in finished.items()
            if source["dataset"] == self.dataset and "pseudo_label" in source and source["case"] not in self.rows
        ]

    def check(self, case: Case) -> None:
        """Refuse a mask that is not what the network drew in this very scan.

        Raises
        ------
        ScanError
        """
        row = self.of(case)
        if row is None or case.label is None:
            return
        if content_sha256([case.image]) not in row.scan_sha256.split():
            raise ScanError(
                f"{case.image}: is not the scan that {case.label} was drawn in; run train pseudo-label again"
            )
        if content_sha256([case.label]) != row.mask_sha256:
            raise ScanError(f"{case.label}: was changed since the network drew it; run train pseudo-label again")


def read_pseudo_donors(folder: Path, tumours: Sequence[str], say: Callable[[str], None]) -> PseudoDonors:
    """Return the confident masks of a folder that `train pseudo-label` wrote.

    Parameters
    ----------
    folder : Path
    tumours : sequence of str
        Datasets whose tumours are lent: the one that the masks are of.
    say : callable
        Told how many masks are confident.

    Raises
    ------
    CatalogError
        If there is not exactly one dataset, or no mask is confident.
    StoreError
        If there is no table of pseudo-labels.
    """
    if len(tumours) != 1:
        raise CatalogError(
            f"--pseudo-labels {folder}: name the dataset that its masks are of, with --tumours, and no other"
        )
    rows = read_pseudo_labels(folder)
    confident = {case: row for case, row in rows.items() if row.confident}
    if not confident:
        raise CatalogError(
            f"{folder}: none of {len(rows)} masks is confident, {NAME} says why not; another rule (train pseudo-label "
            "--set) or a better network is needed"
        )
    say(f"{len(confident)} of {len(rows)} masks in {folder} are confident; the other scans lend nothing")
    return PseudoDonors(tumours[0], confident)


def donor_cases(donors: PseudoDonors, folder: Path, cases: Sequence[Case]) -> list[Case]:
    """Return cases with the network's masks as labels; of the dataset that lends, those that are confident.

    Raises
    ------
    CatalogError
        If a mask is of a case that the dataset does not hold.
    """
    others = [case for case in cases if case.dataset != donors.dataset]
    lending = [case for case in cases if case.dataset == donors.dataset]
    if unknown := sorted(donors.rows.keys() - {case.name for case in lending}):
        raise CatalogError(
            f"{folder / NAME}: dataset {donors.dataset} has no case {unknown[0]}; are the masks of another dataset?"
        )
    marked = (
        replace(case, lesion=None, label=(folder / donors.rows[case.name].mask).absolute())
        for case in lending
        if case.name in donors.rows
    )
    return [*others, *marked]


def donor_datasets(donors: PseudoDonors, datasets: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Return datasets by name; in the one that lends any voxel but 0 is tumour, and no annotation is required."""
    dataset = datasets[donors.dataset]
    required = tuple(role for role in dataset.layout.required if role == "roi")
    layout = dataset.layout.model_copy(update={"required": required})
    return {**datasets, donors.dataset: dataset.model_copy(update={"label_values": None, "layout": layout})}
