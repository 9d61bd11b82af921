"""Preparation: from a scan as a lab has it to the network's cube, and the way back.

The steps are ROI, raw zero, frame, resampling, statistics; `prepare` runs them in this order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scans.catalog.region import Region
from scans.errors import ScanError
from scans.image.box import clip, from_within, tight_box
from scans.image.components import box_of_large_parts
from scans.image.foreground import border_value, region_of_interest
from scans.image.frame import Frame, coverage, fit_frame, from_frame, to_frame
from scans.image.normalisation import Statistics, unscale
from scans.image.statistics import own_statistics
from scans.image.volume import Volume

_LEAST_FRAMED = 0.001  # a part of the ROI smaller than this share of the largest does not count for the frame
_RINGING = 0.05  # share of negative ROI voxels up to which they are ringing of an interpolation: measured up
#                  to 0.01 on resampled raw scans, 0.3 and more on z-scored ones
_LEAST_SHARE = 0.01  # of the ROI in what is interpolated: below it nothing is known
_LESION_SHARE = 0.1  # of a voxel; little, since what is left must be healthy


@dataclass(frozen=True)
class Prepared:
    """A scan in the network's cube.

    Attributes
    ----------
    intensity : ndarray of float32, shape (size, size, size)
        Raw intensities, non-negative (0 is the raw zero of Eq. 4), 0 outside the ROI.
    roi : ndarray of bool, same shape
    lesion : ndarray of bool, same shape, or None
        Voxels touched by the lesion mask, generously; no reference to score against.
    frame : Frame
    statistics : Statistics or None
        Of this scan's healthy ROI voxels (``zscore``); the given ones, which may be None (``window``).
    inside : ndarray of bool, shape (z, y, x), the scan's own grid
        The ROI there.
    zero : float
        Intensity of the scan that counts as 0 in `intensity`.
    coverage : float
        Share of the ROI that lies inside the cube.
    """

    intensity: np.ndarray
    roi: np.ndarray
    lesion: np.ndarray | None
    frame: Frame
    statistics: Statistics | None
    inside: np.ndarray
    zero: float
    coverage: float = 1.0


def prepare(
    volume: Volume,
    roi: Volume | None,
    lesion: Volume | None,
    region: Region,
    size: int,
    statistics: Statistics | None = None,
    where: str = "",
) -> Prepared:
    """Bring a scan into the network's cube; a pure function of its arguments.

    Parameters
    ----------
    volume : Volume
        The scan, finite float32.
    roi, lesion : Volume or None
        Masks on the scan's grid. Without an ROI the foreground of a skull-stripped scan is taken.
    region : Region
    size : int
        Voxels along each side of the cube; divisible by 8.
    statistics : Statistics, optional
        Common to all scans, for regions with ``normalisation.kind`` ``window``.
    where : str
        Name of the scan, for errors.

    Raises
    ------
    ScanError
        If there is no usable ROI, the lesion lies outside it, or nothing varies or nothing is left inside it.
    """
    check_size(size)
    where = where or "scan"
    for mask in (roi, lesion):
        if mask is not None and not mask.same_grid(volume):
            raise ScanError(f"{where}: a mask is not on the scan's grid; resample it to the scan's grid")
    lesion = lesion and lesion.laid_on(volume)
    background = border_value(volume.array)
    inside = region_of_interest(volume, roi, region, background, where)
    if lesion is not None and lesion.array.any() and not (inside & (lesion.array > 0)).any():
        raise ScanError(f"{where}: its lesion mask lies wholly outside the ROI; check that the files belong together")

    box = tight_box(inside)  # all that follows looks at nothing else
    values = volume.array[box][inside[box]]
    if values.min() == values.max():
        raise ScanError(f"{where}: nothing varies inside the ROI; check that the mask belongs to the scan")
    zero = np.float32(_raw_zero(values, region, background))
    # A stray voxel of a mask must not stretch the cube.
    framed = from_within(box_of_large_parts(inside[box], _LEAST_FRAMED), box)
    frame = fit_frame(volume.grid, framed, region.field_of_view, region.orientation, size)
    intensity, roi_cube = _resampled(volume, inside, zero, frame)
    if not roi_cube.any():
        raise ScanError(
            f"{where}: its ROI is thinner than a voxel of the network's cube everywhere; "
            f"check the {'ROI mask' if roi is not None else 'scan, or give an ROI mask'}"
        )
    lesion_cube = None
    if lesion is not None and lesion.array.any():
        lesion_cube = to_frame(lesion, frame) >= _LESION_SHARE

    healthy = intensity[roi_cube if lesion_cube is None else roi_cube & ~lesion_cube]
    if not healthy.size:
        raise ScanError(f"{where}: its lesions leave nothing of the ROI; check the two masks")
    zscore = region.normalisation.kind == "zscore"
    return Prepared(
        intensity=intensity,
        roi=roi_cube,
        lesion=lesion_cube,
        frame=frame,
        statistics=own_statistics(healthy, region) if zscore else statistics,
        inside=inside,
        zero=float(zero),
        coverage=coverage(frame, inside),
    )


def prepare_modalities(
    volumes: Sequence[Volume],
    roi: Volume | None,
    regions: Sequence[Region],
    size: int,
    statistics: Sequence[Statistics | None],
    where: str = "",
) -> list[Prepared]:
    """Bring the modalities of one scan into the network's cube, all with the ROI and the frame of the first.

    Parameters
    ----------
    volumes : sequence of Volume
        On one grid.
    roi : Volume or None
        As of `prepare`; without one the foreground of the first modality is taken.
    regions : sequence of Region
        One a modality; they differ in their normalisation only.
    size : int
    statistics : sequence of Statistics or None
        One a modality.
    where : str
        Name of the scan, for errors.

    Returns
    -------
    list of Prepared
        One a modality.

    Raises
    ------
    ScanError
        As of `prepare`, and if the number of modalities is not that of the regions, or they are not on one grid.
    """
    if len(volumes) != len(regions):
        raise ScanError(f"{where or 'scan'}: has {len(volumes)} modalities, {len(regions)} are needed")
    first = volumes[0]
    if any(not volume.same_grid(first) for volume in volumes):
        raise ScanError(
            f"{where or 'scan'}: its modalities are not on one grid; resample them to the grid of the first"
        )
    if len(volumes) > 1 and roi is None:
        inside = region_of_interest(first, None, regions[0], border_value(first.array), where or "scan")
        roi = first.with_array(inside.astype(np.uint8))
    each = zip((volume.laid_on(first) for volume in volumes), regions, statistics, strict=True)
    return [prepare(volume, roi, None, region, size, known, where) for volume, region, known in each]


def reframe(volume: Volume, prepared: Prepared, frame: Frame) -> Prepared:
    """Prepare a scan once more, in another frame, with the ROI, raw zero and statistics found for the first.

    Parameters
    ----------
    volume : Volume
        The scan.
    prepared : Prepared
        What `prepare` made of it.
    frame : Frame
        Of any number of voxels along each side.

    Returns
    -------
    Prepared
        Without a lesion.
    """
    intensity, roi = _resampled(volume, prepared.inside, np.float32(prepared.zero), frame)
    covered = coverage(frame, prepared.inside)
    return replace(prepared, intensity=intensity, roi=roi, lesion=None, frame=frame, coverage=covered)


def restore(layer: np.ndarray, prepared: Prepared, volume: Volume) -> Volume:
    """Put a layer that a network found in place of the scan's ROI.

    Parameters
    ----------
    layer : ndarray of float32, shape of the frame
        In the network's units.
    prepared : Prepared
        The scan as the network saw it, with its statistics.
    volume : Volume
        The scan.

    Returns
    -------
    Volume
        float32, in the scan's own intensities and grid; the scan itself outside the ROI and outside the frame.
    """
    assert prepared.statistics is not None
    raw = np.maximum(unscale(layer, prepared.statistics), 0) + np.float32(prepared.zero)
    # Weighted by the share of the ROI: what a network says beyond the ROI is noise.
    share = from_frame(prepared.roi.astype(np.float32), prepared.frame).array
    blurred = from_frame(np.where(prepared.roi, raw, np.float32(0)), prepared.frame).array
    known = prepared.inside & (share >= _LEAST_SHARE)
    return volume.with_array(np.where(known, blurred / np.maximum(share, _LEAST_SHARE), volume.array))


def check_size(size: int) -> None:
    """Stop at a cube that the network cannot halve three times.

    Raises
    ------
    ScanError
    """
    if size % 8 or not 16 <= size <= 512:
        raise ScanError(f"size {size}: give a multiple of 8 from 16 to 512")


def _resampled(volume: Volume, inside: np.ndarray, zero: np.float32, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return raw intensities and ROI in a frame, both of its shape.

    Intensities are weighted by the share of the ROI, so that nothing outside it darkens its edge: a scan gives the
    same with and without skull stripping.
    """
    box = clip(tight_box(inside), (1, 1, 1), inside.shape)  # what lies outside contributes nothing
    within = volume.with_array(inside).crop(box)
    raw = volume.array[box] - zero
    np.maximum(raw, 0, out=raw)
    np.copyto(raw, 0, where=~within.array)
    share = to_frame(within, frame)
    roi = share >= 0.5
    blurred = to_frame(within.with_array(raw), frame)
    return np.where(roi, blurred / np.maximum(share, 0.5), np.float32(0)), roi


def _raw_zero(values: np.ndarray, region: Region, background: float | None) -> float:
    """Return the value that counts as zero intensity in Eq. 4; `values` are those of ROI voxels."""
    if region.normalisation.raw_zero is not None:
        return region.normalisation.raw_zero
    scored = (values < 0).mean() > _RINGING
    # A scan that was z-scored whole carries the image of its old zero in its background; a background far below
    # all tissue is padding instead.
    old_zero = background is not None and background < 0 and (scored or -background <= values.max())
    if background is not None and old_zero and (values < background).mean() <= _RINGING:
        return background
    return float(values.min()) if scored else 0.0
