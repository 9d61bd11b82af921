"""Segment scans: one mask a scan, in the scan's own grid and affine, and a summary of all.

A network of several classes marks them by their labels, see ``train.cases.classes``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from scans.durable import only_writer
from scans.errors import CheckpointError
from scans.image.brain_mask import check_program, is_needed
from scans.image.volume import Volume
from scans.writing import make_folder
from train.inference.model import Decomposed, load_model
from train.inference.overlap import ThreeSteps, overlapped
from train.inference.reading import PLAIN
from train.segmentation.bids_inputs import find_bids_inputs
from train.segmentation.bids_outputs import name_derivatives, start_derivatives, write_sidecars
from train.segmentation.dicom_seg import DICOM_SEG, check_dicom_seg
from train.segmentation.inputs import Input, find_inputs
from train.segmentation.outputs import Options, check_nothing_in_the_way, check_targets, name_results
from train.segmentation.scan_steps import Ready, ScanSteps, Segmented, Wanted
from train.segmentation.search import counted
from train.segmentation.summary import STARTED, SummaryFile, SummaryRow
from train.settings import SettingsError


def segment(
    checkpoint: Path,
    scans: Sequence[str | Path],
    out: Path,
    *,
    patterns: Sequence[str] = (),
    rois: Sequence[str | Path] = (),
    options: Options | None = None,
    bids: Path | None = None,
    suffixes: Sequence[str] = (),
    pipelines: Sequence[str] = (),
    overwrite: bool = False,
    device: str = "auto",
    precision: str = "auto",
    say: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int], None] = lambda count: None,
    told: Callable[[Segmented], None] = lambda result: None,
) -> list[Segmented]:
    """Write ``OUT/CASE_mask.nii.gz`` for each scan and ``OUT/summary.csv``; one bad scan does not stop the rest.

    A mask that the same network made of the same scan with the same options is kept. One that was made otherwise, or
    by somebody else, is replaced if `overwrite` says so, else not touched.

    Parameters
    ----------
    checkpoint : Path
    scans, patterns, rois
        As of `train.segmentation.inputs.find_inputs`.
    out : Path
    options : Options, optional
    bids : Path, optional
        In place of scans: a BIDS dataset. `out` is then one of derivatives, with the probabilities in it.
    suffixes, pipelines : sequence of str
        As of `train.segmentation.bids_inputs.find_bids_inputs`.
    overwrite : bool
    device, precision : str
    say : callable
        Told in a sentence what is done before the first scan, and what of a folder is taken for a scan.
    progress : callable
        Told how many scans there are.
    told : callable
        Told of each result.

    Returns
    -------
    list of Segmented
        One a scan, in their order.

    Raises
    ------
    UserError
        If what is given does not fit together, a mask in the way must not be replaced, or `out` cannot be written.
    """
    options = options or Options()
    if bids is not None:
        options = _for_bids(options, [*scans, *patterns, *rois])
    model = load_model(checkpoint, device, precision, options)
    if options.normal and model.record.stage == "finetune":
        raise CheckpointError(f"{checkpoint}: a fine-tuned network has no normal layer; leave out --normal")
    say("looking for scans")
    naming, describe = name_results, _no_description
    if bids is None:
        inputs = find_inputs(scans, model.modalities, out, patterns=patterns, rois=rois, say=say)
    else:
        inputs = find_bids_inputs(bids, model.modalities, suffixes=suffixes, pipelines=pipelines, say=say)
        naming, describe = name_derivatives, partial(write_sidecars, model, bids, options)
    if options.format == DICOM_SEG:
        check_dicom_seg([one.name for one in inputs if one.scans and one.scans[0].is_file()], len(inputs))
    if is_needed(options.brain_mask_with, (one.roi for one in inputs)):
        check_program(options.brain_mask_with)
    names = partial(naming, out=out, modalities=model.modalities, classes=model.classes)
    targets = [names(one.case, options=options) for one in inputs]
    check_targets(inputs, targets)
    if bids is not None:
        start_derivatives(bids, out)
    make_folder(out, SettingsError)
    made_by = SummaryRow("", "", checkpoint=model.sha256(), options=options.said(model.reading))
    with only_writer(out), closing(SummaryFile(out)) as summary:
        rows = dict(summary.rows)
        if not overwrite:
            check_nothing_in_the_way(inputs, targets, out, rows, made_by)
        progress(len(inputs))
        if model.reading != PLAIN:
            say(f"a mask is: {model.reading.words()}")
        say(f"segmenting {counted(len(inputs), 'scan')} on {model.machine.device}")
        steps = ScanSteps(model, out, options, rows, made_by, overwrite, names, describe)
        return list(_results(steps, list(zip(inputs, targets, strict=True)), summary, told))


def _results(
    steps: ScanSteps, tasks: list[Wanted], summary: SummaryFile, told: Callable[[Segmented], None]
) -> Iterator[Segmented]:
    """Yield the result of each scan; the summary knows of it before anything is done with it, and when it is done."""

    def started(tasks: Sequence[Wanted]) -> None:
        summary.begun(row for one, _ in tasks if (row := steps.started(one)))

    def network(task: Wanted, ready: Ready) -> Decomposed:
        if steps.started(task[0]) is None:  # the mask that is there is about to be replaced
            summary.begun([replace(ready.row, problem=STARTED)])
        return steps.network(task, ready)

    each = ThreeSteps(
        steps.before,
        network,
        steps.after,
        steps.failed,
        name=lambda task: task[0].name,
        voxels=lambda ready: sum(volume.array.size for volume in ready.volumes),
    )
    a_tool_runs = is_needed(steps.options.brain_mask_with, (one.roi for one, _ in tasks))
    with closing(overlapped(tasks, each, started=started, here=a_tool_runs)) as outcomes:
        for outcome in outcomes:
            if outcome.row is not None:
                summary.settled(outcome.row)
            told(outcome.result)
            yield outcome.result


def _for_bids(options: Options, given: Sequence[str | Path]) -> Options:
    """Return the options as derivatives need them, or say which do not go with --bids."""
    if given:
        raise SettingsError(f"{given[0]}: --bids finds scans and masks by itself; leave out scans, --pattern and --roi")
    if options.format != "nii.gz":
        raise SettingsError(f"--format {options.format}: BIDS has images as nii.gz; leave it out")
    return options.model_copy(update={"probabilities": True})


def _no_description(one: Input, targets: dict[str, list[Path]], row: SummaryRow, mask: Volume) -> None:
    pass
