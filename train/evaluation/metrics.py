"""Scores of a mask against the truth, in the scan's own grid; distances by MONAI.

Conventions, where libraries disagree or divide by zero:

* HD95 is the larger of the two directed 95th percentiles of surface distances, in mm.
* Nothing found of a tumour: Dice 0, HD95 the image's diagonal in mm; such cases are in every mean and counted beside
  it, because a library that drops them rewards missing a tumour.
* A case free of tumour, its truth empty: Dice, HD95 and sensitivity are undefined (NaN), whatever is found, and a mean
  is of cases with a tumour. 1 or 0 for one voxel more or less, and a diagonal that the field of view decides, would
  tell of the share of such cases and not of the network. They are told apart (`TumourFree`): how many, in how many
  nothing is found, and the false volume. Who wants the challenges' reading (Dice 1 if nothing is found, else 0) has
  what it takes in ``cases.csv``.
* Specificity is undefined (NaN) where the truth fills the image.
* Specificity counts every voxel of the image, background included, as the literature does; it is high for
  almost any mask.
* What a lesion is, and how parts of the mask are matched with lesions, stands in `train.evaluation.lesions`. A lesion
  is missed if no voxel of it is found.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scans.image.box import tight_box
from train.evaluation.lesions import LEAST_ML, Lesions, match
from train.evaluation.statistics import Interval, bootstrap_mean, spread

METRICS = {"dice": "Dice", "sensitivity": "sensitivity", "specificity": "specificity", "hd95_mm": "HD95 (mm)"}
AMOUNTS = (
    "volume_ml", "truth_ml", "missed_ml", "false_ml",
    "lesions", "missed_lesions", "missed_lesions_ml", "detected_lesions", "lesion_dice", "poor_parts", "false_parts",
    "false_parts_ml", "specks",
)  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """Scores of one case; ``nan`` where undefined. Volumes in ml.

    ``missed_ml`` is of the truth and not found, ``false_ml`` found and not true. ``by_lesion`` has the lesions and
    false parts one by one, from which all counts of them come.
    """

    dice: float
    sensitivity: float
    specificity: float
    hd95_mm: float
    volume_ml: float
    truth_ml: float
    missed_ml: float
    false_ml: float
    by_lesion: Lesions

    @property
    def lesions(self) -> int:
        """Number of lesions."""
        return len(self.by_lesion.each)

    @property
    def missed_lesions(self) -> int:
        """Lesions of which nothing is found."""
        return self.lesions - self.by_lesion.touched

    @property
    def missed_lesions_ml(self) -> float:
        """Volume of these."""
        return math.fsum(lesion.volume_ml for lesion in self.by_lesion.each if not lesion.touched)

    @property
    def detected_lesions(self) -> int:
        """Lesions that are found well enough."""
        return self.by_lesion.detected

    @property
    def lesion_dice(self) -> float:
        """Mean Dice of the lesions; NaN without any."""
        return self.by_lesion.dice

    @property
    def poor_parts(self) -> int:
        """What touches a lesion, merged, and does not detect it."""
        return self.by_lesion.poor

    @property
    def false_parts(self) -> int:
        """Parts of the mask that touch nothing true."""
        return len(self.by_lesion.false_ml)

    @property
    def false_parts_ml(self) -> float:
        """Volume of these."""
        return math.fsum(self.by_lesion.false_ml)

    @property
    def specks(self) -> int:
        """Parts of the truth too small for a lesion."""
        return self.by_lesion.specks

    @property
    def tumour_free(self) -> bool:
        """Whether the truth is empty."""
        return self.truth_ml == 0

    @property
    def nothing_found(self) -> bool:
        """Whether the mask is empty."""
        return self.volume_ml == 0


def score(
    mask: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, float, float], least_ml: float = LEAST_ML
) -> Scores:
    """Score a mask.

    Parameters
    ----------
    mask, truth : ndarray, shape (z, y, x)
        Non-zero inside the tumour, on one grid.
    spacing_mm : tuple of float
        Voxel spacing (z, y, x) in mm.
    least_ml : float
        As of `train.evaluation.lesions.match`.
    """
    mask, truth = np.asarray(mask) != 0, np.asarray(truth) != 0
    true_positive, found, real = (int(np.count_nonzero(voxels)) for voxels in (mask & truth, mask, truth))
    false_positive, false_negative = found - true_positive, real - true_positive
    true_negative = truth.size - found - false_negative
    voxel_ml = math.prod(spacing_mm) / 1000.0
    return Scores(
        dice=2.0 * true_positive / (found + real) if real else math.nan,
        sensitivity=true_positive / real if real else math.nan,
        specificity=true_negative / (true_negative + false_positive) if real < truth.size else math.nan,
        hd95_mm=hausdorff95(mask, truth, spacing_mm) if real else math.nan,
        volume_ml=found * voxel_ml,
        truth_ml=real * voxel_ml,
        missed_ml=false_negative * voxel_ml,
        false_ml=false_positive * voxel_ml,
        by_lesion=match(mask, truth, voxel_ml, least_ml),
    )


def hausdorff95(mask: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Return the 95th percentile Hausdorff distance in mm; 0 of two empty masks, the image's diagonal of one."""
    if not mask.any() and not truth.any():
        return 0.0
    if not mask.any() or not truth.any():
        sides = np.array(mask.shape) * np.array(spacing_mm)
        return float(np.linalg.norm(sides))
    import torch
    from monai.metrics import compute_hausdorff_distance

    # MONAI erodes inside the box around both masks; a margin keeps surfaces on the image's border surfaces.
    box = tight_box(mask | truth)
    a, b = (torch.from_numpy(np.pad(m[box], 1).astype(np.float32))[None, None] for m in (mask, truth))
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn of an argument that they pass to themselves.
        warnings.simplefilter("ignore", FutureWarning)
        distance = compute_hausdorff_distance(
            a, b, include_background=True, percentile=95, directed=False, spacing=list(spacing_mm)
        )
    return float(distance[0, 0])


@dataclass(frozen=True)
class Summary(Interval):
    """One metric over cases: mean and sample deviation over the ``count`` cases where it is defined.

    ``low`` and ``high`` are the 95 % bootstrap interval of the mean.
    """

    deviation: float


@dataclass(frozen=True)
class TumourFree:
    """What is found in cases whose truth is empty.

    Attributes
    ----------
    cases : int
    nothing_found : int
        Of these, in how many nothing is found.
    false_ml : float
        Mean over them of the volume found, in ml; NaN without any.
    """

    cases: int
    nothing_found: int
    false_ml: float

    @classmethod
    def of(cls, scores: Sequence[Scores]) -> "TumourFree":
        """Take those that are free of tumour from all cases."""
        free = [case for case in scores if case.tumour_free]
        false_ml = math.fsum(case.false_ml for case in free) / len(free) if free else math.nan
        return cls(len(free), sum(case.nothing_found for case in free), false_ml)

    def said(self, of: int) -> str:
        """Say how many of the cases are free of what is looked for."""
        have = "has" if self.cases == 1 else "have"
        return f"{self.cases} of {of} {'case' if of == 1 else 'cases'} {have} an empty reference"

    def found(self) -> str:
        """Say what is found in them."""
        return f"nothing is found in {self.nothing_found} of {self.cases}, falsely {ml(self.false_ml)} ml on average"


def ml(volume: float) -> str:
    """Return a volume as a page tells it; one that is not 0 never reads so."""
    return f"{volume:.1f}" if volume >= 0.1 or not volume else f"{volume:.2g}"


def nothing_found(scores: Sequence[Scores]) -> int:
    """Count the cases with a tumour of which nothing is found."""
    return sum(case.nothing_found and not case.tumour_free for case in scores)


def summarise(scores: Sequence[Scores]) -> dict[str, Summary]:
    """Mean, deviation and interval of every metric; NaN where the cases do not determine it."""
    summary = {}
    for metric in METRICS:
        values = [getattr(case, metric) for case in scores]
        summary[metric] = Summary(**vars(bootstrap_mean(values)), deviation=spread(values).deviation)
    return summary
