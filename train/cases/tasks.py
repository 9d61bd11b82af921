"""A task of the catalog on the scans that are here: its cases, its folds, its common statistics."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from scans.catalog.catalog import load_catalog
from scans.catalog.dataset import Dataset
from scans.catalog.region import Region
from scans.catalog.task import Task
from scans.errors import CatalogError, ScanError, UserError
from scans.image.cases import Case, find_cases, read_case
from scans.image.normalisation import Statistics
from scans.image.preparation import prepare_modalities
from scans.image.statistics import common_statistics
from scans.image.volume import read_mask
from scans.one_scan import one_scan
from train.cases.folds import Folds, draw_folds, read_folds
from train.settings import SettingsError


def task_folds(
    catalog: Path,
    name: str,
    *,
    parts: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Folds:
    """Draw the folds of a task over the annotated cases that are here.

    Parameters
    ----------
    catalog : Path
    name : str
        Of a task, or of a dataset: then its cases are parted and `parts` says into how many.
    parts : int, optional
    seed : int
    say : callable
        Told in a sentence of what is left out.

    Raises
    ------
    CatalogError
        If there is no such task, or it has no annotated cases here.
    SettingsError
        As of `train.cases.folds.draw_folds`.
    """
    loaded = load_catalog(catalog)
    task = loaded.task(name)
    if parts is not None and name in loaded.datasets:
        task = task.model_copy(update={"folds": task.folds.model_copy(update={"parts": parts})})
    dataset = loaded.dataset(task.dataset).only(task.modalities)
    cases = find_cases(dataset, task.dataset)
    annotated = [case for case in cases if case.label is not None]
    if not annotated:
        reason = dataset.status() or f"{len(cases)} scans under {dataset.root}, none with a label file"
        raise CatalogError(f"{name} has no annotated cases here: {reason}")
    empty = [case.name for case in annotated if task.tumour_only and not _has_tumour(case, task, say)]
    if empty:
        say(f"{len(empty)} of {len(annotated)} cases hold no tumour and are left out")
    chosen = [case.name for case in annotated if case.name not in set(empty)]
    return draw_folds(name, task, chosen, seed, empty)


def _has_tumour(case: Case, task: Task, say: Callable[[str], None]) -> bool:
    """Say whether a label marks anything; one that cannot be read stays, so that mending it changes no fold."""
    assert case.label is not None
    values = list(task.classes.values())
    wanted = None if None in values else tuple(value for some in values if some for value in some)
    try:
        with one_scan(case.label):
            return bool(read_mask(case.label, wanted, kind="label mask").array.any())
    except UserError as error:
        say(f"{case.name} stays in its fold, but cannot be used: {error}")
        return True


def folds_for(
    catalog: Path,
    name: str,
    file: Path | None,
    cases: Sequence[Case],
    *,
    parts: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Folds:
    """Return the folds of a training: those of a file, or else drawn.

    Parameters
    ----------
    catalog : Path
    name : str
        Of the task or dataset.
    file : Path or None
    cases : sequence of Case
        Those that are here.
    parts : int, optional
        As of `task_folds`.
    say : callable

    Raises
    ------
    SettingsError
        If the file is of another task, or names a case that is not here.
    """
    if file is None:
        return task_folds(catalog, name, parts=parts, say=say)
    folds = read_folds(file)
    if folds.task != name:
        raise SettingsError(f"{file}: has the folds of {folds.task}, not of {name}")
    there = {case.name for case in cases}
    missing = sorted(folds.cases - there)
    if missing:
        raise SettingsError(
            f"{file}: names {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''}, which the dataset "
            f"{folds.dataset} has not here; add the scans, or make folds of your own with train folds"
        )
    rest = there - folds.cases - set(folds.without_tumour)
    if rest:
        say(f"{len(rest)} cases are in no fold of {file} and are not used, {min(rest)} the first")
    return folds


def foreground_statistics(
    cases: Sequence[Case], dataset: Dataset, regions: Sequence[Region], size: int
) -> list[Statistics | None]:
    """Return what regions with a common window are normalised by, from the ROI voxels of training cases.

    Clipping by percentiles of all of them together, then their common mean and deviation, as nnU-Net does for CT;
    for a training from scratch, which has no corpus to take them from.

    Parameters
    ----------
    cases : sequence of Case
        Cases that cannot be read are passed over.
    dataset : Dataset
    regions : sequence of Region
        One a modality of the dataset.
    size : int

    Returns
    -------
    list of Statistics or None
        One a modality; None where each scan has its own.

    Raises
    ------
    ScanError
        If no case can be read.
    """
    windowed = [position for position, region in enumerate(regions) if region.normalisation.kind == "window"]
    if not windowed:
        return [None] * len(regions)
    values: dict[int, list[np.ndarray]] = {position: [] for position in windowed}
    for case in cases:
        try:
            with one_scan(case.image):
                scan = read_case(case, dataset, regions[0])
                prepared = prepare_modalities(
                    scan.volumes, scan.roi, regions, size, [None] * len(regions), where=str(case.image)
                )
        except UserError:
            continue  # told of when it is prepared to be trained on
        for position in windowed:
            values[position].append(prepared[position].intensity[prepared[position].roi])
    if not values[windowed[0]]:
        raise ScanError(f"none of the {len(cases)} training cases of {cases[0].dataset} can be read")
    found: list[Statistics | None] = [None] * len(regions)
    for position in windowed:
        found[position] = common_statistics(np.concatenate(values[position]), regions[position])
    return found
