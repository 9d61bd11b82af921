"""A task: what is segmented in which scans, and how its patients are parted into folds (Zhang et al., Sec. IV-B)."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from scans.catalog.settings import Strict


def _marks(label: int) -> int:
    if label == 0:
        raise ValueError("0 marks nothing in a label file; a class has other values")
    return label


Label = Annotated[int, Field(ge=-(2**31), lt=2**31), AfterValidator(_marks)]  # what label files of any format can hold


def _checked_rule(rule: str) -> str:
    if rule.count("{patient}") != 1 or set(rule) & set("[]?/"):
        raise ValueError(f"{rule!r} must hold {{patient}} once; '*' is the only wildcard")
    return rule


class FoldRule(Strict):
    """How patients are parted, by one of three rules.

    ``parts``: cross-validation; each part is the test set of one fold. ``share``: one fold; that share of the
    patients, drawn once, is its test set. ``test``: one fold; these patients are its test set.
    """

    parts: int | None = Field(None, ge=2)
    share: float | None = Field(None, gt=0, lt=1)
    test: tuple[str, ...] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _exactly_one(self) -> "FoldRule":
        if sum(rule is not None for rule in (self.parts, self.share, self.test)) != 1:
            raise ValueError("folds gives exactly one of parts, share and test")
        return self


class Task(Strict):
    """A task of the catalog.

    ``classes`` maps a name to the values of the label file that belong to it, null for any but 0; classes may
    overlap, as a tumour's core lies in the whole tumour. ``patient`` says which part of a case's name names the
    patient: ``{patient}_*`` takes all up to the last underscore.
    """

    dataset: str
    modalities: tuple[str, ...] = Field(min_length=1)
    classes: dict[str, tuple[Label, ...] | None] = Field(min_length=1)
    folds: FoldRule
    patient: Annotated[str, AfterValidator(_checked_rule)] = "{patient}"
    tumour_only: bool = False  # leave out cases whose label file holds none of the classes

    @model_validator(mode="after")
    def _classes_have_values(self) -> "Task":
        empty = [name for name, values in self.classes.items() if values is not None and not values]
        if empty:
            raise ValueError(f"class {empty[0]} has no label values; give some, or null for any but 0")
        return self

    def patient_of(self, case: str) -> str | None:
        """Return the patient that a case is of, None where its name does not fit the rule."""
        before, after = (re.escape(part).replace(r"\*", ".*") for part in self.patient.split("{patient}"))
        match = re.fullmatch(f"{before}(?P<patient>.+){after}", case)
        return match["patient"] if match else None
