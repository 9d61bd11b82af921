"""What of a catalog a task can use on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scans.catalog.catalog import Catalog, load_catalog
from scans.errors import CatalogError
from scans.image.cases import find_cases
from train.tables.plan import TableTask


@dataclass(frozen=True)
class Target:
    """Scans of one task.

    Attributes
    ----------
    region : dict
        Settings of the region, as a corpus records them.
    normals : dict of str to list of str
        Names of the normal scans of each dataset.
    dataset : str
        The annotated one.
    cases : list of str
        Names of its annotated scans.
    finetuned_as : str
        What ``train finetune`` is told: the catalog's task, or the dataset.
    note : str
        What to know about the choice.
    problem : str
        Why the task cannot run here; else empty.
    """

    region: dict[str, Any] = field(default_factory=dict)
    normals: dict[str, list[str]] = field(default_factory=dict)
    dataset: str = ""
    cases: list[str] = field(default_factory=list)
    finetuned_as: str = ""
    note: str = ""
    problem: str = ""


def find_targets(path: Path, tasks: Sequence[TableTask]) -> dict[str, Target]:
    """Look up the scans of each task.

    Parameters
    ----------
    path : Path
        Of the catalog.
    tasks : sequence of TableTask

    Returns
    -------
    dict of str to Target
        By name of the task.

    Raises
    ------
    CatalogError
        If the catalog cannot be read, or there are scans for none of the tasks. Where a task of several classes lacks
        nothing but annotated scans the table is made, to say so.
    """
    catalog = load_catalog(path)
    targets = {task.name: find_target(catalog, task) for task in tasks}
    told = any(task.classes and targets[task.name].normals for task in tasks)
    if all(target.problem for target in targets.values()) and not told:
        reasons = dict.fromkeys(target.problem for target in targets.values())
        raise CatalogError(f"{path}: no task of this table has its scans here; {'; '.join(reasons)}")
    return targets


def find_target(catalog: Catalog, task: TableTask) -> Target:
    """Return a task's normals and its annotated scans: of the paper's dataset, else of another of its region."""
    called = _with_classes(catalog, task)
    several = catalog.tasks.get(called) if task.classes else None
    if task.classes and several is None:
        return Target(problem=f"the catalog has no task {task.name} with the classes {', '.join(task.classes)}")
    if task.region not in catalog.regions:
        return Target(problem=f"the catalog has no region {task.region}")
    normals: dict[str, list[str]] = {}
    annotated: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {"normal": [], "tumour": []}
    for name, dataset in catalog.datasets.items():
        fits = len(dataset.modalities) == 1 and dataset.region_of(dataset.modalities[0]) == task.region
        if several is not None and dataset.role == "tumour":  # only there are labels and modalities those of the task
            fits = name == several.dataset
        if not fits:
            continue
        cases = find_cases(dataset, name)
        if dataset.role == "normal":
            found = [case.name for case in cases]
        else:
            found = [case.name for case in cases if case.label is not None]
        if found:
            (normals if dataset.role == "normal" else annotated)[name] = sorted(found)
        else:
            absent[dataset.role].append(f"{name} ({dataset.status() or 'no scan matches its layout'})")
    for kind, there, role in (("normal", normals, "normal"), ("annotated", annotated, "tumour")):
        if not there:
            missing = ", ".join(absent[role]) or "the catalog has no such dataset"
            which = f"of region {task.region}"
            if several is not None and role == "tumour":
                which = f"in {', '.join(several.modalities)} with labels of {', '.join(several.classes)}"
            return Target(normals=normals, problem=f"no {kind} scans {which}: {missing}")
    name = task.dataset if task.dataset in annotated else next(iter(annotated))
    counted = ", ".join(f"{len(cases)} of {healthy}" for healthy, cases in normals.items())
    note = f"{task.name}: {len(annotated[name])} annotated scans of {name}, {counted} normal ones"
    if name != task.dataset:
        instead = f", in {', '.join(several.modalities)}" if several is not None else ""
        note += f"{instead}; the paper's dataset, {task.dataset}, is not here"
    known = called in catalog.tasks and catalog.tasks[called].dataset == name
    return Target(
        region=catalog.region(task.region).model_dump(mode="json", exclude={"symmetric"}),  # no row of the paper asks
        normals=normals,
        dataset=name,
        cases=annotated[name],
        finetuned_as=called if known else name,
        note=f"{note}.",
    )


def _with_classes(catalog: Catalog, task: TableTask) -> str:
    """Return the catalog's name of a task: its own, or another's with the same classes whose scans are here."""
    fit = [name for name, other in catalog.tasks.items() if set(other.classes) == set(task.classes)]
    fit.sort(key=lambda name: name != task.name)
    here = (name for name in fit if find_cases(catalog.datasets[catalog.tasks[name].dataset], name))
    return next(here, next(iter(fit), "")) if task.classes else task.name
