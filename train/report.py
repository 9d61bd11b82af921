"""The report: one self-contained ``report.html`` that a person looks at."""

import math
from pathlib import Path
from typing import Any

from torch import nn

from train.checkpoint import write_atomically
from train.class_scores import main_class
from train.classes import whole
from train.evaluate import Evaluation
from train.failure_page import COLOURS, MOST_PICTURES, failure_section
from train.failures import Outcome
from train.metrics import METRICS, Summary
from train.pages import NORMS, write_page
from train.proxies.residual import Residual
from train.terms import lent_tumours
from train.unet import UNet

HEADINGS = {
    "dice": "Dice",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "hd95_mm": "HD95 (mm)",
}


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write the report, and all pictures into the folder ``pictures`` beside it.

    Every value is escaped: file and case names are not to be trusted.
    """
    outcomes = {name: _outcomes(evaluation, name) for name in evaluation.classes}
    (path.parent / "pictures").mkdir(exist_ok=True)
    for name, each in outcomes.items():
        for outcome in each:
            stem = f"{outcome.case}_{name}" if evaluation.several else outcome.case
            write_atomically(path.parent / "pictures" / f"{stem.replace('/', '_')}.png", outcome.picture)
    write_page("report.html", path, _content(evaluation, outcomes))


def _outcomes(evaluation: Evaluation, name: str) -> list[Outcome]:
    """Return what came of one class in every case that was scored."""
    compared = name == whole(evaluation.classes)
    return [
        Outcome(case.name, scores, case.threshold if compared else None, case.pictures.get(name, b""))
        for case in evaluation.scored
        if (scores := case.classes.get(name, case.model))
    ]


def _content(evaluation: Evaluation, outcomes: dict[str, list[Outcome]]) -> dict[str, Any]:
    record, modalities = evaluation.model.record, evaluation.model.modalities
    return {
        "dataset_name": evaluation.dataset_name,
        "dataset": evaluation.dataset,
        "selection": evaluation.selection,
        "verdict": evaluation.verdict(),
        "headings": [HEADINGS[metric] for metric in METRICS],
        "means": {row: [_mean(each) for each in means.values()] for row, means in evaluation.means.items()},
        "main": main_class(evaluation.classes) if evaluation.several else "",
        "thresholded": whole(evaluation.classes),
        "empties": {row: sum(case.one_empty for case in scores) for row, scores in evaluation.rows().items()},
        "scored": len(evaluation.scored),
        "sections": [
            failure_section(each, name if evaluation.several else "", max(1, MOST_PICTURES // len(outcomes)))
            for name, each in outcomes.items()
            if each
        ],
        "colours": COLOURS,
        "layered": record.stage != "finetune",
        "failed": evaluation.failed,
        "record": record,
        "modalities": modalities,
        "of_modality": f" of the first modality, {modalities[0]}" if len(modalities) > 1 else "",
        "rule": record.threshold,
        "network_is": _described(evaluation.model.network),
        "sources": record.data.get("sources", []),
        "lent": len(lent_tumours(record.data)),
        "path": evaluation.model.path,
    }


def _described(network: nn.Module) -> str:
    if isinstance(network, Residual):
        return network.restorer.said
    assert isinstance(network, UNet)
    return f"3D UNet, width {network.settings.width}; {NORMS[network.settings.norm]}"


def _mean(summary: Summary) -> str:
    if math.isnan(summary.mean):
        return "undefined"
    spread = "" if math.isnan(summary.deviation) else f" ± {summary.deviation:.3f}"
    interval = "" if math.isnan(summary.low) else f" [{summary.low:.3f}, {summary.high:.3f}]"
    return f"{summary.mean:.3f}{spread}{interval} ({summary.count})"
