"""Evaluation on annotated scans: the network beside the threshold row, in each scan's own grid."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scans.catalog.catalog import load_catalog
from scans.catalog.dataset import Dataset
from scans.errors import CheckpointError
from scans.image.brain_mask import check_program, is_needed
from scans.image.cases import Case, Scan, read_case, source_name
from scans.image.preparation import Prepared
from scans.image.volume import write_volume
from scans.page.scene import pack
from scans.writing import make_folder
from train.cases.classes import TUMOUR, Classes, labels_of, masks_of, whole
from train.cases.prepared import dataset_cases
from train.evaluation.class_scores import classes_to_score, main_class, truths_of
from train.evaluation.failure_picture import failure_picture, failure_scene
from train.evaluation.failures import CaseOutcome, worst_first
from train.evaluation.metrics import score
from train.evaluation.result import CaseResult, Evaluation
from train.evaluation.scores_file import write_scores
from train.evaluation.threshold_row import segment
from train.evaluation.upright import upright
from train.inference.model import Decomposed, Model, decompose, load_model, mask_in_scan, prepare_for, to_scan
from train.inference.overlap import ThreeSteps, overlapped
from train.inference.reading import Asked
from train.network.data_terms import lent_tumours
from train.settings import SettingsError

MOST_SCENES = 6  # cases kept to be looked into: a page holds not many more, and each takes some MB until it is written


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
    if is_needed(dataset.brain_mask_with, (case.roi for case in cases)):
        check_program(dataset.brain_mask_with)
    classes = classes_to_score(model, loaded, name)
    cases, selection = _select(cases, model, wanted.dataset, all_cases)
    results = []
    with closing(evaluate_cases(model, cases, dataset, out / "masks", classes)) as each:
        for result in each:
            if wanted.tumour_only and result.model and result.model.tumour_free:
                continue
            told(result)
            results.append(result)
            _forget_scenes(results)
    if len(results) < len(cases):
        selection += f", but {len(cases) - len(results)} without a tumour"
    evaluation = Evaluation(model, wanted.dataset, dataset, results, selection, classes)
    write_scores(evaluation, out)
    write_report(evaluation, out / "report.html")
    return evaluation


def _forget_scenes(results: list[CaseResult]) -> None:
    """Let go of the scenes of all cases but the worst so far."""
    outcomes = worst_first([CaseOutcome(each.name, each.model) for each in results if each.model and each.scene])
    spared = {outcome.case for outcome in outcomes[:MOST_SCENES]}
    results[:] = [each if each.name in spared else replace(each, scene=None) for each in results]


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


@dataclass(frozen=True)
class _Ready:
    """A case that is read and prepared.

    ``truths`` are the masks of its annotation by class, on the scan's grid.
    """

    scan: Scan
    truths: dict[str, np.ndarray]
    prepared: list[Prepared]


def evaluate_cases(
    model: Model, cases: Sequence[Case], dataset: Dataset, masks: Path, classes: Classes | None = None
) -> Generator[CaseResult, None, None]:
    """Segment cases by network and threshold row and score both on each scan's own grid, in the order of the cases.

    Of several modalities the threshold row and the pictures take the first. A case that cannot be read or prepared, or
    has no label, is a result with its problem.

    Parameters
    ----------
    model : Model
    cases : sequence of Case
    dataset : Dataset
    masks : Path
        Folder to write the network's masks to; made where there is none.
    classes : Classes, optional
        Those of the network, with the labels to score against; without them one, as the dataset says.
    """
    make_folder(masks, SettingsError)
    scored = classes or dict.fromkeys(TUMOUR, dataset.label_values)

    def before(case: Case) -> _Ready:
        scan = read_case(case, dataset, model.region)
        truths = truths_of(case, scored)
        return _Ready(scan, truths, prepare_for(model, scan.volumes, scan.roi, str(case.image)))

    steps = ThreeSteps(
        before,
        lambda case, ready: decompose(model, ready.prepared),
        lambda case, ready, found: _scored(model, case, ready, found, masks, scored),
        lambda case, error: CaseResult(case.name, problem=str(error)),
        name=lambda case: str(case.image),
        voxels=lambda ready: sum(volume.array.size for volume in ready.scan.volumes),
    )
    a_tool_runs = is_needed(dataset.brain_mask_with, (case.roi for case in cases))
    return overlapped(cases, steps, here=a_tool_runs)


def _scored(model: Model, case: Case, ready: _Ready, found: Decomposed, masks: Path, classes: Classes) -> CaseResult:
    """Write the network's mask of a case, score it and the threshold row, and draw both."""
    main, truths, first = main_class(classes), ready.truths, ready.prepared[0]
    spacing = ready.scan.volume.spacing_mm
    share = found.share(model.reading, first)
    labels = mask_in_scan(model, share, first)
    write_volume(labels, masks / f"{case.name}_mask.nii.gz", like=case.image, quick=True)
    found_in_scan = dict(zip(model.classes, masks_of(labels.array, model.classes), strict=True))
    rule = None if whole(classes) is None else model.record.rule
    beyond = None if rule is None else segment(rule, found.scan[0], first.roi, first.frame.spacing_mm)
    reference = None if beyond is None else score(to_scan(beyond, first).array, truths[main], spacing)
    reached = np.stack([model.reading.reached(each) for each in share])
    inside = masks_of(labels_of(reached, model.classes), {main: model.classes[main]})[0]
    layers = () if model.record.stage == "finetune" else (found.normal[0], np.where(inside, found.texture[0], 0))
    scores = {name: score(found_in_scan[name], truth, spacing) for name, truth in truths.items()}
    shown = {
        name: upright(ready.scan.volume, first, truth, found_in_scan[name] != 0, model.region.orientation, layers)
        for name, truth in truths.items()
    }
    pictures = {name: failure_picture(views) for name, views in shown.items()}
    several = scores if len(classes) > 1 else {}
    scene = pack(failure_scene(case.name, shown[main]))
    return CaseResult(case.name, scores[main], reference, pictures=pictures, classes=several, scene=scene)
