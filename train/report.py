"""The report: one self-contained ``report.html`` that a person looks at."""

import base64
import math
from pathlib import Path
from typing import Any

from torch import nn

from train.class_scores import main_class
from train.classes import whole
from train.evaluate import Evaluation
from train.metrics import METRICS, Scores, Summary
from train.pages import NORMS, write_page
from train.pictures import PREDICTION, THRESHOLD, TRUTH
from train.proxies.residual import Residual
from train.unet import UNet

HEADINGS = {
    "dice": "Dice",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "hd95_mm": "HD95 (mm)",
}


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write the report. Every value is escaped: file and case names are not to be trusted."""
    write_page("report.html", path, _content(evaluation))


def _content(evaluation: Evaluation) -> dict[str, Any]:
    record = evaluation.model.record
    return {
        "dataset_name": evaluation.dataset_name,
        "dataset": evaluation.dataset,
        "selection": evaluation.selection,
        "verdict": evaluation.verdict(),
        "headings": [HEADINGS[metric] for metric in METRICS],
        "means": {row: [_mean(each) for each in means.values()] for row, means in evaluation.means.items()},
        "classes": _classes(evaluation),
        "main": main_class(evaluation.classes) if evaluation.several else "",
        "thresholded": whole(evaluation.classes),
        "empties": {row: sum(case.one_empty for case in scores) for row, scores in evaluation.rows().items()},
        "cases": [
            {
                "name": case.name,
                "network": _numbers(case.model),
                "threshold": _numbers(case.threshold),
                "volumes": f"{case.model.volume_ml:.1f} / {case.model.truth_ml:.1f}" if case.model else "",
                "picture": base64.b64encode(case.picture).decode(),
            }
            for case in evaluation.scored
        ],
        "failed": evaluation.failed,
        "record": record,
        "modalities": [region.modality for region in evaluation.model.regions],
        "rule": record.threshold,
        "network_is": _described(evaluation.model.network),
        "sources": record.data.get("sources", []),
        "path": evaluation.model.path,
        "colours": {"truth": TRUTH, "prediction": PREDICTION, "threshold": THRESHOLD},
    }


def _classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the scores of each of several classes on each case."""
    if not evaluation.several:
        return []
    return [
        {
            "case": case.name,
            "name": name,
            "numbers": _numbers(scores),
            "volumes": f"{scores.volume_ml:.1f} / {scores.truth_ml:.1f}",
        }
        for case in evaluation.scored
        for name, scores in case.classes.items()
    ]


def _described(network: nn.Module) -> str:
    if isinstance(network, Residual):
        return network.restorer.said
    assert isinstance(network, UNet)
    return f"3D UNet, width {network.settings.width}; {NORMS[network.settings.norm]}"


def _numbers(scores: Scores | None) -> list[str]:
    if scores is None:
        return []
    return [_number(getattr(scores, metric), metric) for metric in METRICS]


def _number(value: float, metric: str) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:.1f}" if metric == "hd95_mm" else f"{value:.4f}" if metric == "specificity" else f"{value:.3f}"


def _mean(summary: Summary) -> str:
    if math.isnan(summary.mean):
        return "undefined"
    spread = "" if math.isnan(summary.deviation) else f" ± {summary.deviation:.3f}"
    interval = "" if math.isnan(summary.low) else f" [{summary.low:.3f}, {summary.high:.3f}]"
    return f"{summary.mean:.3f}{spread}{interval} ({summary.count})"
