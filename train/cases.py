"""Real scans of a dataset, prepared for a network, for adaptation, fine-tuning and evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scans.catalog import Case, Dataset, find_cases, load_catalog, read_case
from scans.errors import CatalogError, ScanError, UserError
from scans.normalisation import Statistics, normalise
from scans.preparation import prepare, to_frame
from scans.region import Region


@dataclass(frozen=True)
class RealScan:
    """A prepared real scan, in network units.

    Attributes
    ----------
    name : str
    intensity : ndarray of float32, shape (size, size, size)
        0 outside the ROI.
    mask : ndarray of bool, same shape, or None
        The annotated tumour, where it is asked for.
    """

    name: str
    intensity: np.ndarray
    mask: np.ndarray | None


def dataset_cases(catalog: Path, name: str, region: Region | None) -> tuple[Dataset, Region, list[Case]]:
    """Look up a dataset and its cases.

    Parameters
    ----------
    catalog : Path
    name : str
    region : Region or None
        What a checkpoint was trained for; the dataset must be of the same.

    Raises
    ------
    CatalogError
        If the dataset is unknown, of another region, or holds no cases.
    """
    loaded = load_catalog(catalog)
    dataset = loaded.dataset(name)
    if region is not None and dataset.region != region.name:
        raise CatalogError(
            f"dataset {name} is of region {dataset.region}, the checkpoint of region {region.name}; "
            "train on a corpus of the dataset's region"
        )
    cases = find_cases(dataset, name)
    if not cases:
        reason = dataset.status() or f"nothing under {dataset.root} matches its layout"
        raise CatalogError(f"dataset {name} has no cases here: {reason}")
    return dataset, loaded.region(dataset.region), cases


def prepare_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    region: Region,
    size: int,
    statistics: Statistics | None,
    *,
    annotated: bool,
    told: Callable[[str], None] = lambda line: None,
) -> list[RealScan]:
    """Read and prepare cases into memory; a case that cannot be used is told of and left out.

    Raises
    ------
    ScanError
        If no case is left.
    """
    prepared = []
    for case in cases:
        try:
            prepared.append(_prepared(case, dataset, region, size, statistics, annotated))
        except UserError as error:
            told(f"left out {case.name}: {error}")
    if not prepared:
        raise ScanError(f"none of the {len(cases)} cases of {cases[0].dataset} can be used; the reasons are above")
    return prepared


def _prepared(
    case: Case, dataset: Dataset, region: Region, size: int, statistics: Statistics | None, annotated: bool
) -> RealScan:
    scan = read_case(case, dataset, region)
    if annotated and scan.label is None:
        raise ScanError(f"{case.image}: has no label file; the catalog's layout says where one must be")
    prepared = prepare(scan.volume, scan.roi, None, region, size, statistics, where=str(case.image))
    assert prepared.statistics is not None  # `window` regions come with a checkpoint's statistics
    mask = None
    if annotated and scan.label is not None:
        share = to_frame(scan.label.with_array(scan.label.array.astype(np.float32)), prepared.frame)
        mask = share >= 0.5
    return RealScan(case.name, normalise(prepared.intensity, prepared.roi, prepared.statistics), mask)
