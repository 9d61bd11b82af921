"""The report: one self-contained ``report.html`` that a person looks at."""

import math
from pathlib import Path
from typing import Any

from torch import nn

from train.checkpoint import write_atomically
from train.evaluate import Evaluation
from train.failure_page import COLOURS, failure_section
from train.failures import Outcome
from train.metrics import METRICS, summarise
from train.pages import NORMS, write_page
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
    outcomes = [Outcome(c.name, c.model, c.threshold, c.picture) for c in evaluation.scored if c.model]
    (path.parent / "pictures").mkdir(exist_ok=True)
    for outcome in outcomes:
        write_atomically(path.parent / "pictures" / f"{outcome.case.replace('/', '_')}.png", outcome.picture)
    write_page("report.html", path, _content(evaluation, outcomes))


def _content(evaluation: Evaluation, outcomes: list[Outcome]) -> dict[str, Any]:
    record, modalities = evaluation.model.record, evaluation.model.modalities
    return {
        "dataset_name": evaluation.dataset_name,
        "dataset": evaluation.dataset,
        "selection": evaluation.selection,
        "verdict": evaluation.verdict(),
        "headings": [HEADINGS[metric] for metric in METRICS],
        "means": {
            row: [_mean(summary) for summary in summarise(scores).values()] for row, scores in evaluation.rows().items()
        },
        "empties": {row: sum(case.one_empty for case in scores) for row, scores in evaluation.rows().items()},
        "scored": len(evaluation.scored),
        "sections": [failure_section(outcomes)] if outcomes else [],
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
    if not isinstance(network, UNet):
        return "an auto-decoder of healthy scans; what it cannot restore counts as tumour"
    return f"3D UNet, width {network.settings.width}; {NORMS[network.settings.norm]}"


def _mean(summary: Any) -> str:
    if math.isnan(summary.mean):
        return "undefined"
    spread = "" if math.isnan(summary.deviation) else f" ± {summary.deviation:.3f}"
    return f"{summary.mean:.3f}{spread} ({summary.count})"
