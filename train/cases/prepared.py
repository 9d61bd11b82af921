"""Real scans of a dataset, prepared for a network, for adaptation, fine-tuning and evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scans.catalog.catalog import Catalog
from scans.catalog.dataset import Dataset
from scans.catalog.region import Region
from scans.errors import CatalogError, ScanError, UserError
from scans.image.cases import Case, find_cases, read_case
from scans.image.frame import to_frame
from scans.image.normalisation import Statistics, normalise
from scans.image.preparation import prepare_modalities
from scans.image.volume import read_masks
from scans.one_scan import one_scan


@dataclass(frozen=True)
class RealScan:
    """A prepared real scan, in network units.

    Attributes
    ----------
    name : str
    intensity : ndarray of float32, shape (C, size, size, size)
        Of C modalities; 0 outside the ROI.
    mask : ndarray of bool, shape (size, size, size), or None
        The annotated tumour, where it is asked for; of K > 1 classes (K, size, size, size).
    spacing_mm : tuple of float
        Of the cube, (z, y, x).
    """

    name: str
    intensity: np.ndarray
    mask: np.ndarray | None
    spacing_mm: tuple[float, float, float]


def dataset_cases(catalog: Catalog, name: str, regions: Sequence[Region]) -> tuple[Dataset, list[Case]]:
    """Look up a dataset and its cases.

    Parameters
    ----------
    catalog : Catalog
    name : str
    regions : sequence of Region
        What a network takes, one a modality: they choose and order those of the dataset by name.

    Returns
    -------
    dataset : Dataset
        With these modalities alone.
    cases : list of Case

    Raises
    ------
    CatalogError
        If the dataset is unknown, of another region, lacks a modality, or holds no cases.
    """
    whole = catalog.dataset(name)
    wanted = [region.modality for region in regions]
    if len(wanted) == len(whole.modalities) == 1:  # however each spells it
        wanted = list(whole.modalities)
    for modality, region in zip(wanted, regions, strict=True):
        if modality not in whole.modalities:
            raise CatalogError(
                f"dataset {name} has no {modality}, and the network takes {', '.join(wanted)}; "
                f"there are {', '.join(whole.modalities)}"
            )
        if whole.region_of(modality) != region.name:
            raise CatalogError(
                f"dataset {name} is of region {whole.region_of(modality)}, the checkpoint of region {region.name}; "
                "train on a corpus of the dataset's region"
            )
    dataset, _ = catalog.in_modalities(name, wanted)
    cases = find_cases(dataset, name)
    if not cases:
        reason = dataset.status() or f"nothing under {dataset.root} matches its layout"
        raise CatalogError(f"dataset {name} has no cases here: {reason}")
    return dataset, cases


def prepare_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    regions: Sequence[Region],
    size: int,
    statistics: Sequence[Statistics | None],
    *,
    annotated: bool,
    classes: Sequence[tuple[int, ...] | None] = (),
    say: Callable[[str], None] = lambda line: None,
) -> list[RealScan]:
    """Read and prepare cases into memory; a case that cannot be used is told of and left out.

    Parameters
    ----------
    cases : sequence of Case
    dataset : Dataset
    regions : sequence of Region
        One a modality of the dataset.
    size : int
    statistics : sequence of Statistics or None
        One a modality: shared by all scans, or None where each has its own.
    annotated : bool
        Whether each case must have a label file.
    classes : sequence of tuple of int, or None
        Values of the label file, a class each, None for any but 0; empty: one class, as the dataset says.
    say : callable
        Told in a sentence of each case that is left out.

    Raises
    ------
    ScanError
        If no case is left.
    """

    def prepared_case(case: Case) -> RealScan:
        scan = read_case(case, dataset, regions[0])
        if annotated and scan.label is None:
            raise ScanError(f"{case.image}: has no label file; the catalog's layout says where one must be")
        channels = prepare_modalities(scan.volumes, scan.roi, regions, size, statistics, where=str(case.image))
        mask = None
        if annotated and scan.label is not None and case.label is not None:
            labels = read_masks(case.label, classes, kind="label mask") if classes else [scan.label]
            shares = [to_frame(label.with_array(label.array.astype(np.float32)), channels[0].frame) for label in labels]
            mask = np.stack(shares) >= 0.5
            mask = mask if len(mask) > 1 else mask[0]
        layers = []
        for channel in channels:
            assert channel.statistics is not None  # `window` regions come with a checkpoint's statistics
            layers.append(normalise(channel.intensity, channel.roi, channel.statistics))
        return RealScan(case.name, np.stack(layers), mask, channels[0].frame.spacing_mm)

    prepared = []
    for case in cases:
        try:
            with one_scan(case.image):
                prepared.append(prepared_case(case))
        except UserError as error:
            say(f"left out {case.name}: {error}")
    if not prepared:
        raise ScanError(f"none of the {len(cases)} cases of {cases[0].dataset} can be used; the reasons are above")
    return prepared
