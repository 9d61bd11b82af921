"""What an evaluation found: scores of each case, and what a report says of all."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from scans.catalog.dataset import Dataset
from train.cases.classes import TUMOUR, Classes, whole
from train.evaluation.lesions import LesionSummary, summarise_lesions
from train.evaluation.metrics import Scores, Summary, TumourFree, summarise
from train.inference.model import Model


@dataclass(frozen=True)
class CaseResult:
    """Scores of network and threshold row on one case, or the sentence that says why there are none.

    Of several classes ``classes`` has each, as ``pictures`` has; ``model`` is then of `main_class`. The threshold row
    finds a tumour as a whole: it is there where that is a class. ``scene`` is what a page shows of ``model``'s mask,
    packed, and kept of the worst cases only.
    """

    name: str
    model: Scores | None = None
    threshold: Scores | None = None
    problem: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict, repr=False)
    classes: dict[str, Scores] = field(default_factory=dict)
    scene: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Evaluation:
    """Everything a report says."""

    model: Model
    dataset_name: str
    dataset: Dataset
    cases: list[CaseResult]
    selection: str
    classes: Classes = field(default_factory=lambda: TUMOUR)

    @property
    def scored(self) -> list[CaseResult]:
        """Cases with scores."""
        return [case for case in self.cases if not case.problem]

    @property
    def failed(self) -> list[CaseResult]:
        """Cases without."""
        return [case for case in self.cases if case.problem]

    @property
    def several(self) -> bool:
        """Whether there are several classes."""
        return len(self.classes) > 1

    def rows_of(self, case: CaseResult) -> dict[str, Scores]:
        """Scores of a case by row of the table: ``network`` and ``threshold``, of several classes with their names."""
        if self.several:
            rows = {f"network: {name}": scores for name, scores in case.classes.items()}
            return rows | ({f"threshold: {whole(self.classes)}": case.threshold} if case.threshold else {})
        both = {"network": case.model, "threshold": case.threshold}
        return {row: scores for row, scores in both.items() if scores}

    def rows(self) -> dict[str, list[Scores]]:
        """Scores over cases by row of the table."""
        names = [f"network: {name}" for name in self.classes] if self.several else ["network"]
        rows: dict[str, list[Scores]] = {name: [] for name in names}
        for case in self.scored:
            for row, scores in self.rows_of(case).items():
                rows.setdefault(row, []).append(scores)
        return rows

    @cached_property
    def means(self) -> dict[str, dict[str, Summary]]:
        """Means over cases, of each metric, by row of the table."""
        return {row: summarise(scores) for row, scores in self.rows().items()}

    @cached_property
    def lesions(self) -> dict[str, list[LesionSummary]]:
        """Lesions of all cases together, all and by size, by row of the table."""
        return {row: summarise_lesions([each.by_lesion for each in scores]) for row, scores in self.rows().items()}

    def tumour_free(self) -> list[str]:
        """Say of each row what is found in cases without a tumour, which are in no mean; nothing if there are none."""
        found = {row: (TumourFree.of(scores), len(scores)) for row, scores in self.rows().items()}
        return [
            f"{row}: {free.said(of)}, and {'is' if free.cases == 1 else 'are'} in no mean but specificity's: "
            f"{free.found()}."
            for row, (free, of) in found.items()
            if free.cases
        ]

    def verdict(self) -> str:
        """Say in one sentence whether the network beats what a user would try first."""
        if not self.scored:
            return "No case could be scored."
        both = [(case.model, case.threshold) for case in self.scored if case.model and case.threshold]
        pairs = [(network.dice, rule.dice) for network, rule in both if not network.tumour_free]
        if both and not pairs:
            return "No case has a tumour in the reference: there is no Dice, only what is falsely found."
        if not pairs:
            why = "no class is the whole of a tumour"
            if self.model.record.threshold is None:
                why = "the checkpoint was not trained on a corpus"
            return f"There is no threshold row to compare with: {why}."
        ours, theirs = (float(np.mean(dices)) for dices in zip(*pairs, strict=True))
        wins = sum(network > threshold for network, threshold in pairs)
        of = f" of {whole(self.classes)}" if self.several else ""
        numbers = f"mean Dice{of} {ours:.3f} against {theirs:.3f}, higher on {wins} of {len(pairs)} cases."
        if ours > theirs:
            return f"The network beats the threshold row: {numbers}"
        return f"The network does not beat the threshold row: {numbers} It has not earned its place on these scans."
