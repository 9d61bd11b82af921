"""Folds: which patients train, which steer and which are kept for the test, the same for every method.

Folds are a function of the sorted case names and a seed, and a file: `train folds` writes it, once, and every training
on the task reads it. Patients are parted, never cases, so that no patient is on both sides.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError, model_validator

from scans.catalog.settings import Strict, one_line
from scans.catalog.task import FoldRule, Task
from scans.durable import write_text
from scans.writing import writing
from train.data.order import order
from train.settings import SettingsError

_FOLDS = 2**64 - 2  # a stream of random bits beside the order of samples
_STEERING = 5  # every fifth training patient steers


@dataclass(frozen=True)
class FoldCases:
    """Names of the cases that train, that steer the training, and that are kept for evaluation."""

    training: list[str]
    validation: list[str]
    test: list[str]


class Patient(Strict):
    """One patient's cases."""

    name: str
    cases: tuple[str, ...]


class Fold(Strict):
    """Patients to train on, in the order in which a growing fraction takes them, and those of the test."""

    training: tuple[Patient, ...]
    test: tuple[Patient, ...]

    @model_validator(mode="after")
    def _nobody_on_both_sides(self) -> "Fold":
        for what in ("patient", "case"):
            names: list[str] = []
            for patient in (*self.training, *self.test):
                names += [patient.name] if what == "patient" else patient.cases
            doubled = next((name for name in names if names.count(name) > 1), None)
            if doubled is not None:
                raise ValueError(f"{what} {doubled} is in a fold twice")
        if not self.training or not self.test:
            raise ValueError("a fold has nobody to train on, or nobody for the test")
        return self


class Folds(Strict):
    """The content of a fold file."""

    task: str
    dataset: str
    seed: int
    without_tumour: tuple[str, ...] = ()  # cases left out because their label holds none of the task's classes
    folds: tuple[Fold, ...]

    @property
    def cases(self) -> set[str]:
        """Every case of every fold."""
        return {case for fold in self.folds for patient in (*fold.training, *fold.test) for case in patient.cases}

    def parts(self, fold: int, fraction: float = 1.0) -> FoldCases:
        """Return the cases of a fold, with a fraction of its training patients: a tenth is part of every fifth.

        Every fifth training patient steers the learning rate and the choice of the best checkpoint. With fewer than
        three none can be spared; ``validation`` is empty then.

        Raises
        ------
        SettingsError
            If there is no such fold.
        """
        if not 0 <= fold < len(self.folds):
            raise SettingsError(f"--fold {fold}: the folds of {self.task} are 0 to {len(self.folds) - 1}")
        patients = self.folds[fold].training
        chosen = patients[: max(1, math.ceil(fraction * len(patients) - 1e-9))]
        # Every fifth, not the last fifth, so that also the parts stay nested when the fraction grows.
        steers = [position % _STEERING == 2 for position in range(len(chosen))]

        def cases(of: Sequence[Patient]) -> list[str]:
            return [case for patient in of for case in patient.cases]

        training = cases([p for p, s in zip(chosen, steers, strict=True) if not s])
        validation = cases([p for p, s in zip(chosen, steers, strict=True) if s])
        return FoldCases(training, validation, cases(self.folds[fold].test))


def draw_folds(name: str, task: Task, cases: Sequence[str], seed: int = 0, without_tumour: Sequence[str] = ()) -> Folds:
    """Part the patients of a task into folds, a pure function of the cases' names and `seed`.

    Parameters
    ----------
    name : str
        Of the task.
    task : Task
    cases : sequence of str
        In any order.
    seed : int
    without_tumour : sequence of str
        Cases that were left out, for the record.

    Raises
    ------
    SettingsError
        If a name does not fit the task's rule for patients, there are fewer patients than folds, or a patient of a
        fixed test set is not there.
    """
    by_patient: dict[str, list[str]] = {}
    for case in sorted(cases):
        patient = task.patient_of(case)
        if patient is None:
            raise SettingsError(f"task {name}: case {case} does not fit patient: {task.patient!r}; correct the catalog")
        by_patient.setdefault(patient, []).append(case)
    names = sorted(by_patient)
    shuffled = [names[i] for i in order(len(names), seed, _FOLDS)]

    def of(patients: Sequence[str]) -> tuple[Patient, ...]:
        return tuple(Patient(name=patient, cases=tuple(by_patient[patient])) for patient in patients)

    folds = []
    for test in _tests(name, task.folds, shuffled):
        kept = set(test)
        folds.append(Fold(training=of([p for p in shuffled if p not in kept]), test=of(test)))
    return Folds(
        task=name, dataset=task.dataset, seed=seed, without_tumour=tuple(sorted(without_tumour)), folds=tuple(folds)
    )


def _tests(name: str, rule: FoldRule, shuffled: list[str]) -> list[list[str]]:
    """Return the test patients of each fold."""
    least = rule.parts or 2
    if len(shuffled) < least:
        raise SettingsError(f"{name}: {len(shuffled)} annotated patients are too few for {least} parts; add more")
    if rule.parts is not None:
        return [shuffled[part :: rule.parts] for part in range(rule.parts)]
    if rule.share is not None:
        count = min(len(shuffled) - 1, max(1, round(rule.share * len(shuffled))))
        return [shuffled[:count]]
    assert rule.test is not None
    missing = sorted(set(rule.test) - set(shuffled))
    if missing:
        raise SettingsError(f"{name}: patient {missing[0]} of its test set has no annotated case here")
    if set(rule.test) >= set(shuffled):
        raise SettingsError(f"{name}: its test set takes every patient; nobody is left to train on")
    return [sorted(set(rule.test))]


def write_folds(folds: Folds, path: Path) -> None:
    """Write folds to a file; a file with other folds is not replaced, as results may rest on it.

    Raises
    ------
    SettingsError
        If other folds are there, or it cannot be written.
    """
    if path.exists() and read_folds(path) != folds:
        raise SettingsError(f"{path}: holds other folds, on which results may rest; choose another --out or remove it")
    with writing(path, SettingsError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(folds.model_dump(mode="json"), indent=1) + "\n")


def read_folds(path: Path) -> Folds:
    """Read a fold file.

    Raises
    ------
    SettingsError
        If it is missing, damaged, or has a patient on both sides of a fold.
    """
    try:
        return Folds.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path}: no fold file can be read there; make one with train folds") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: is not a fold file as it must be ({one_line(error)})") from error
    except ValueError as error:
        raise SettingsError(f"{path}: is not a fold file ({error}); make one with train folds") from error
