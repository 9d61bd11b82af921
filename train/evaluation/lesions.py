"""Scores per lesion: which are found, how well, and what is found where there is none.

* A lesion is a part of the truth whose voxels touch, be it at a corner, of at least ``LEAST_ML``: the 50 voxels of
  1 mm³ that BraTS 2023 asks of a lesion. Smaller parts, specks, are no lesions; what is found of them is not false.
* Parts of truth and mask that overlap, and whatever overlaps those, are merged and scored as one, as LiTS does (Bilic
  et al. 2023): a mask that covers two lesions and the bridge between them has one Dice, which both lesions get; so has
  a lesion that is found in three pieces. Every lesion keeps its own volume and counts once, whatever the mask is like,
  so that two methods are told of the same number of lesions. LiTS counts merged ones once.
* A lesion is touched if any voxel of it is found, and detected if its Dice is at least ``DETECTED``. LiTS asks for a
  ratio of intersection and union instead, of 0.5; a Dice of 0.2 is a ratio of 0.11. To touch is cheap for a mask that
  covers all; to be detected is not.
* A part of the mask that overlaps no part of the truth is false if it is as large as a lesion must be. Of two
  precisions that of touched lesions is touched / (touched + false parts), that of detected lesions is detected /
  (detected + false parts + what was merged and does not reach ``DETECTED``).
* Recall, precision and Dice are of all lesions of all cases together, undefined (NaN) where there is nothing to count.
  Their intervals draw cases, not lesions: those of one patient have much in common.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from scans.image.components import Parts
from train.evaluation.statistics import Interval, bootstrap_mean, bootstrap_ratio

LEAST_ML = 0.05
DETECTED = 0.2
SIZES_ML = (0.0, 1.0, 10.0, math.inf)  # of a lesion or a false part, the upper end not included


@dataclass(frozen=True)
class Lesion:
    """One lesion: its volume in ml, and the Dice of it and all that was merged with it; 0 if it is not touched."""

    volume_ml: float
    dice: float

    @property
    def touched(self) -> bool:
        """Whether any voxel is found."""
        return self.dice > 0

    @property
    def detected(self) -> bool:
        """Whether enough is found, and not too much around it."""
        return self.dice >= DETECTED


@dataclass(frozen=True)
class Lesions:
    """What came of the lesions of one case.

    Attributes
    ----------
    each : tuple of Lesion
        In scan order (z, y, x) of their first voxels.
    false_ml : tuple of float
        Volume of each false part.
    poor : int
        Merged parts of the mask that touch a lesion and do not detect it.
    specks : int
        Parts of the truth that are too small for a lesion.
    """

    each: tuple[Lesion, ...] = ()
    false_ml: tuple[float, ...] = ()
    poor: int = 0
    specks: int = 0

    @property
    def touched(self) -> int:
        """Lesions of which any voxel is found."""
        return sum(lesion.touched for lesion in self.each)

    @property
    def detected(self) -> int:
        """Lesions with a Dice of at least ``DETECTED``."""
        return sum(lesion.detected for lesion in self.each)

    @property
    def dice(self) -> float:
        """Mean Dice of the lesions, NaN without any."""
        return math.fsum(lesion.dice for lesion in self.each) / len(self.each) if self.each else math.nan

    def of_size(self, low_ml: float, high_ml: float) -> "Lesions":
        """Return the lesions and false parts of a size, the upper end not included; the rest is not of a size."""
        return Lesions(
            tuple(lesion for lesion in self.each if low_ml <= lesion.volume_ml < high_ml),
            tuple(volume for volume in self.false_ml if low_ml <= volume < high_ml),
        )


def match(mask: np.ndarray, truth: np.ndarray, voxel_ml: float, least_ml: float = LEAST_ML) -> Lesions:
    """Match the parts of a mask with the lesions of the truth.

    Parameters
    ----------
    mask, truth : ndarray of bool, shape (z, y, x)
        On one grid.
    voxel_ml : float
        Volume of a voxel.
    least_ml : float
        Volume of a lesion, and of a false part, at the least.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    real, found = Parts.of(truth), Parts.of(mask)
    lesions, nodes = real.sizes.size, real.sizes.size + found.sizes.size
    if not nodes:
        return Lesions()
    both = np.nonzero(mask & truth)
    pairs, shared = np.unique(_labels(real, both) * nodes + _labels(found, both), return_counts=True)
    ends = pairs // nodes, lesions + pairs % nodes
    edges = coo_array((np.ones(pairs.size), ends), shape=(nodes, nodes))
    merged, of = connected_components(edges, directed=False)
    overlap = np.bincount(of[ends[0]], shared, merged)
    dice = 2 * overlap / np.bincount(of, np.concatenate([real.sizes, found.sizes]), merged)
    is_lesion = real.sizes * voxel_ml >= least_ml
    dices = dice[of[:lesions]][is_lesion].tolist()
    volumes = (real.sizes[is_lesion] * voxel_ml).tolist()
    false = found.sizes[(overlap[of[lesions:]] == 0) & (found.sizes * voxel_ml >= least_ml)]
    with_lesion = dice[np.unique(of[:lesions][is_lesion])]
    return Lesions(
        each=tuple(Lesion(*each) for each in zip(volumes, dices, strict=True)),
        false_ml=tuple((false * voxel_ml).tolist()),
        poor=int(np.count_nonzero((with_lesion > 0) & (with_lesion < DETECTED))),
        specks=int(np.count_nonzero(~is_lesion)),
    )


def _labels(parts: Parts, voxels: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the number of the part of each voxel, from 0; `voxels` are indices (z, y, x) within the mask."""
    z, y, x = (index - side.start for index, side in zip(voxels, parts.box, strict=True))
    return parts.labels[z, y, x].astype(np.int64) - 1


@dataclass(frozen=True)
class LesionSummary:
    """Lesions of all cases, or those of one size; see the conventions at the top.

    Attributes
    ----------
    name : str
        Of the size.
    lesions : int
    touched, detected : int
    recall_touched, recall_detected, precision_touched, precision_detected, dice : Interval
        ``count`` is what they are shares of. What is merged has no one size, so that a size has no precision of
        detected lesions.
    false_per_scan : Interval
    """

    name: str
    lesions: int
    touched: int
    detected: int
    recall_touched: Interval
    recall_detected: Interval
    precision_touched: Interval
    precision_detected: Interval
    dice: Interval
    false_per_scan: Interval

    @classmethod
    def of(cls, cases: Sequence[Lesions], name: str) -> "LesionSummary":
        """Sum up cases; those without a lesion count for what is false in them."""
        lesions, touched, detected, false, poor = (
            np.array(numbers, int)
            for numbers in (
                [len(case.each) for case in cases],
                [case.touched for case in cases],
                [case.detected for case in cases],
                [len(case.false_ml) for case in cases],
                [case.poor for case in cases],
            )
        )
        return cls(
            name=name,
            lesions=int(lesions.sum()),
            touched=int(touched.sum()),
            detected=int(detected.sum()),
            recall_touched=bootstrap_ratio(touched, lesions),
            recall_detected=bootstrap_ratio(detected, lesions),
            precision_touched=bootstrap_ratio(touched, touched + false),
            precision_detected=bootstrap_ratio(detected, detected + false + poor),
            dice=bootstrap_ratio([math.fsum(lesion.dice for lesion in case.each) for case in cases], lesions),
            false_per_scan=bootstrap_mean(false.tolist()),
        )

    def said(self) -> str:
        """Say in a sentence what was found."""
        if not self.lesions:
            return f"there is no lesion to find; {_short(self.false_per_scan)} false parts a scan."
        return (
            f"{self.touched} of {self.lesions} lesions are touched, {self.detected} with a Dice of {DETECTED:g} or "
            f"more; precision {_short(self.precision_touched)} and {_short(self.precision_detected)}, "
            f"Dice a lesion {_short(self.dice)}, {_short(self.false_per_scan)} false parts a scan."
        )


def _short(number: Interval) -> str:
    return "undefined" if math.isnan(number.mean) else f"{number.mean:.2f}"


def summarise_lesions(cases: Sequence[Lesions]) -> list[LesionSummary]:
    """Return the summary of all lesions, then of each size, from small to large."""
    undefined = Interval(math.nan, math.nan, math.nan, 0)
    summaries = [LesionSummary.of(cases, "all")]
    for low, high in pairwise(SIZES_ML):
        of_size = LesionSummary.of([case.of_size(low, high) for case in cases], size_name(low, high))
        summaries.append(replace(of_size, precision_detected=undefined))
    return summaries


def size_name(low_ml: float, high_ml: float) -> str:
    """Say which volumes a size has, the upper end not included."""
    if not low_ml:
        return f"under {high_ml:g} ml"
    return f"{low_ml:g} ml and more" if math.isinf(high_ml) else f"{low_ml:g} to {high_ml:g} ml"
