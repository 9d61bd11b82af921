"""The report: one self-contained ``report.html`` that a person looks at."""

import math
from pathlib import Path
from typing import Any

from torch import nn

from scans.durable import write_atomically
from scans.file_names import safe_names
from scans.page.render import write_page
from scans.page.viewer import viewer
from scans.writing import make_folder
from train.architectures.choice import described
from train.cases.classes import whole
from train.evaluation.class_scores import main_class
from train.evaluation.failure_page import COLOURS, MOST_PICTURES, failure_section
from train.evaluation.failures import CaseOutcome, worst_first
from train.evaluation.lesions import DETECTED, LEAST_ML, LesionSummary
from train.evaluation.metrics import METRICS, Summary, nothing_found
from train.evaluation.result import Evaluation
from train.evaluation.statistics import Interval
from train.network.batch_norm import NORMS
from train.network.data_terms import lenders_in_words
from train.network.unet import UNet
from train.proxies.residual import Residual


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write the report, and all pictures into the folder ``pictures`` beside it, of several classes a folder for each.

    Every value is escaped: file and case names are not to be trusted.
    """
    outcomes = {name: _outcomes(evaluation, name) for name in evaluation.classes}
    pictures = path.parent / "pictures"
    for folder, each in zip(safe_names(list(outcomes)), outcomes.values(), strict=True):
        of_class = pictures / folder if evaluation.several else pictures
        make_folder(of_class)
        for outcome in each:
            write_atomically(of_class / f"{outcome.case}.png", outcome.picture)
    by_name = {case.name: case.scene for case in evaluation.scored if case.scene}
    ordered = worst_first([CaseOutcome(each.name, each.model) for each in evaluation.scored if each.model])
    scenes = [by_name[outcome.case] for outcome in ordered if outcome.case in by_name]
    write_page("report.html", path, _content(evaluation, outcomes), viewer(scenes))


def _outcomes(evaluation: Evaluation, name: str) -> list[CaseOutcome]:
    """Return what came of one class in every case that was scored."""
    compared = name == whole(evaluation.classes)
    return [
        CaseOutcome(case.name, scores, case.threshold if compared else None, case.pictures.get(name, b""))
        for case in evaluation.scored
        if (scores := case.classes.get(name, case.model))
    ]


def _content(evaluation: Evaluation, outcomes: dict[str, list[CaseOutcome]]) -> dict[str, Any]:
    record, modalities = evaluation.model.record, evaluation.model.modalities
    return {
        "dataset_name": evaluation.dataset_name,
        "dataset": evaluation.dataset,
        "selection": evaluation.selection,
        "verdict": evaluation.verdict(),
        "headings": list(METRICS.values()),
        "means": {row: [_mean(each) for each in means.values()] for row, means in evaluation.means.items()},
        "main": main_class(evaluation.classes) if evaluation.several else "",
        "thresholded": whole(evaluation.classes),
        "nothing_found": {row: nothing_found(scores) for row, scores in evaluation.rows().items()},
        "tumour_free": evaluation.tumour_free(),
        "lesions": [{"row": row, **_lesions(summary)} for row, each in evaluation.lesions.items() for summary in each],
        "least_ml": f"{LEAST_ML:g}",
        "detected_at": f"{DETECTED:g}",
        "specks": 0 if evaluation.several else sum(case.model.specks for case in evaluation.scored if case.model),
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
        "rule": record.rule,
        "reading": evaluation.model.reading.words(),
        "network_is": _described(evaluation.model.network),
        "sources": record.data.get("sources", []),
        "lent": lenders_in_words(record.data),
        "path": evaluation.model.path,
    }


def _described(network: nn.Module) -> str:
    if isinstance(network, Residual):
        return network.restorer.said
    assert isinstance(network, UNet)
    mirror = "" if network.settings.mirror is None else "; sees each scan's mirror image too"
    return f"{described(network.settings)}; {NORMS[network.settings.norm]}{mirror}"


def _lesions(summary: LesionSummary) -> dict[str, Any]:
    shares = {name: _interval(value) for name, value in vars(summary).items() if isinstance(value, Interval)}
    return {"size": summary.name, "lesions": summary.lesions, **shares}


def _interval(number: Interval) -> str:
    if math.isnan(number.mean):
        return ""
    return f"{number.mean:.2f}" + ("" if math.isnan(number.low) else f" [{number.low:.2f}, {number.high:.2f}]")


def _mean(summary: Summary) -> str:
    if math.isnan(summary.mean):
        return "undefined"
    spread = "" if math.isnan(summary.deviation) else f" ± {summary.deviation:.3f}"
    interval = "" if math.isnan(summary.low) else f" [{summary.low:.3f}, {summary.high:.3f}]"
    return f"{summary.mean:.3f}{spread}{interval} ({summary.count})"
