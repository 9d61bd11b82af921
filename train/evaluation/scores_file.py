"""What an evaluation leaves for programs: ``cases.csv``, a line a case and row, and ``scores.json``, with the means.

A network with one mask has the rows ``network`` and ``threshold``; one of several classes ``network: CLASS`` for each,
and ``threshold: CLASS`` for the one that is the whole of a tumour, if there is such.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import nn

from scans.catalog.settings import one_line
from scans.csv_text import csv_text
from scans.durable import write_atomically
from scans.errors import CheckpointError
from train.cases.classes import whole
from train.evaluation.lesions import DETECTED, LEAST_ML, LesionSummary
from train.evaluation.metrics import AMOUNTS, METRICS, Scores, Summary, TumourFree, nothing_found
from train.evaluation.statistics import Interval
from train.inference.named_network import origin_of
from train.network.checkpoint import network_sha256
from train.network.record import Record, plain

if TYPE_CHECKING:
    from train.evaluation.result import CaseResult, Evaluation


def write_scores(evaluation: "Evaluation", out: Path, **more: Any) -> None:
    """Write ``cases.csv`` and ``scores.json``, into which `more` goes as well."""
    scores = scores_json(evaluation) | more
    write_atomically(out / "cases.csv", cases_csv(evaluation).encode())
    write_atomically(out / "scores.json", (json.dumps(scores, indent=2) + "\n").encode())


def cases_csv(evaluation: "Evaluation") -> str:
    """One line a case and row; an undefined score is an empty cell."""
    table: list[list[Any]] = [["case", "row", *METRICS, *AMOUNTS, "tumour_free", "nothing_found", "problem"]]
    for case in evaluation.cases:
        for row, scores in evaluation.rows_of(case).items():
            numbers = [csv_number(getattr(scores, name)) for name in (*METRICS, *AMOUNTS)]
            table.append([case.name, row, *numbers, int(scores.tumour_free), int(scores.nothing_found), ""])
        if case.problem:
            table.append([case.name, "", *[""] * (len(METRICS) + len(AMOUNTS) + 2), case.problem])
    return csv_text(table)


def csv_number(number: float | None) -> str:
    """Return a number as a table for programs has it, nothing where it is undefined."""
    return "" if number is None or math.isnan(number) else f"{number:.6g}"


def _mean(summary: Summary) -> dict[str, Any]:
    return {
        **{"mean": plain(summary.mean), "std": plain(summary.deviation)},
        **{"low": plain(summary.low), "high": plain(summary.high), "cases": summary.count},
    }


def _tumour_free(found: TumourFree) -> dict[str, Any]:
    return asdict(found) | {"false_ml": plain(found.false_ml)}


def _lesions(summary: LesionSummary) -> dict[str, Any]:
    values = vars(summary).items()
    return {name: _interval(value) if isinstance(value, Interval) else value for name, value in values}


def _interval(number: Interval) -> dict[str, Any]:
    return {"value": plain(number.mean), "low": plain(number.low), "high": plain(number.high), "of": number.count}


def scores_json(evaluation: "Evaluation") -> dict[str, Any]:
    """Return every score with its conventions' counts; undefined ones are null.

    Of each row, beside its means, ``nothing_found`` counts the cases with a tumour that is missed altogether, and
    ``tumour_free`` has what is found in cases without one; see `train.evaluation.metrics`.

    Its ``lesions`` are those of all cases together, all and by size; those of a case are in ``each_lesion``. What
    counts as one, and as detected, stands beside the means; see `train.evaluation.lesions`.

    Of several classes ``classes`` has their labels, ``threshold_of`` the one that the threshold row is scored on, and
    a case's ``network`` scores by class.
    """
    record = evaluation.model.record

    def numbers(scores: Scores | None) -> dict[str, Any] | None:
        if scores is None:
            return None
        flat = {name: plain(getattr(scores, name)) for name in (*METRICS, *AMOUNTS)}
        return flat | {"each_lesion": [asdict(lesion) for lesion in scores.by_lesion.each]}

    def of_network(case: "CaseResult") -> dict[str, Any] | None:
        if not evaluation.several or case.problem:
            return numbers(case.model)
        return {name: numbers(scores) for name, scores in case.classes.items()}

    classes = {"classes": dict(evaluation.classes), "threshold_of": whole(evaluation.classes)}
    return {
        "dataset": evaluation.dataset_name,
        "cases_scored": evaluation.selection,
        "verdict": evaluation.verdict(),
        "checkpoint": {
            "path": str(evaluation.model.path),
            "origin": origin_of(evaluation.model.path),
            "sha256": evaluation.model.sha256(),
            "stage": record.stage,
            "step": record.step,
            "network": record.network,
            "modalities": [region.modality for region in evaluation.model.regions],
            "corpus": record.data.get("corpus"),
        },
        "reading": {**evaluation.model.reading.model_dump(), "words": evaluation.model.reading.words()},
        "threshold_rule": None if record.rule is None else {**record.rule.model_dump(), "words": record.rule.words()},
        **(classes if evaluation.several else {}),
        "lesion": {"least_ml": LEAST_ML, "detected_at_dice": DETECTED},
        "mean": {
            row: {
                "nothing_found": nothing_found(scores),
                "lesions": [_lesions(summary) for summary in evaluation.lesions[row]],
                "tumour_free": _tumour_free(TumourFree.of(scores)),
                **{metric: _mean(summary) for metric, summary in evaluation.means[row].items()},
            }
            for row, scores in evaluation.rows().items()
        },
        "cases": [
            {
                "case": case.name,
                "network": of_network(case),
                "threshold": numbers(case.threshold),
                "problem": case.problem,
            }
            for case in evaluation.cases
        ],
    }


_MOST_BYTES = 100_000_000


class Mean(BaseModel):
    """Mean and deviation of one score over the cases where it is defined."""

    mean: float | None
    std: float | None
    cases: int


class Free(BaseModel):
    """What was found in cases without a tumour; see `train.evaluation.metrics.TumourFree`."""

    cases: int
    nothing_found: int
    false_ml: float | None


class RowMeans(BaseModel):
    """Means of a row, and what they leave out."""

    dice: Mean
    sensitivity: Mean
    specificity: Mean
    hd95_mm: Mean
    nothing_found: int
    tumour_free: Free

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, content: Any) -> Any:
        if isinstance(content, dict) and "one_empty" in content:
            raise ValueError("these means count cases without a tumour, as they once did; run train evaluate again")
        return content

    def means(self) -> list[Mean]:
        """Return the means in the order of ``METRICS``."""
        return [getattr(self, metric) for metric in METRICS]


class Evaluated(BaseModel):
    """What was evaluated; scores from before hashes were kept have none."""

    sha256: str | None = None
    stage: str
    step: int
    network: dict[str, object]
    corpus: str | None = None


class Read(BaseModel):
    """How masks were made of what the network found."""

    words: str


class RecordedEvaluation(BaseModel):
    """The part of ``scores.json`` that a card shows."""

    model_config = ConfigDict(extra="ignore")

    dataset: str
    cases_scored: str
    verdict: str
    checkpoint: Evaluated
    reading: Read | None = None  # scores from before readings were recorded say nothing
    mean: dict[str, RowMeans]  # the network's first; of several classes it has one each


def read_evaluation(folder: Path, record: Record, network: nn.Module) -> RecordedEvaluation:
    """Read the scores in a folder that ``train evaluate`` wrote.

    Raises
    ------
    CheckpointError
        If there are none, they are damaged, or they are of another network than the one to be exported.
    """
    path = folder / "scores.json"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{path}: too large for scores; give a folder made by train evaluate")
        evaluation = RecordedEvaluation.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{path}: no scores of train evaluate ({one_line(error)})") from error
    except OSError as error:
        raise CheckpointError(f"{path}: no scores here; make them with train evaluate --out {folder}") from error
    scored = evaluation.checkpoint
    if scored.sha256 is not None:
        same = scored.sha256 == network_sha256(record, network)
    else:
        same = (scored.stage, scored.step, scored.corpus) == (record.stage, record.step, record.data.get("corpus"))
        same = same and scored.network == record.network
    if not same:
        raise CheckpointError(
            f"{path}: scores of another checkpoint ({scored.stage!a}, step {scored.step}); "
            f"evaluate the one that is exported ({record.stage!a}, step {record.step})"
        )
    return evaluation
