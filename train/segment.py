"""Segment scans: one mask a scan, in the scan's own grid and affine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scans.errors import ScanError, UserError
from scans.volume import READ_SUFFIXES, Volume, check_same_grid, read_mask, read_volume, write_volume
from train.inference import Model, decompose, load_model, prepare_for, to_scan
from train.settings import SettingsError


@dataclass(frozen=True)
class Segmented:
    """One scan's result: the mask's path and volume, or the sentence that says why there is none."""

    scan: Path
    mask: Path | None = None
    volume_ml: float = 0.0
    problem: str = ""


def segment(
    checkpoint: Path,
    scans: Sequence[Path],
    out: Path,
    *,
    rois: Sequence[Path] = (),
    device: str = "auto",
    precision: str = "auto",
    told: Callable[[Segmented], None] = lambda result: None,
) -> list[Segmented]:
    """Write ``OUT/NAME_mask.nii.gz`` for each scan; one bad scan does not stop the rest.

    Parameters
    ----------
    checkpoint : Path
    scans : sequence of Path
        Files, or folders with a DICOM series.
    out : Path
    rois : sequence of Path
        Region-of-interest masks, one a scan in the same order, or none.
    device, precision : str
    told : callable
        Told of each result.

    Returns
    -------
    list of Segmented
    """
    if rois and len(rois) != len(scans):
        raise SettingsError(f"{len(rois)} --roi masks for {len(scans)} scans: give one for each, in the same order")
    targets = name_masks(scans, out)
    model = load_model(checkpoint, device, precision)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be made ({error.strerror}); choose another folder") from error
    results = []
    for number, (scan, target) in enumerate(zip(scans, targets, strict=True)):
        try:
            mask = segment_scan(model, scan, rois[number] if rois else None)
            write_volume(mask, target)
            ml = float(mask.array.sum()) * mask.grid.voxel_mm3 / 1000.0
            result = Segmented(scan, target, ml)
        except UserError as error:
            result = Segmented(scan, problem=str(error))
        told(result)
        results.append(result)
    return results


def segment_scan(model: Model, scan: Path, roi: Path | None = None) -> Volume:
    """Return the tumour mask of one scan, uint8 in the scan's own grid.

    Raises
    ------
    ScanError
        If the scan or its ROI cannot be used.
    """
    volume = read_volume(scan)
    region_of_interest = None
    if roi is not None:
        region_of_interest = read_mask(roi, model.region.roi.values, kind="ROI mask")
        check_same_grid(region_of_interest, volume, roi, scan)
    elif model.region.roi.kind == "label":
        raise ScanError(f"{scan}: region {model.region.name} needs an ROI mask; give it with --roi on the scan's grid")
    prepared = prepare_for(model, volume, region_of_interest, str(scan))
    return to_scan(decompose(model, prepared).probability, prepared)


def name_masks(scans: Sequence[Path], out: Path) -> list[Path]:
    """Return ``OUT/NAME_mask.nii.gz`` for each scan.

    Raises
    ------
    SettingsError
        If two scans would share a name, or a mask would replace a scan.
    """
    targets: dict[Path, Path] = {}
    for scan in scans:
        name = scan.resolve().name
        suffix = next((s for s in READ_SUFFIXES if name.lower().endswith(s)), "")
        target = out / f"{name.removesuffix(name[len(name) - len(suffix) :]) if suffix else name}_mask.nii.gz"
        if target in targets:
            raise SettingsError(
                f"{scan} and {targets[target]} would both be written to {target}; segment them with two --out folders"
            )
        targets[target] = scan
    resolved = {scan.resolve() for scan in scans}
    for target in targets:
        if target.resolve() in resolved:
            raise SettingsError(f"{target} is one of the scans: its mask would replace it; choose another --out")
    return list(targets)
