"""Segment scans: one mask a scan, in the scan's own grid and affine, and a summary of all.

A network of several classes marks them by their labels, see ``train.cases.classes``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from scans.durable import only_writer
from scans.errors import CheckpointError, ScanError, UserError
from scans.formats.files import content_sha256
from scans.image.brain_mask import brain_mask, check_program
from scans.image.components import Parts
from scans.image.preparation import Prepared, restore
from scans.image.volume import Volume, check_same_grid, read_mask, read_volume, write_volume
from scans.one_scan import one_scan
from scans.writing import make_folder
from train.cases.classes import Classes, masks_of
from train.inference.model import Decomposed, Model, decompose, label_map, load_model, prepare_for, share_in_scan
from train.inference.reading import PLAIN
from train.inference.sliding import slide, window_over
from train.segmentation.bids_inputs import find_bids_inputs
from train.segmentation.bids_outputs import name_derivatives, start_derivatives, write_sidecars
from train.segmentation.dicom_seg import DICOM_SEG, Maker, check_dicom_seg, read_slices, write_dicom_seg
from train.segmentation.inputs import Input, find_inputs
from train.segmentation.outputs import Options, check_nothing_in_the_way, check_targets, name_results
from train.segmentation.search import counted, holds_labels
from train.segmentation.summary import STARTED, SummaryRow, read_summary, write_summary
from train.settings import SettingsError

_FEWEST_GREYS = 16  # different values; no scan has fewer
_LEAST_COVERED = 0.995  # of the ROI in the cube; below that it is said


# Writes what is said of a mask beside it: of a scan, its files, its row of the summary, and the mask.
Describe = Callable[[Input, dict[str, list[Path]], SummaryRow, Volume], None]


@dataclass(frozen=True)
class Segmented:
    """One scan's result: the mask's path and volume, or the sentence that says why there is none.

    ``kept``: the mask was there already, made by the same network, options and scan.
    """

    scan: str
    mask: Path | None = None
    volume_ml: float = 0.0
    problem: str = ""
    note: str = ""
    kept: bool = False


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
    if any(one.roi is None for one in inputs):
        check_program(options.brain_mask_with)
    names = partial(naming, out=out, modalities=model.modalities, classes=model.classes)
    targets = [names(one.case, options=options) for one in inputs]
    check_targets(inputs, targets)
    if bids is not None:
        start_derivatives(bids, out)
    make_folder(out, SettingsError)
    made_by = SummaryRow("", "", checkpoint=model.sha256(), options=options.said(model.reading))
    with only_writer(out):
        rows = read_summary(out)
        if not overwrite:
            check_nothing_in_the_way(inputs, targets, out, rows, made_by)
        progress(len(inputs))
        if model.reading != PLAIN:
            say(f"a mask is: {model.reading.words()}")
        say(f"segmenting {counted(len(inputs), 'scan')} on {model.machine.device}")
        results = []
        for one, results_of in zip(inputs, targets, strict=True):
            result = _segment_into(model, one, results_of, out, options, rows, made_by, overwrite, names, describe)
            told(result)
            results.append(result)
    return results


def _segment_into(
    model: Model,
    one: Input,
    targets: dict[str, list[Path]],
    out: Path,
    options: Options,
    rows: dict[str, SummaryRow],
    made_by: SummaryRow,
    overwrite: bool,
    names: Callable[..., dict[str, list[Path]]],
    describe: Describe,
) -> Segmented:
    """Write what is wanted of one scan, and its row before and after."""
    began = time.monotonic()
    digest, unreadable = _digest(one)
    (mask,) = targets["mask"]
    row = rows.get(one.case)
    if row and row.mask and mask.exists():
        if row.made_by(made_by) and row.scan_sha256 == digest and out / row.mask == mask:
            return Segmented(one.name, mask, float(row.volume_ml), note=row.note, kept=True)
        if unreadable:
            return Segmented(one.name, problem=f"{unreadable} ({mask}, made of it before, stays)")
        if not overwrite:
            other = f"{mask} is there already, made of another scan or ROI mask"
            return Segmented(one.name, problem=f"{other}; choose another --out, or add --overwrite")
    start = SummaryRow(one.case, one.name, checkpoint=made_by.checkpoint, options=made_by.options, scan_sha256=digest)

    def write(**known: Any) -> None:
        rows[one.case] = SummaryRow(**{**vars(start), **known})
        write_summary(out, rows.values())

    write(problem=STARTED)
    try:
        with one_scan(one.name):
            volume, parts, note = _write_results(model, one, targets, options, start, describe)
    except UserError as error:
        write(problem=str(error))
        return Segmented(one.name, problem=str(error))
    if overwrite:  # what an earlier run wrote besides would belong to another mask
        everything = options.model_copy(update={"probabilities": True, "normal": True})
        written = {*chain(*targets.values())}
        for path in chain(*names(one.case, options=everything).values()):
            if path not in written:
                path.unlink(missing_ok=True)
    voxel_ml = volume.grid.voxel_mm3 / 1000.0
    ml = float(parts.sizes.sum()) * voxel_ml
    write(
        mask=mask.relative_to(out).as_posix(),
        volume_ml=f"{ml:.3f}",
        components=str(parts.sizes.size),
        largest_ml=f"{float(parts.sizes.max(initial=0)) * voxel_ml:.3f}",
        seconds=f"{time.monotonic() - began:.1f}",
        note=note,
        classes_ml=_classes_ml(volume, model.classes),
    )
    return Segmented(one.name, mask, ml, note=note)


def _classes_ml(labels: Volume, classes: Classes) -> dict[str, str]:
    """Return the volume of each of several classes; of one the whole row tells."""
    if len(classes) == 1:
        return {}
    counts = [int(mask.sum()) for mask in masks_of(labels.array, classes)]
    return {name: f"{n * labels.grid.voxel_mm3 / 1000.0:.3f}" for name, n in zip(classes, counts, strict=True)}


def _digest(one: Input) -> tuple[str, str]:
    """Return what the bytes of a scan and its ROI mask come to, or why they cannot be read."""
    try:
        with one_scan(one.name):
            return ("" if one.problem else content_sha256([*one.scans, *([one.roi] if one.roi else [])])), one.problem
    except UserError as error:
        return "", str(error)


def _write_results(
    model: Model,
    one: Input,
    targets: dict[str, list[Path]],
    options: Options,
    row: SummaryRow,
    describe: Describe,
) -> tuple[Volume, Parts, str]:
    """Write the files of one scan, the mask last; return it, its parts, and what is to be noted."""
    if one.problem:
        raise ScanError(one.problem)
    volumes, roi = read_input(model, one, options)
    slices = []
    if options.format == DICOM_SEG:  # of further modalities those that have slices
        slices = [read_slices(path) for path in one.scans if path.is_dir() or path == one.scans[0]]
    prepared, found = apply(model, volumes, roi, one.name, options)
    least = None if "probability" in targets else model.reading.least
    shares = [share_in_scan(share, prepared[0], least) for share in found.share(model.reading, prepared[0])]
    mask = label_map(shares, model.classes, model.reading)
    write = partial(_write, like=one.scans[0])
    if "probability" in targets:
        for share, path in zip(shares, targets["probability"], strict=True):
            write(share, path)
    for channel, path in enumerate(targets.get("normal", [])):
        write(restore(found.normal[channel], prepared[channel], volumes[channel]), path)
    describe(one, targets, row, mask)
    if slices:
        make_folder(targets["mask"][0].parent, ScanError)
        maker = Maker(model.region.name, row.checkpoint, row.options)
        write_dicom_seg(mask, model.classes, slices, targets["mask"][0], maker)
    else:
        write(mask, targets["mask"][0])
    covered = prepared[0].coverage
    beyond = f"{1 - covered:.1%} of the ROI lies outside the network's cube; --window trained goes beyond it"
    return mask, Parts.of(mask.array != 0), beyond if covered < _LEAST_COVERED else ""


def _for_bids(options: Options, given: Sequence[str | Path]) -> Options:
    """Return the options as derivatives need them, or say which do not go with --bids."""
    if given:
        raise SettingsError(f"{given[0]}: --bids finds scans and masks by itself; leave out scans, --pattern and --roi")
    if options.format != "nii.gz":
        raise SettingsError(f"--format {options.format}: BIDS has images as nii.gz; leave it out")
    return options.model_copy(update={"probabilities": True})


def _no_description(one: Input, targets: dict[str, list[Path]], row: SummaryRow, mask: Volume) -> None:
    pass


def _write(volume: Volume, path: Path, like: Path) -> None:
    make_folder(path.parent, ScanError)
    write_volume(volume, path, like)


def read_input(model: Model, one: Input, options: Options) -> tuple[list[Volume], Volume | None]:
    """Read a scan's modalities and its ROI mask; where it has none, make one if the options say how.

    Raises
    ------
    ScanError
        If one cannot be used, or they are not on one grid.
    """
    volumes = [read_volume(path) for path in one.scans]
    for volume, path in zip(volumes, one.scans, strict=True):
        if holds_labels(volume.array, _FEWEST_GREYS):
            raise ScanError(
                f"{path}: holds a handful of whole numbers, so it is a mask or label and no scan; leave it out"
            )
    for volume, path in zip(volumes[1:], one.scans[1:], strict=True):
        check_same_grid(volume, volumes[0], path, one.scans[0])
    if one.roi is not None:
        roi = read_mask(one.roi, model.region.roi.values, kind="ROI mask")
        check_same_grid(roi, volumes[0], one.roi, one.scans[0])
        return volumes, roi
    if options.brain_mask_with:
        return volumes, read_mask(brain_mask(one.scans[0], options.brain_mask_with, options.brain_masks))
    if model.region.roi.kind == "label":
        raise ScanError(
            f"{one.name}: region {model.region.name} needs an ROI mask; give it with --roi on the scan's grid, "
            "or let a tool make it (--brain-mask-with, docs/skulls.md)"
        )
    return volumes, None


def apply(
    model: Model, volumes: Sequence[Volume], roi: Volume | None, where: str, options: Options
) -> tuple[list[Prepared], Decomposed]:
    """Prepare a scan and run the network on it, in its cube or window by window.

    Raises
    ------
    ScanError
        If the scan cannot be prepared.
    """
    prepared = prepare_for(model, volumes, roi, where)
    if options.window is None:
        return prepared, decompose(model, prepared, options.flips)
    prepared = window_over(volumes, prepared, native=options.window == "native")
    return prepared, slide(model, prepared, options.flips)
