"""The catalog: regions, datasets and tasks by name.

Catalogs are YAML; one may include others by path, relative to itself, or by name one that comes with the
software.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from scans.catalog.dataset import Dataset
from scans.catalog.mask_command import checked_command
from scans.catalog.region import Region
from scans.catalog.settings import Strict, one_line
from scans.catalog.shipped import located, shipped_names
from scans.catalog.task import FoldRule, Task
from scans.errors import CatalogError
from scans.yaml_text import read_yaml

_KINDS = ("regions", "datasets", "tasks")
FRAME = ("orientation", "field_of_view", "roi")  # what regions of one scan's modalities share


class Catalog(Strict):
    """Regions, datasets and tasks by name."""

    regions: dict[str, Region]
    datasets: dict[str, Dataset]
    tasks: dict[str, Task] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _regions_exist(self) -> "Catalog":
        for name, dataset in self.datasets.items():
            regions = [dataset.region_of(modality) for modality in dataset.modalities]
            for region in regions:
                if region not in self.regions:
                    raise ValueError(f"dataset {name}: no region {region}; there are {_names(self.regions)}")
            if len(regions) > 1:
                self._check_channels(name, dataset, [self.regions[region] for region in regions])
        return self

    @model_validator(mode="after")
    def _tasks_fit(self) -> "Catalog":
        for name, task in self.tasks.items():
            if name in self.datasets:
                raise ValueError(f"task {name}: a dataset has this name; rename one")
            dataset = self.datasets.get(task.dataset)
            if dataset is None:
                raise ValueError(f"task {name}: no dataset {task.dataset}; there are {_names(self.datasets)}")
            if not dataset.masks("label"):
                raise ValueError(f"task {name}: the layout of dataset {task.dataset} gives no pattern for label")
            for modality in task.modalities:
                if modality not in dataset.modalities or task.modalities.count(modality) > 1:
                    there = ", ".join(dataset.modalities)
                    raise ValueError(f"task {name}: names {modality}; dataset {task.dataset} has once each {there}")
        return self

    def _check_channels(self, name: str, dataset: Dataset, regions: list[Region]) -> None:
        """Refuse modalities that one cube cannot hold."""
        first = regions[0]
        for region in regions[1:]:
            for shared in FRAME:
                if getattr(region, shared) != getattr(first, shared):
                    raise ValueError(
                        f"dataset {name}: regions {first.name} and {region.name} differ in {shared}; "
                        "modalities of one scan share it"
                    )
        if first.normalisation.kind == "window" and isinstance(dataset.region, str):
            raise ValueError(
                f"dataset {name}: region {first.name} has one window of intensities, which fits one modality; "
                "give each modality a region of its own, as region: {CT: liver-ct, ...}"
            )

    def dataset(self, name: str) -> Dataset:
        """Return a dataset by name, with what its region says of brain masks if it says nothing itself.

        Raises
        ------
        CatalogError
            If there is none; it says which there are.
        """
        if name not in self.datasets:
            raise CatalogError(f"no dataset {name} in the catalog; there are {_names(self.datasets)}")
        dataset = self.datasets[name]
        if dataset.brain_mask_with is not None:
            return dataset
        command = self.regions[dataset.region_of(dataset.modalities[0])].brain_mask_with
        return dataset.model_copy(update={"brain_mask_with": command})

    def with_brain_masks(self, command: str | None, folder: Path | None) -> "Catalog":
        """Return the catalog with one command, and one folder, for the brain masks of all its datasets.

        Parameters
        ----------
        command : str or None
            None leaves what the catalog says.
        folder : Path or None
            Likewise.

        Raises
        ------
        CatalogError
            If the command does not say where the paths go.
        """
        said = {"brain_mask_with": checked_command(command), "brain_masks": folder and str(folder)}
        given = {name: value for name, value in said.items() if value is not None}
        datasets = {name: dataset.model_copy(update=given) for name, dataset in self.datasets.items()}
        return self.model_copy(update={"datasets": datasets})

    def region(self, name: str) -> Region:
        """Return a region by name, or raise CatalogError with the names there are."""
        if name not in self.regions:
            raise CatalogError(f"no region {name} in the catalog; there are {_names(self.regions)}")
        return self.regions[name]

    def task(self, name: str) -> Task:
        """Return a task by name.

        A dataset's name stands for the task to find whatever its label file marks, in all its modalities, with three
        folds over its cases.

        Raises
        ------
        CatalogError
            If there is neither; it says which there are.
        """
        if name in self.tasks:
            return self.tasks[name]
        if name not in self.datasets:
            raise CatalogError(
                f"no task {name} in the catalog; there are the tasks {_names(self.tasks)} and the datasets "
                f"{_names(self.datasets)}"
            )
        dataset = self.datasets[name]
        whole: dict[str, tuple[int, ...] | None] = {"tumour": dataset.label_values}
        return Task(dataset=name, modalities=dataset.modalities, classes=whole, folds=FoldRule(parts=3))

    def in_modalities(self, name: str, modalities: Sequence[str] = ()) -> tuple[Dataset, list[Region]]:
        """Return a dataset with some of its modalities, in the order given, and the region of each.

        Parameters
        ----------
        name : str
        modalities : sequence of str
            All of the dataset if empty.

        Raises
        ------
        CatalogError
            If the dataset is unknown, or lacks one of them.
        """
        dataset = self.dataset(name)
        chosen = tuple(modalities) or dataset.modalities
        for modality in chosen:
            if modality not in dataset.modalities or chosen.count(modality) > 1:
                what = "is named twice" if modality in dataset.modalities else "is no modality of it"
                raise CatalogError(f"dataset {name}: {modality} {what}; there are {', '.join(dataset.modalities)}")
        return dataset.only(chosen), [self._region_in(dataset, modality) for modality in chosen]

    def in_one_modality(
        self, name: str, modality: str | None = None, region: str | None = None
    ) -> tuple[Dataset, Region]:
        """Return a dataset with one of its modalities, and that one's region: what a corpus is made of.

        Parameters
        ----------
        name : str
        modality, region : str, optional
            Which. Without them, the one whose region names it as its own.

        Raises
        ------
        CatalogError
            If the dataset is unknown, has no such modality, or it is not clear which.
        """
        dataset = self.dataset(name)
        found = [modality] if modality else list(dataset.modalities)
        if len(found) > 1:
            found = [m for m in found if region in (None, dataset.region_of(m))] or found
        if len(found) > 1:
            found = [m for m in found if self.region(dataset.region_of(m)).modality == m]
        if len(found) != 1:
            raise CatalogError(
                f"dataset {name} has the modalities {', '.join(dataset.modalities)}, and a corpus has one; "
                "say which with --modality"
            )
        chosen, (of_it,) = self.in_modalities(name, found)
        return chosen, of_it

    def _region_in(self, dataset: Dataset, modality: str) -> Region:
        """Return a modality's region; one that serves several tells which modality it stands for."""
        region = self.region(dataset.region_of(modality))
        several = len(dataset.modalities) > 1
        return region.model_copy(update={"modality": modality}) if several else region


def load_catalog(path: str | Path) -> Catalog:
    """Read a catalog and those it includes.

    Parameters
    ----------
    path : str or Path
        A file, or the name of a catalog that comes with the software; see `scans.catalog.shipped.located`.

    Raises
    ------
    CatalogError
        If a file is missing or not as it must be, or two define the same name.
    """
    merged: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    _merge(located(path), merged, set())
    for name, region in merged["regions"].items():
        if isinstance(region, dict):
            merged["regions"][name] = {**region, "name": name}
    try:
        return Catalog.model_validate(merged)
    except ValidationError as error:
        raise CatalogError(f"{path}: {one_line(error)}") from error


def _merge(path: Path, merged: dict[str, dict[str, Any]], done: set[Path]) -> None:
    if path.resolve() in done:
        return
    done.add(path.resolve())
    try:
        content = read_yaml(path)
    except OSError as error:
        raise CatalogError(
            f"{path}: no catalog can be read there ({error.strerror}); give a file, or one that comes with the "
            f"software: {', '.join(shipped_names())}"
        ) from error
    if not isinstance(content, dict) or not set(content) <= {"include", *_KINDS}:
        raise CatalogError(f"{path}: a catalog holds include, regions, datasets and tasks, nothing else")
    include = content.get("include") or []
    if not isinstance(include, list) or not all(isinstance(entry, str) for entry in include):
        raise CatalogError(f"{path}: include must be a list of paths")
    for entry in include:
        _merge(located(entry, path), merged, done)
    for kind in _KINDS:
        entries = content.get(kind) or {}
        if not isinstance(entries, dict):
            raise CatalogError(f"{path}: {kind} must map names to settings")
        for name, entry in entries.items():
            if str(name) in merged[kind]:
                raise CatalogError(f"{path}: {kind[:-1]} {name} is defined twice; rename one")
            merged[kind][str(name)] = entry


def _names(entries: dict[str, Any]) -> str:
    return ", ".join(sorted(entries)) or "none"
