"""Read scores back and make a table's numbers of them: mean ± std over folds or seeds, and over cases."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from scans.errors import StoreError
from train.evaluation.statistics import Comparison, bootstrap_mean, compare, spread
from train.tables.plan import PARTS, Column, Row, Table, TableTask, printed

NETWORK, THRESHOLD = "network", "threshold"
THRESHOLD_ROW = "threshold row"


@dataclass(frozen=True)
class CaseScore:
    """One case scored by one network; ``None`` where undefined or, of the threshold row, where there is none."""

    run: str
    case: str
    network: float | None
    threshold: float | None


@dataclass(frozen=True)
class MeanOverRuns:
    """A mean; NaN where there is nothing to take it of.

    Attributes
    ----------
    mean : float
        Over runs (folds or seeds) of the mean over each one's cases.
    over_runs : float
        Sample standard deviation over runs; NaN with fewer than two.
    over_cases : float
        The same over cases, of each case's mean over runs.
    low, high : float
        95 % bootstrap interval of the mean over cases.
    runs, cases : int
        How many there are.
    """

    mean: float = math.nan
    over_runs: float = math.nan
    over_cases: float = math.nan
    low: float = math.nan
    high: float = math.nan
    runs: int = 0
    cases: int = 0


@dataclass(frozen=True)
class Cell:
    """A number of a table, beside the paper's.

    Attributes
    ----------
    ours : MeanOverRuns
        In [0, 1], or mm.
    threshold : MeanOverRuns
        Of the threshold row on the same cases, chosen on the corpus of this row.
    paper, paper_over_runs : float or None
        In percent, or mm.
    reason : str
        Why there is no number of ours, or what it lacks; else empty.
    scores : list of CaseScore
    """

    ours: MeanOverRuns = MeanOverRuns()
    threshold: MeanOverRuns = MeanOverRuns()
    paper: float | None = None
    paper_over_runs: float | None = None
    reason: str = ""
    scores: list[CaseScore] = field(default_factory=list)


@dataclass(frozen=True)
class Gathered:
    """A table with all its numbers.

    Attributes
    ----------
    table : Table
    cells : dict of (row, column) to Cell
    notes : list of str
        Sentences that belong under it.
    """

    table: Table
    cells: dict[tuple[str, Column], Cell]
    notes: list[str]

    def row_names(self) -> list[str]:
        """Names of the rows as they are shown, the threshold row last."""
        return [*(row.name for row in self.table.rows), THRESHOLD_ROW]

    def shown(self, name: str, column: Column) -> Cell:
        """Return the cell that is shown; of the threshold row that of the corpus which the table names."""
        if name != THRESHOLD_ROW:
            return self.cells[name, column]
        cell = self.cells[self.table.reference, column]
        lacking = "the networks of this row were trained on no corpus"
        if column.part and self.cells[self.table.reference, replace(column, part=next(iter(PARTS)))].threshold.runs:
            lacking = "a threshold finds a tumour as a whole"
        reason = "" if cell.threshold.runs else cell.reason or lacking
        scores = [CaseScore(s.run, s.case, s.threshold, None) for s in cell.scores]
        return Cell(ours=cell.threshold, reason=reason, scores=scores)

    def compared(self, name: str, column: Column) -> Comparison:
        """Compare a row with the table's reference, cases paired."""
        first, second = self.shown(name, column), self.cells[self.table.reference, column]
        return compare(by_case(first.scores, lambda s: s.network), by_case(second.scores, lambda s: s.network))


def gather_cell(
    row: Row, column: Column, position: int, task: TableTask, folders: Mapping[str, Path], reason: str
) -> Cell:
    """Make a cell of the scores there are.

    Parameters
    ----------
    row : Row
    column : Column
    position : int
        Of the column in its table.
    task : TableTask
    folders : mapping of str to Path
        Where the scores of each fold or seed lie, by a name for it; those that could not be made are left out.
    reason : str
        Why some or all could not be made.
    """
    mean, deviation = printed(row, position)
    scores = [score for run, folder in folders.items() for score in read_scores(folder, run, column, task)]
    if not scores and not reason:
        reason = "no case could be scored; the report of the run says why"
    return Cell(
        ours=_number(scores, lambda score: score.network),
        threshold=_number(scores, lambda score: score.threshold),
        paper=mean,
        paper_over_runs=deviation,
        reason=reason,
        scores=scores,
    )


def read_scores(folder: Path, run: str, column: Column, task: TableTask) -> list[CaseScore]:
    """Read one metric of each case that a run scored, of the class that a column is of.

    Raises
    ------
    StoreError
        If the scores are missing or damaged.
    """
    path = folder / "scores.json"
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        part = PARTS[column.part] if column.part else None
        found = []
        for case in scores["cases"]:
            network, threshold = case[NETWORK], case[THRESHOLD]
            if network is None:
                continue
            if part is not None:
                network, threshold = network[part], threshold if scores["threshold_of"] == part else None
            if task.tumour_only and not network["truth_ml"]:
                continue
            rule = None if threshold is None else threshold[column.metric]
            found.append(CaseScore(run, case["case"], network[column.metric], rule))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: no scores can be read there; remove its folder and run the table again") from error
    return found


def by_case(scores: list[CaseScore], value: Callable[[CaseScore], float | None]) -> dict[str, float]:
    """Return each case's mean over runs, where it is defined."""
    found: dict[str, list[float]] = {}
    for score in scores:
        one = value(score)
        if one is not None:
            found.setdefault(score.case, []).append(one)
    return {case: float(np.mean(values)) for case, values in found.items()}


def _number(scores: list[CaseScore], value: Callable[[CaseScore], float | None]) -> MeanOverRuns:
    of_runs = {run: by_case([s for s in scores if s.run == run], value) for run in dict.fromkeys(s.run for s in scores)}
    runs = spread([float(np.mean(list(cases.values()))) for cases in of_runs.values() if cases])
    if not runs.count:
        return MeanOverRuns()
    cases = list(by_case(scores, value).values())
    interval = bootstrap_mean(cases)
    over_cases = spread(cases).deviation
    return MeanOverRuns(runs.mean, runs.deviation, over_cases, interval.low, interval.high, runs.count, len(cases))
