"""The steps of a scan: read and prepared, through the network, brought back and written; and what is said of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from scans.errors import ScanError, UserError
from scans.formats.files import content_sha256
from scans.image.brain_mask import brain_mask
from scans.image.components import Parts
from scans.image.preparation import Prepared, restore
from scans.image.volume import Volume, check_same_grid, read_mask, read_volume, write_volume
from scans.one_scan import one_scan
from scans.writing import make_folder
from train.cases.classes import Classes, masks_of
from train.inference.model import Decomposed, Model, decompose, label_map, mask_in_scan, prepare_for, share_in_scan
from train.inference.overlap import Done
from train.inference.sliding import slide, window_over
from train.segmentation.dicom_seg import DICOM_SEG, Maker, read_slices, write_dicom_seg
from train.segmentation.inputs import Input
from train.segmentation.outputs import Options
from train.segmentation.search import holds_labels
from train.segmentation.summary import STARTED, SummaryRow

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


@dataclass(frozen=True)
class Settled:
    """A scan's result, and its row of the summary; no row where the one that is there stays."""

    result: Segmented
    row: SummaryRow | None = None


@dataclass(frozen=True)
class Ready:
    """A scan, ready for the network.

    Attributes
    ----------
    row : SummaryRow
        What is known of it so far.
    began : float
        When it was begun to be read, by the monotonic clock.
    volumes : list of Volume
        One a modality.
    prepared : list of Prepared
        Likewise; in the network's cube, or over the whole organ.
    slices : list
        Of DICOM series whose mask is to lie on them.
    """

    row: SummaryRow
    began: float
    volumes: list[Volume]
    prepared: list[Prepared]
    slices: list[Any] = field(default_factory=list)


Wanted = tuple[Input, dict[str, list[Path]]]  # a scan, and the paths of what is to be written of it


@dataclass(frozen=True)
class ScanSteps:
    """What is done with each scan of a run, step by step, as `train.inference.overlap` takes them.

    Attributes
    ----------
    model : Model
    out : Path
    options : Options
    rows : dict of str to SummaryRow
        What the summary had when the run began.
    made_by : SummaryRow
        With network and options.
    overwrite : bool
    names : callable
        Paths of what may be written of a case, by options.
    describe : Describe
    """

    model: Model
    out: Path
    options: Options
    rows: dict[str, SummaryRow]
    made_by: SummaryRow
    overwrite: bool
    names: Callable[..., dict[str, list[Path]]]
    describe: Describe
    digests: dict[str, str] = field(default_factory=dict)

    def started(self, one: Input) -> SummaryRow | None:
        """Return the row of a scan that is begun; None where there is a mask, which may be kept."""
        row = self.rows.get(one.case)
        return None if row and row.mask else self._row(one, problem=STARTED)

    def before(self, task: Wanted) -> Ready | Done[Settled]:
        """Read and prepare a scan, unless its mask is there."""
        began = time.monotonic()
        one, targets = task
        digest, unreadable = _digest(one)
        self.digests[one.case] = digest
        (mask,) = targets["mask"]
        row = self.rows.get(one.case)
        if row and row.mask and mask.exists():
            if row.made_by(self.made_by) and row.scan_sha256 == digest and self.out / row.mask == mask:
                return _there(Segmented(one.name, mask, float(row.volume_ml), note=row.note, kept=True))
            if unreadable:
                return _there(Segmented(one.name, problem=f"{unreadable} ({mask}, made of it before, stays)"))
            if not self.overwrite:
                other = f"{mask} is there already, made of another scan or ROI mask"
                return _there(Segmented(one.name, problem=f"{other}; choose another --out, or add --overwrite"))
        if one.problem:
            raise ScanError(one.problem)
        volumes, roi = read_input(self.model, one, self.options)
        slices = []
        if self.options.format == DICOM_SEG:  # of further modalities those that have slices
            slices = [read_slices(path) for path in one.scans if path.is_dir() or path == one.scans[0]]
        prepared = prepare_for(self.model, volumes, roi, one.name)
        if self.options.window is not None:
            prepared = window_over(volumes, prepared, native=self.options.window == "native")
        return Ready(self._row(one), began, volumes, prepared, slices)

    def network(self, task: Wanted, ready: Ready) -> Decomposed:
        """Run the network, on its cube or window by window."""
        run = decompose if self.options.window is None else slide
        return run(self.model, ready.prepared, self.options.flips)

    def after(self, task: Wanted, ready: Ready, found: Decomposed) -> Settled:
        """Bring back what was found, and write it, the mask last."""
        one, targets = task
        volume = self._write(one, targets, ready, found)
        if self.overwrite:  # what an earlier run wrote besides would belong to another mask
            everything = self.options.model_copy(update={"probabilities": True, "normal": True})
            written = {*chain(*targets.values())}
            for path in chain(*self.names(one.case, options=everything).values()):
                if path not in written:
                    path.unlink(missing_ok=True)
        parts, voxel_ml = Parts.of(volume.array != 0), volume.grid.voxel_mm3 / 1000.0
        ml = float(parts.sizes.sum()) * voxel_ml
        covered, (mask,) = ready.prepared[0].coverage, targets["mask"]
        beyond = f"{1 - covered:.1%} of the ROI lies outside the network's cube; --window trained goes beyond it"
        row = replace(
            ready.row,
            mask=mask.relative_to(self.out).as_posix(),
            volume_ml=f"{ml:.3f}",
            components=str(parts.sizes.size),
            largest_ml=f"{float(parts.sizes.max(initial=0)) * voxel_ml:.3f}",
            seconds=f"{time.monotonic() - ready.began:.1f}",
            note=beyond if covered < _LEAST_COVERED else "",
            classes_ml=_classes_ml(volume, self.model.classes),
        )
        return Settled(Segmented(one.name, mask, ml, note=row.note), row)

    def failed(self, task: Wanted, error: UserError) -> Settled:
        """Return the row of a scan that cannot be segmented."""
        one, _ = task
        return Settled(Segmented(one.name, problem=str(error)), self._row(one, problem=str(error)))

    def _row(self, one: Input, problem: str = "") -> SummaryRow:
        return SummaryRow(
            one.case,
            one.name,
            problem=problem,
            checkpoint=self.made_by.checkpoint,
            options=self.made_by.options,
            scan_sha256=self.digests.get(one.case, ""),
        )

    def _write(self, one: Input, targets: dict[str, list[Path]], ready: Ready, found: Decomposed) -> Volume:
        """Write the files of one scan; return its mask."""
        model, prepared = self.model, ready.prepared
        share, write = found.share(model.reading, prepared[0]), partial(_write, like=one.scans[0])
        if "probability" in targets:
            shares = [share_in_scan(each, prepared[0]) for each in share]
            mask = label_map(shares, model.classes, model.reading)
            for volume, path in zip(shares, targets["probability"], strict=True):
                write(volume, path)
        else:
            mask = mask_in_scan(model, share, prepared[0])
        for channel, path in enumerate(targets.get("normal", [])):
            write(restore(found.normal[channel], prepared[channel], ready.volumes[channel]), path)
        self.describe(one, targets, ready.row, mask)
        if ready.slices:
            make_folder(targets["mask"][0].parent, ScanError)
            maker = Maker(model.region.name, ready.row.checkpoint, ready.row.options)
            write_dicom_seg(mask, model.classes, ready.slices, targets["mask"][0], maker)
        else:
            write(mask, targets["mask"][0])
        return mask


def _there(result: Segmented) -> Done[Settled]:
    return Done(Settled(result))


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


def _write(volume: Volume, path: Path, like: Path) -> None:
    make_folder(path.parent, ScanError)
    write_volume(volume, path, like, quick=True)


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
