"""Where a network fails, in numbers: cases worst first, Dice by size of the tumour, what the worst have in common."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from train.evaluation.metrics import Scores, TumourFree, ml, nothing_found

# Fixed, so that two evaluations can be laid side by side, and about a factor of three apart: twice the volume changes
# a Dice little, ten times the volume much.
SIZES_ML = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, math.inf)
_LEAST_TO_COMPARE = 9  # cases; a third of fewer is a case or two, which have everything in common


@dataclass(frozen=True)
class CaseOutcome:
    """One class of tumour in one case: its scores, those of the threshold row, and its picture as PNG."""

    case: str
    scores: Scores
    threshold: Scores | None = None
    picture: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class SizeClass:
    """Cases whose tumours have about one size.

    Attributes
    ----------
    low_ml, high_ml : float
        Volume of the reference, the upper end not included; both 0 where there is no tumour.
    outcomes : list of CaseOutcome
    """

    low_ml: float
    high_ml: float
    outcomes: list[CaseOutcome]


def worst_first(outcomes: Sequence[CaseOutcome]) -> list[CaseOutcome]:
    """Sort by Dice, the lowest first; of equal ones that with more wrong volume first.

    Without a tumour there is no Dice: a case where something is found stands with those of Dice 0, else with Dice 1.
    """

    def order(outcome: CaseOutcome) -> tuple[float, float, str]:
        scores = outcome.scores
        overlap = float(scores.nothing_found) if scores.tumour_free else scores.dice
        return overlap, -scores.missed_ml - scores.false_ml, outcome.case

    return sorted(outcomes, key=order)


def by_size(outcomes: Sequence[CaseOutcome]) -> list[SizeClass]:
    """Group by volume of the reference; classes without a case are left out."""
    classes = [SizeClass(0.0, 0.0, [o for o in outcomes if o.scores.tumour_free])]
    for low, high in pairwise(SIZES_ML):
        within = [o for o in outcomes if not o.scores.tumour_free and low <= o.scores.truth_ml < high]
        classes.append(SizeClass(low, high, within))
    return [each for each in classes if each.outcomes]


def in_sum(outcomes: Sequence[CaseOutcome]) -> list[str]:
    """Say in sentences what all cases together show; none without cases."""
    scores = [outcome.scores for outcome in outcomes]
    if not scores:
        return []
    truth, missed, false = (
        math.fsum(getattr(s, name) for s in scores) for name in ("truth_ml", "missed_ml", "false_ml")
    )
    lesions, lost = sum(s.lesions for s in scores), sum(s.missed_lesions for s in scores)
    said = []
    if truth:
        said.append(f"Of {ml(truth)} ml of tumour {ml(missed)} ml are missed ({missed / truth:.0%}).")
        alone = math.fsum(s.missed_lesions_ml for s in scores)
        said.append(f"{lost} of {lesions} separate lesions, {ml(alone)} ml, are missed altogether.")
    stray, stray_ml = sum(s.false_parts for s in scores), math.fsum(s.false_parts_ml for s in scores)
    said.append(
        f"{ml(false)} ml are found where there is no tumour, {ml(stray_ml)} of them in {stray} parts off any lesion."
    )
    wrong = [s for s in scores if s.missed_ml or s.false_ml]
    more_missed = sum(s.missed_ml > s.false_ml for s in wrong)
    said.append(f"More is missed than falsely found in {more_missed} of {len(scores)} cases.")
    overlooked = nothing_found(scores)
    if overlooked:
        said.append(f"Nothing at all is found in {overlooked}.")
    free = TumourFree.of(scores)
    if free.cases:
        said.append(f"{free.said(len(scores))}, {free.found()}.")
    return said


@dataclass(frozen=True)
class WorstAndOthers:
    """Medians of a quantity over the worst third and over the other cases; NaN where no case defines it."""

    name: str
    worst: float
    others: float
    digits: int


def in_common(outcomes: Sequence[CaseOutcome]) -> list[WorstAndOthers]:
    """Compare the worst third with the rest, empty for fewer than nine cases; medians, nothing is tested."""
    if len(outcomes) < _LEAST_TO_COMPARE:
        return []
    ordered = worst_first(outcomes)
    worst, others = ordered[: len(ordered) // 3], ordered[len(ordered) // 3 :]
    return [
        WorstAndOthers(name, _median(worst, value), _median(others, value), digits)
        for name, digits, value in _QUANTITIES
        if not all(math.isnan(value(outcome)) for outcome in outcomes)
    ]


def _of_truth(name: str) -> Callable[[CaseOutcome], float]:
    def share(outcome: CaseOutcome) -> float:
        truth = outcome.scores.truth_ml
        return 100 * float(getattr(outcome.scores, name)) / truth if truth else math.nan

    return share


_QUANTITIES: tuple[tuple[str, int, Callable[[CaseOutcome], float]], ...] = (
    ("Dice", 3, lambda o: o.scores.dice),
    ("Dice of the threshold row", 3, lambda o: o.threshold.dice if o.threshold else math.nan),
    ("tumour (ml)", 1, lambda o: o.scores.truth_ml),
    ("lesions", 0, lambda o: o.scores.lesions),
    ("missed (% of the tumour)", 0, _of_truth("missed_ml")),
    ("false (% of the tumour)", 0, _of_truth("false_ml")),
    ("false parts", 0, lambda o: o.scores.false_parts),
)


def _median(outcomes: Sequence[CaseOutcome], value: Callable[[CaseOutcome], float]) -> float:
    values = [each for outcome in outcomes if not math.isnan(each := value(outcome))]
    return float(np.median(values)) if values else math.nan
