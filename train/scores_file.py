"""What an evaluation leaves for programs: ``cases.csv``, a line a case and row, and ``scores.json``, with the means.

A network with one mask has the rows ``network`` and ``threshold``; one of several classes ``network: CLASS`` for each,
and ``threshold: CLASS`` for the one that is the whole of a tumour, if there is such.
"""

import csv
import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.checkpoint import plain, write_atomically
from train.classes import whole
from train.metrics import AMOUNTS, METRICS, Scores, Summary, TumourFree, nothing_found

if TYPE_CHECKING:
    from train.evaluate import CaseResult, Evaluation


def write_scores(evaluation: "Evaluation", out: Path, **more: Any) -> None:
    """Write ``cases.csv`` and ``scores.json``, into which `more` goes as well."""
    scores = scores_json(evaluation) | more
    write_atomically(out / "cases.csv", cases_csv(evaluation).encode())
    write_atomically(out / "scores.json", (json.dumps(scores, indent=2) + "\n").encode())


def cases_csv(evaluation: "Evaluation") -> str:
    """One line a case and row; an undefined score is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "row", *METRICS, *AMOUNTS, "tumour_free", "nothing_found", "problem"])
    for case in evaluation.cases:
        for row, scores in evaluation.rows_of(case).items():
            numbers = [_cell(getattr(scores, name)) for name in (*METRICS, *AMOUNTS)]
            writer.writerow([case.name, row, *numbers, int(scores.tumour_free), int(scores.nothing_found), ""])
        if case.problem:
            writer.writerow([case.name, "", *[""] * (len(METRICS) + len(AMOUNTS) + 2), case.problem])
    return text.getvalue()


def _cell(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.6g}"


def _mean(summary: Summary) -> dict[str, Any]:
    return {
        **{"mean": plain(summary.mean), "std": plain(summary.deviation)},
        **{"low": plain(summary.low), "high": plain(summary.high), "cases": summary.count},
    }


def _tumour_free(found: TumourFree) -> dict[str, Any]:
    return asdict(found) | {"false_ml": plain(found.false_ml)}


def scores_json(evaluation: "Evaluation") -> dict[str, Any]:
    """Return every score with its conventions' counts; undefined ones are null.

    Of each row, beside its means, ``nothing_found`` counts the cases with a tumour that is missed altogether, and
    ``tumour_free`` has what is found in cases without one; see `train.metrics`.

    Of several classes ``classes`` has their labels, ``threshold_of`` the one that the threshold row is scored on, and
    a case's ``network`` scores by class.
    """
    record = evaluation.model.record

    def numbers(scores: Scores | None) -> dict[str, Any] | None:
        return None if scores is None else {name: plain(value) for name, value in asdict(scores).items()}

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
            "sha256": evaluation.model.sha256(),
            "stage": record.stage,
            "step": record.step,
            "network": record.network,
            "modalities": [region.modality for region in evaluation.model.regions],
            "corpus": record.data.get("corpus"),
        },
        "threshold_rule": record.threshold,
        **(classes if evaluation.several else {}),
        "mean": {
            row: {
                "nothing_found": nothing_found(scores),
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
