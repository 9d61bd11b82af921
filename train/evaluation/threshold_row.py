"""The row to beat: smooth, threshold, keep the large parts.

What a radiologist would try first. The rule is the best of a small family, chosen on composites of the synthetic corpus
alone, so that it has seen exactly what the network has, and no real tumour. Of a rule are chosen

* the smoothing, one of ``SIGMAS_MM``;
* what levels count from: zero of the network's units, or the median of the organ in that scan, in raw units if scans
  share a scale of them (CT: HU), else in standard deviations of the scan;
* the side: a tumour is brighter or darker;
* the level, a multiple of a round number, a tenth of the network's unit or less: 0.1 of it, or 5 HU where it is 51 HU;
* which parts are kept: the largest, the two largest, or all of at least one of ``LEAST_ML``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scans.image.components import Parts
from scans.image.smoothing import smooth
from synth.corpus import Sample
from train.network.channels import Channel
from train.network.record import Threshold

SIGMAS_MM = (2.0, 1.0, 3.0, 0.0)  # what is likely first: the sooner a good rule is known, the less must be tried
LEAST_ML = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
KEPT = ((1, 0.0), (2, 0.0), *((0, least_ml) for least_ml in LEAST_ML))  # so many parts, 0: all; of such a volume
TAILS = (0.0005, 0.5)  # share of all ROI voxels that lie beyond a level: what is worth trying
STEP = 0.1  # between levels, in the network's units
_FURTHEST = 80  # steps from what levels count from

Unit = Literal["standard deviations", "HU", "raw units"]
Origin = Literal["zero", "median"]
Side = Literal["above", "below"]
_ORIGINS: tuple[Origin, ...] = ("zero", "median")


def unit_of(channel: Channel) -> tuple[Unit, float]:
    """Return what a distance from the median is told in, and how much of it one of the network's units is."""
    fixed = channel.region.normalisation.scale if channel.statistics is None else channel.statistics.std
    if fixed is None:
        return "standard deviations", 1.0
    return "HU" if channel.region.modality == "CT" else "raw units", fixed


def segment(
    rule: Threshold, intensity: np.ndarray, roi: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Segment a scan by a rule.

    Parameters
    ----------
    rule : Threshold
    intensity : ndarray, shape (z, y, x)
        In the network's units, 0 outside the ROI.
    roi : ndarray of bool, shape (z, y, x)
    spacing_mm : tuple of float
        (z, y, x).

    Returns
    -------
    ndarray of bool, shape (z, y, x)
    """
    measured = smooth(intensity, roi, rule.sigma_mm, spacing_mm)
    if rule.origin == "median":
        measured = _from_median(measured, np.median(intensity[roi]), rule.unit_size)
    parts = _parts(measured, roi, rule.level, rule.side)
    kept = _kept(parts.sizes, rule.parts, rule.least_ml, math.prod(spacing_mm) / 1000)
    mask = np.zeros(roi.shape, bool)
    mask[parts.box] = np.concatenate([[False], kept])[parts.labels]
    return mask


def _from_median(values: np.ndarray, median: float, unit_size: float) -> np.ndarray:
    return (values - np.float32(median)) * np.float32(unit_size)


def _parts(measured: np.ndarray, roi: np.ndarray, level: float, side: Side) -> Parts:
    # Through corners and edges what is found would leak into the noise around it.
    return Parts.of((measured > level if side == "above" else measured < level) & roi, faces=True)


def _kept(sizes: np.ndarray, count: int, least_ml: float, voxel_ml: float) -> np.ndarray:
    """Return which parts are kept; among equals the first in scan order."""
    if not count:
        return sizes * voxel_ml >= least_ml
    kept = np.zeros(sizes.size, bool)
    kept[np.argsort(-sizes, kind="stable")[:count]] = True
    return kept


def choose_threshold(
    samples: Sequence[Sample],
    spacings_mm: Sequence[tuple[float, float, float]],
    unit: Unit = "standard deviations",
    unit_size: float = 1.0,
) -> Threshold:
    """Find the rule with the best mean Dice.

    Of equal ones it is the first: in the order of ``SIGMAS_MM``, from zero before from the median, above before below,
    the level with least beyond it, in the order of ``KEPT``.

    Parameters
    ----------
    samples : sequence of Sample
        Composites with their masks.
    spacings_mm : sequence of tuple
        Voxel spacing (z, y, x) of each.
    unit, unit_size
        As of `unit_of`.
    """
    rois = [(sample.normal != 0) | (sample.composite != 0) for sample in samples]
    medians = [float(np.median(sample.composite[roi])) for sample, roi in zip(samples, rois, strict=True)]
    best = Threshold(sigma_mm=SIGMAS_MM[0], level=0.0, side="above", dice=-1.0)
    lost = np.zeros(len(samples))
    for sigma_mm in SIGMAS_MM:
        smoothed = [
            smooth(sample.composite, roi, sigma_mm, spacing)
            for sample, roi, spacing in zip(samples, rois, spacings_mm, strict=True)
        ]
        for origin in _ORIGINS:
            size = unit_size if origin == "median" else 1.0
            if origin == "median":
                smoothed = [_from_median(one, median, size) for one, median in zip(smoothed, medians, strict=True)]
            scans = [
                _Scan(one, roi, sample.mask != 0, math.prod(spacing) / 1000)
                for one, roi, sample, spacing in zip(smoothed, rois, samples, spacings_mm, strict=True)
            ]
            for side, levels, beyond in _worth_trying(scans, _round_number(size * STEP)):
                scores = _scores(scans, levels, beyond, side, best.dice, lost)
                at, kept = np.unravel_index(int(np.argmax(scores)), scores.shape)
                if scores[at, kept] > best.dice:
                    parts, least_ml = KEPT[kept]
                    best = Threshold(
                        sigma_mm=sigma_mm, level=levels[at], side=side, dice=float(scores[at, kept]), origin=origin,
                        unit=unit, unit_size=size, parts=parts, least_ml=least_ml,
                    )  # fmt: skip
    return best


def _round_number(most: float) -> float:
    """Return the largest of 1, 2 and 5, times a power of ten, that is not above a number."""
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    return max(each * power for each in (1, 2, 5) if each * power <= most * (1 + 1e-9))


@dataclass(frozen=True)
class _Scan:
    """A smoothed composite, what levels are compared with, and its tumour; arrays of shape (z, y, x)."""

    measured: np.ndarray
    roi: np.ndarray
    truth: np.ndarray
    voxel_ml: float

    def steps(self, step: float) -> np.ndarray:
        """Return for each voxel of the ROI how many levels, multiples of a step, lie below it."""
        return np.clip(np.floor(self.measured[self.roi] / step), -_FURTHEST - 1, _FURTHEST).astype(int) + _FURTHEST + 1

    def found(self, levels: Sequence[float], side: Side) -> np.ndarray:
        """Count the voxels of the tumour that lie beyond each level."""
        ordered = np.sort(self.measured[self.truth & self.roi])
        compared = np.asarray(levels, ordered.dtype)
        if side == "below":
            return np.searchsorted(ordered, compared, side="left")
        return ordered.size - np.searchsorted(ordered, compared, side="right")

    def parts(self, level: float, side: Side) -> tuple[np.ndarray, np.ndarray]:
        """Return the voxels of each part beyond a level, and how many of them are of the tumour."""
        parts = _parts(self.measured, self.roi, level, side)
        within = np.bincount(parts.labels[self.truth[parts.box]], minlength=parts.sizes.size + 1)
        return parts.sizes, within[1:]


def _worth_trying(scans: Sequence[_Scan], step: float) -> Iterator[tuple[Side, list[float], np.ndarray]]:
    """Yield for each side the levels, that with least beyond it first, and how many ROI voxels of each scan are."""
    levels = np.round(step * np.arange(-_FURTHEST, _FURTHEST + 1), 10)
    counted = np.stack([np.bincount(scan.steps(step), minlength=levels.size + 1) for scan in scans])
    below = counted.cumsum(axis=1)[:, :-1]
    above = counted.sum(axis=1, keepdims=True) - below
    sides: tuple[tuple[Side, np.ndarray, slice], ...] = (
        ("above", above, slice(None, None, -1)),
        ("below", below, slice(None)),
    )
    for side, beyond, order in sides:
        share = beyond.sum(axis=0) / counted.sum()
        tried = np.flatnonzero((share >= TAILS[0]) & (share <= TAILS[1]))[order]
        if tried.size:
            yield side, levels[tried].tolist(), beyond[:, tried]


def _scores(
    scans: Sequence[_Scan], levels: Sequence[float], beyond: np.ndarray, side: Side, beaten: float, lost: np.ndarray
) -> np.ndarray:
    """Return the mean Dice of each level and of each of ``KEPT``; -1 where another is better for certain.

    To find parts takes time, and is left out where they cannot help. What is kept overlaps the tumour of t voxels by
    those o that lie beyond the level at most: its Dice is at most 2 o / (o + t). Once the parts beyond a level are
    known, there is a bound for all levels with more beyond them, as parts only grow. Say that one part has p
    voxels of the tumour and f others. With it Dice is at most 2 o / (o + f + t), and without it p are not found.

    Parameters
    ----------
    scans : sequence of _Scan
    levels : sequence of float
        That with least beyond it first.
    beyond : ndarray of int, shape (scans, levels)
        Voxels of the ROI beyond each level; a guess which levels are good, to be tried first.
    side : str
    beaten : float
        Mean Dice that must be reached.
    lost : ndarray, shape (scans,)
        By how much each scan was last below its bound. Where that is much, a bad level shows first. Written to.

    Returns
    -------
    ndarray, shape (levels, KEPT)
    """
    sizes = np.array([[np.count_nonzero(scan.truth)] for scan in scans])
    found = np.stack([scan.found(levels, side) for scan in scans])
    most = _dice(found, found, sizes)
    scores = np.full((len(levels), len(KEPT)), -1.0)
    for at in np.argsort(-_dice(found, beyond, sizes).mean(axis=0), kind="stable"):
        each = np.repeat(most[:, at, None], len(KEPT), axis=1)
        for number in np.argsort(-lost, kind="stable"):
            scan = scans[number]
            if each.mean(axis=0).max() < beaten - 1e-9:
                break
            voxels, within = scan.parts(levels[at], side)
            kept = [_kept(voxels, count, least_ml, scan.voxel_ml) for count, least_ml in KEPT]
            size = int(sizes[number, 0])
            each[number] = [_dice(within[some].sum(), voxels[some].sum(), size) for some in kept]
            lost[number] = most[number, at] - each[number].max()
            if within.any():
                largest = within.argmax()
                with_it = _dice(found[number], found[number] + voxels[largest] - within[largest], size)
                others = np.maximum(found[number] - within[largest], 0)
                bound = np.maximum(with_it, _dice(others, others, size))
                most[number, at:] = np.minimum(most[number], bound)[at:]
        else:
            scores[at] = each.mean(axis=0)
            beaten = max(beaten, scores[at].max())
    return scores


def _dice(overlap: Any, found: Any, real: Any) -> Any:
    """Return Dice by counts of voxels; 1 of two empty masks, as `train.network.dice.dice`."""
    total = np.asarray(found + real)
    return np.where(total, 2.0 * overlap / np.maximum(total, 1), 1.0)
