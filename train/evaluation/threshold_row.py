"""The row to beat: smooth, threshold, keep the largest component.

What a user would try first. Its smoothing, level and side are chosen on composites of the synthetic corpus
alone, so that it has seen exactly what the network has, and no real tumour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scans.image.components import largest_component
from scans.image.smoothing import smooth
from synth.corpus import Sample
from train.network.dice import dice

SIGMAS_MM = (0.5, 1.0, 2.0, 3.0)
TAILS = (0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005)  # share of ROI voxels beyond a candidate level
REFINED = 8  # levels tried between the best candidate's neighbours


@dataclass(frozen=True)
class Threshold:
    """A rule that needs no learning.

    Attributes
    ----------
    sigma_mm : float
        Gaussian smoothing.
    level : float
        In the network's intensity units.
    side : str
        Whether a tumour lies ``above`` or ``below`` the level.
    dice : float
        Mean Dice on the composites it was chosen on.
    """

    sigma_mm: float
    level: float
    side: Literal["above", "below"]
    dice: float

    def __call__(self, intensity: np.ndarray, roi: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
        """Segment a scan.

        Parameters
        ----------
        intensity : ndarray, shape (z, y, x)
            In the network's units, 0 outside the ROI.
        roi : ndarray of bool, shape (z, y, x)
        spacing_mm : tuple of float
            (z, y, x).

        Returns
        -------
        ndarray of bool, shape (z, y, x)
        """
        return _segment(smooth(intensity, roi, self.sigma_mm, spacing_mm), roi, self.level, self.side)


def choose_threshold(samples: Sequence[Sample], spacings_mm: Sequence[tuple[float, float, float]]) -> Threshold:
    """Find the smoothing, level and side with the best mean Dice, first on a coarse grid, then around its best.

    Parameters
    ----------
    samples : sequence of Sample
        Composites with their masks.
    spacings_mm : sequence of tuple
        Voxel spacing (z, y, x) of each.
    """
    rois = [(sample.normal != 0) | (sample.composite != 0) for sample in samples]
    truths = [sample.mask != 0 for sample in samples]
    best = Threshold(SIGMAS_MM[0], 0.0, "above", -1.0)
    for sigma_mm in SIGMAS_MM:
        smoothed = [
            smooth(sample.composite, roi, sigma_mm, spacing)
            for sample, roi, spacing in zip(samples, rois, spacings_mm, strict=True)
        ]
        inside = np.concatenate([volume[roi] for volume, roi in zip(smoothed, rois, strict=True)])
        for side in ("above", "below"):
            tails = np.array(TAILS)
            levels = np.quantile(inside, 1 - tails if side == "above" else tails).tolist()
            scored = _scores(smoothed, rois, truths, levels, side, best.dice)
            at = int(np.argmax(scored))
            if scored[at] > best.dice:
                around = levels[max(0, at - 1)], levels[min(len(levels) - 1, at + 1)]
                finer = np.linspace(*around, REFINED + 2)[1:-1].tolist()
                scored += _scores(smoothed, rois, truths, finer, side, scored[at])
                levels += finer
                at = int(np.argmax(scored))
                best = Threshold(sigma_mm, float(levels[at]), side, float(scored[at]))
    return best


def _scores(
    smoothed: list[np.ndarray],
    rois: list[np.ndarray],
    truths: list[np.ndarray],
    levels: list[float],
    side: str,
    beaten: float,
) -> list[float]:
    """Return the mean Dice of each level; -1 where it is below `beaten` or another level's for certain.

    To find components takes time, and is left out where they cannot help: the largest one overlaps the truth by o
    voxels at most, all of it beyond the level, so that its Dice is at most 2 o / (o + truth).
    """
    most = np.array([_most(volume[truth], levels, side) for volume, truth in zip(smoothed, truths, strict=True)])
    scores = [-1.0] * len(levels)
    for at in np.argsort(-most.mean(axis=0), kind="stable"):
        each = most[:, at].copy()
        for number, (volume, roi, truth) in enumerate(zip(smoothed, rois, truths, strict=True)):
            if each.mean() < beaten - 1e-9:
                break
            each[number] = dice(_segment(volume, roi, levels[at], side), truth)
        else:
            scores[at] = float(each.mean())
            beaten = max(beaten, scores[at])
    return scores


def _most(tumour: np.ndarray, levels: list[float], side: str) -> np.ndarray:
    """Return the highest Dice that each level allows, from the smoothed voxels of the true tumour."""
    if not tumour.size:
        return np.ones(len(levels))
    ordered, compared = np.sort(tumour), np.asarray(levels, tumour.dtype)
    below = np.searchsorted(ordered, compared, side="right" if side == "above" else "left")
    beyond = tumour.size - below if side == "above" else below
    return 2 * beyond / (beyond + tumour.size)


def _segment(smoothed: np.ndarray, roi: np.ndarray, level: float, side: str) -> np.ndarray:
    beyond = smoothed > level if side == "above" else smoothed < level
    return largest_component(beyond & roi)
