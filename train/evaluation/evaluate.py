"""Evaluation on annotated scans: the network beside the threshold row, in each scan's own grid."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from scans.catalog.catalog import load_catalog
from scans.catalog.dataset import Dataset
from scans.errors import CheckpointError, UserError
from scans.image.brain_mask import check_program
from scans.image.cases import Case, read_case, source_name
from scans.image.volume import write_volume
from scans.one_scan import one_scan
from scans.writing import make_folder
from train.cases.classes import TUMOUR, Classes, labels_of, masks_of, whole
from train.cases.prepared import dataset_cases
from train.evaluation.class_scores import classes_to_score, main_class, truths_of
from train.evaluation.failure_picture import failure_picture
from train.evaluation.metrics import score
from train.evaluation.result import CaseResult, Evaluation
from train.evaluation.scores_file import write_scores
from train.evaluation.threshold_row import segment
from train.evaluation.upright import upright
from train.inference.model import Model, decompose, label_map, load_model, prepare_for, share_in_scan, to_scan
from train.inference.reading import Asked
from train.network.data_terms import lent_tumours
from train.settings import SettingsError


def evaluate(
    checkpoint: Path,
    catalog: Path,
    name: str,
    out: Path,
    *,
    all_cases: bool = False,
    device: str = "auto",
    precision: str = "auto",
    asked: Asked | None = None,
    brain_mask_with: str | None = None,
    brain_masks: Path | None = None,
    told: Callable[[CaseResult], None] = lambda result: None,
) -> Evaluation:
    """Score a checkpoint and write ``cases.csv``, ``scores.json``, ``report.html`` and masks to `out`.

    Parameters
    ----------
    checkpoint, catalog : Path
    name : str
        Of a task of the catalog, or of a dataset with label files; see
        `train.evaluation.class_scores.classes_to_score`.
    out : Path
    all_cases : bool
        Score also the annotated cases that the network was trained on.
    device, precision : str
    asked : Asked, optional
        What to change of the reading that the checkpoint records.
    brain_mask_with : str, optional
        Command that makes the ROI masks of scans that bring none, in place of the catalog's.
    brain_masks : Path, optional
        Folder that keeps them, likewise.
    told : callable
        Told of each case.
    """
    from train.evaluation.report import write_report

    model = load_model(checkpoint, device, precision, asked)
    loaded = load_catalog(catalog).with_brain_masks(brain_mask_with, brain_masks)
    wanted = loaded.task(name)
    dataset, cases = dataset_cases(loaded, wanted.dataset, model.regions)
    if any(case.roi is None for case in cases):
        check_program(dataset.brain_mask_with)
    classes = classes_to_score(model, loaded, name)
    cases, selection = _select(cases, model, wanted.dataset, all_cases)
    results = []
    for result in evaluate_cases(model, cases, dataset, out, classes):
        if wanted.tumour_only and result.model and result.model.tumour_free:
            continue
        told(result)
        results.append(result)
    if len(results) < len(cases):
        selection += f", but {len(cases) - len(results)} without a tumour"
    evaluation = Evaluation(model, wanted.dataset, dataset, results, selection, classes)
    write_scores(evaluation, out)
    write_report(evaluation, out / "report.html")
    return evaluation


def evaluate_cases(
    model: Model, cases: Sequence[Case], dataset: Dataset, out: Path, classes: Classes | None = None
) -> Iterator[CaseResult]:
    """Yield what `evaluate_case` finds in each of some cases, or why it cannot; masks go to ``masks`` in `out`."""
    make_folder(out / "masks", SettingsError)
    for case in cases:
        try:
            with one_scan(case.image):
                result = evaluate_case(model, case, dataset, out / "masks", classes)
        except UserError as error:
            result = CaseResult(case.name, problem=str(error))
        yield result


def _select(cases: list[Case], model: Model, dataset_name: str, all_cases: bool) -> tuple[list[Case], str]:
    """Leave out what a network was shown the annotation or the tumour of, unless told otherwise."""
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


def evaluate_case(
    model: Model, case: Case, dataset: Dataset, masks: Path, classes: Classes | None = None
) -> CaseResult:
    """Segment one case by network and threshold row and score both on the scan's own grid.

    Of several modalities the threshold row and the pictures take the first. `classes` are those of the network with the
    labels to score against; without them one, as the dataset says.

    Raises
    ------
    ScanError
        If the case cannot be read or prepared, or has no label.
    """
    classes = classes or dict.fromkeys(TUMOUR, dataset.label_values)
    main = main_class(classes)
    scan = read_case(case, dataset, model.region)
    truths = truths_of(case, classes)
    spacing = scan.volume.spacing_mm
    channels = prepare_for(model, scan.volumes, scan.roi, str(case.image))
    first = channels[0]
    found = decompose(model, channels)
    share = found.share(model.reading, first)
    labels = label_map([share_in_scan(each, first) for each in share], model.classes, model.reading)
    write_volume(labels, masks / f"{case.name}_mask.nii.gz", like=case.image)
    found_in_scan = dict(zip(model.classes, masks_of(labels.array, model.classes), strict=True))
    rule = None if whole(classes) is None else model.record.rule
    beyond = None if rule is None else segment(rule, found.scan[0], first.roi, first.frame.spacing_mm)
    reference = None if beyond is None else score(to_scan(beyond, first).array, truths[main], spacing)
    reached = np.stack([model.reading.reached(each) for each in share])
    inside = masks_of(labels_of(reached, model.classes), {main: model.classes[main]})[0]
    layers = () if model.record.stage == "finetune" else (found.normal[0], np.where(inside, found.texture[0], 0))
    scores = {name: score(found_in_scan[name], truth, spacing) for name, truth in truths.items()}
    pictures = {
        name: failure_picture(
            upright(scan.volume, first, truth, found_in_scan[name] != 0, model.region.orientation, layers)
        )
        for name, truth in truths.items()
    }
    several = scores if len(classes) > 1 else {}
    return CaseResult(case.name, scores[main], reference, pictures=pictures, classes=several)
