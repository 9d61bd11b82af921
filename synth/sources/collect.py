"""Collect: the scans of some datasets that can be prepared into one store."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from scans.catalog.catalog import Catalog
from scans.catalog.dataset import Dataset
from scans.catalog.mask_command import told_command
from scans.catalog.region import Region
from scans.errors import CatalogError
from scans.image.brain_mask import check_program
from scans.image.cases import Case, find_cases


def collect(
    catalog: Catalog, names: list[str], tumours: Sequence[str], modality: str | None, region_name: str | None
) -> tuple[Region, dict[str, Dataset], list[Case]]:
    """Return the region, the datasets in one modality, and their cases.

    Parameters
    ----------
    catalog : Catalog
    names : list of str
        Datasets of normals.
    tumours : sequence of str
        Datasets whose tumours are lent.
    modality, region_name : str, optional
        Which modality of datasets that have several.

    Raises
    ------
    CatalogError
        If one is not there, or they cannot be prepared together.
    """
    names = list(dict.fromkeys([*names, *tumours]))
    if not names:
        raise CatalogError("name at least one dataset with --dataset")
    regions, datasets, cases = {}, {}, []
    for name in names:
        dataset, region = catalog.in_one_modality(name, modality, region_name)
        dataset = dataset.model_copy(update={"brain_masks": os.path.abspath(dataset.brain_masks)})
        regions[name], datasets[name] = region, dataset
        first = names[0]
        if dataset.role != "normal" and name not in tumours:
            raise CatalogError(
                f"dataset {name} holds tumours; sources are made of datasets with role normal, and --tumours names "
                "those whose tumours are lent"
            )
        if dataset.role == "normal" and name in tumours:
            raise CatalogError(f"--tumours {name}: its scans have role normal; name it with --dataset")
        if region != regions[first]:
            told = [f"{regions[n].name} {regions[n].modality}" for n in (first, name)]
            raise CatalogError(
                f"datasets {first} and {name} are of different regions ({', '.join(told)}); "
                "prepare them into two stores"
            )
        (chosen,) = dataset.modalities
        found = find_cases(catalog.dataset(name), name)
        if not found:
            patterns = " or ".join(dataset.images(chosen))
            reason = dataset.status() or f"no file under {dataset.root} matches {patterns}"
            raise CatalogError(f"dataset {name} is not there: {reason}; how to get it: {dataset.obtain}")
        # Who lacks a modality is left out of the corpora of all, so that those of one dataset hold the same scans.
        position = catalog.dataset(name).modalities.index(chosen)
        cases += [c if c.problem else dataclasses.replace(c, images=(c.images[position],)) for c in found]
    return regions[names[0]], datasets, [_absolute(case) for case in cases]


def say_who_is_masked(
    datasets: dict[str, Dataset], cases: Sequence[Case], cluster: str, say: Callable[[str], None]
) -> None:
    """Say which brain masks are made, with what, and where they are kept; stop if that is not on this machine."""
    for name, dataset in datasets.items():
        bare = sum(case.dataset == name and case.roi is None and not case.problem for case in cases)
        if not (dataset.brain_mask_with and bare):
            continue
        if cluster == "local":
            check_program(dataset.brain_mask_with)
        say(
            f"{name}: {bare} of its scans bring no mask; {told_command(dataset.brain_mask_with)} makes them, "
            f"and {dataset.brain_masks} keeps them"
        )


def _absolute(case: Case) -> Case:
    """Name a case's files as a worker finds them, wherever it was started."""
    masks: dict[str, Any] = {role: path.absolute() for role, path in case.files().items() if role != "image"}
    return dataclasses.replace(case, images=tuple(image.absolute() for image in case.images), **masks)
