"""Evaluation on annotated scans: the network beside the threshold row, in each scan's own grid."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scans.cases import source_name
from scans.catalog import Case, Dataset, read_case
from scans.errors import CheckpointError, ScanError, UserError
from scans.volume import write_volume
from train.baseline import Threshold
from train.cases import dataset_cases
from train.checkpoint import plain, write_atomically
from train.failure_picture import failure_picture
from train.inference import Model, decompose, load_model, prepare_for, to_scan
from train.metrics import AMOUNTS, METRICS, Scores, score, summarise
from train.settings import SettingsError
from train.terms import lent_tumours
from train.upright import upright


@dataclass(frozen=True)
class CaseResult:
    """Scores of network and threshold row on one case, or the sentence that says why there are none."""

    name: str
    model: Scores | None = None
    threshold: Scores | None = None
    problem: str = ""
    picture: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Evaluation:
    """Everything a report says."""

    model: Model
    dataset_name: str
    dataset: Dataset
    cases: list[CaseResult]
    selection: str

    @property
    def scored(self) -> list[CaseResult]:
        """Cases with scores."""
        return [case for case in self.cases if not case.problem]

    @property
    def failed(self) -> list[CaseResult]:
        """Cases without."""
        return [case for case in self.cases if case.problem]

    def rows(self) -> dict[str, list[Scores]]:
        """Scores over cases by row of the table."""
        rows = {"network": [c.model for c in self.scored if c.model]}
        if any(case.threshold for case in self.scored):
            rows["threshold"] = [c.threshold for c in self.scored if c.threshold]
        return rows

    def verdict(self) -> str:
        """Say in one sentence whether the network beats what a user would try first."""
        rows = {name: summarise(scores) for name, scores in self.rows().items()}
        if not self.scored:
            return "No case could be scored."
        if "threshold" not in rows:
            return "There is no threshold row to compare with: the checkpoint was not trained on a corpus."
        ours, theirs = rows["network"]["dice"].mean, rows["threshold"]["dice"].mean
        wins = sum(c.model.dice > c.threshold.dice for c in self.scored if c.model and c.threshold)
        on = f"higher on {wins} of {len(self.scored)} cases"
        if ours > theirs:
            return f"The network beats the threshold row: mean Dice {ours:.3f} against {theirs:.3f}, {on}."
        return (
            f"The network does not beat the threshold row: mean Dice {ours:.3f} against {theirs:.3f}, {on}. "
            "It has not earned its place on these scans."
        )


def evaluate(
    checkpoint: Path,
    catalog: Path,
    dataset_name: str,
    out: Path,
    *,
    all_cases: bool = False,
    device: str = "auto",
    precision: str = "auto",
    told: Callable[[CaseResult], None] = lambda result: None,
) -> Evaluation:
    """Score a checkpoint on a dataset and write ``cases.csv``, ``scores.json``, ``report.html`` and masks to `out`.

    Parameters
    ----------
    checkpoint, catalog : Path
    dataset_name : str
        With label files.
    out : Path
    all_cases : bool
        Score also the annotated cases that the network was trained on.
    device, precision : str
    told : callable
        Told of each case.

    Returns
    -------
    Evaluation
    """
    from train.report import write_report

    model = load_model(checkpoint, device, precision)
    dataset, cases = dataset_cases(catalog, dataset_name, model.regions)
    dataset = _as_trained(dataset, model, dataset_name)
    cases, selection = _select(cases, model, dataset_name, all_cases)
    try:
        (out / "masks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be made ({error.strerror}); choose another folder") from error
    results = []
    for case in cases:
        try:
            result = evaluate_case(model, case, dataset, out / "masks")
        except UserError as error:
            result = CaseResult(case.name, problem=str(error))
        told(result)
        results.append(result)
    evaluation = Evaluation(model, dataset_name, dataset, results, selection)
    write_atomically(out / "cases.csv", cases_csv(evaluation).encode())
    write_atomically(out / "scores.json", (json.dumps(scores_json(evaluation), indent=2) + "\n").encode())
    write_report(evaluation, out / "report.html")
    return evaluation


def _as_trained(dataset: Dataset, model: Model, dataset_name: str) -> Dataset:
    """Return the dataset with the label values that a network was fine-tuned on as its tumour."""
    data = model.record.data
    classes = data.get("classes")
    if model.record.stage != "finetune" or data.get("dataset") != dataset_name or not classes:
        return dataset
    (values,) = classes.values()  # a model has one mask
    return dataset.model_copy(update={"label_values": None if values is None else tuple(values)})


def _select(cases: list[Case], model: Model, dataset_name: str, all_cases: bool) -> tuple[list[Case], str]:
    """Leave out what a network was shown the annotation of, unless told otherwise."""
    data = model.record.data
    shown = f"all {len(cases)} cases"
    if lent := {str(source["name"]) for source in lent_tumours(data) if source.get("dataset") == dataset_name}:
        if all_cases:
            return cases, f"{shown}, those whose tumours the network was trained on included"
        others = [case for case in cases if source_name(dataset_name, case.name) not in lent]
        if len(others) in (0, len(cases)):
            raise CheckpointError(
                f"{model.path}: was trained on tumours cut from dataset {dataset_name}, and leaves "
                f"{'no case of it' if not others else 'unknown of which cases'}; --all-cases scores them all"
            )
        cases, shown = others, f"the {len(others)} of {len(cases)} cases that lent the network no tumour"
    if model.record.stage != "finetune" or data.get("dataset") != dataset_name:
        return cases, shown
    if all_cases:
        return cases, f"all {len(cases)} cases, those the network was fine-tuned on included"
    test = set(data["test"])
    chosen = [case for case in cases if case.name in test]
    if not chosen:
        raise CheckpointError(
            f"{model.path}: none of its test cases is in dataset {dataset_name}; is this the same data?"
        )
    return chosen, f"the {len(chosen)} cases of the test fold"


def evaluate_case(model: Model, case: Case, dataset: Dataset, masks: Path) -> CaseResult:
    """Segment one case by network and threshold row and score both on the scan's own grid.

    Of several modalities the threshold row and the picture take the first.

    Raises
    ------
    ScanError
        If the case cannot be read or prepared, or has no label.
    """
    scan = read_case(case, dataset, model.region)
    if scan.label is None:
        raise ScanError(f"{case.image}: has no label file to score against; see the layout in the catalog")
    truth = scan.label.array != 0
    spacing = scan.volume.spacing_mm
    channels = prepare_for(model, scan.volumes, scan.roi, str(case.image))
    first = channels[0]
    found = decompose(model, channels)
    mask = to_scan(found.probability, first)
    write_volume(mask, masks / f"{case.name.replace('/', '_')}_mask.nii.gz")
    rule = None if model.record.threshold is None else Threshold(**model.record.threshold)
    beyond = None if rule is None else rule(found.scan[0], first.roi, first.frame.spacing_mm)
    reference = None if beyond is None else score(to_scan(beyond, first).array, truth, spacing)
    layers = (
        ()
        if model.record.stage == "finetune"
        else (found.normal[0], np.where(found.probability >= 0.5, found.texture[0], 0))
    )
    views = upright(scan.volume, first, truth, mask.array != 0, model.region.orientation, layers)
    return CaseResult(case.name, score(mask.array, truth, spacing), reference, picture=failure_picture(views))


def cases_csv(evaluation: Evaluation) -> str:
    """One line a case and row; an undefined score is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "row", *METRICS, *AMOUNTS, "one_empty", "problem"])
    for case in evaluation.cases:
        for row, scores in (("network", case.model), ("threshold", case.threshold)):
            if scores is not None:
                numbers = [_cell(getattr(scores, name)) for name in (*METRICS, *AMOUNTS)]
                writer.writerow([case.name, row, *numbers, int(scores.one_empty), ""])
        if case.problem:
            writer.writerow([case.name, "", *[""] * (len(METRICS) + len(AMOUNTS) + 1), case.problem])
    return text.getvalue()


def _cell(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.6g}"


def scores_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return every score with its conventions' counts; undefined ones are null."""
    record = evaluation.model.record

    def numbers(scores: Scores | None) -> dict[str, Any] | None:
        return None if scores is None else {name: plain(value) for name, value in asdict(scores).items()}

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
        "mean": {
            row: {
                "one_empty": sum(case.one_empty for case in scores),
                **{
                    metric: {"mean": plain(s.mean), "std": plain(s.deviation), "cases": s.count}
                    for metric, s in summarise(scores).items()
                },
            }
            for row, scores in evaluation.rows().items()
        },
        "cases": [
            {
                "case": case.name,
                "network": numbers(case.model),
                "threshold": numbers(case.threshold),
                "problem": case.problem,
            }
            for case in evaluation.cases
        ],
    }
