"""Choosing how a network is read, on artificial tumours alone: by which layer, at which level, with which clean-up.

Every candidate is scored by its mean Dice over the samples, each corpus counting alike. The plain reading stays unless
another gains enough: a choice among many is a little too good on the samples it was made on. A clean-up must gain more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from scans.image.components import keep_parts
from scans.image.smoothing import smooth
from train.inference.reading import Reading, Readings, Scored, Way
from train.network.dice import dice

GAIN = 0.005  # least Dice that a reading must gain over the plain one to be used
# Least Dice that the largest part alone must gain over all parts. Artificial scans have one tumour each, so that there
# it gains by construction; real ones may have several, and where the largest part is a wrong one the tumour is lost.
CLEAN_GAIN = 0.02
LEVELS = tuple(round(0.05 * step, 2) for step in (10, 9, 11, 8, 12, 7, 13, 6, 14, 5, 15, 4, 16, 3, 17, 2, 18))
SMOOTH_MM = (0.0, 1.0, 2.0, 4.0)
LEAST_ML = (1.0, 0.5, 0.3, 0.1)  # least volumes of a part that are tried, none if each of them costs Dice
TAILS = 24  # residuals tried as scale
WAYS: tuple[Way, ...] = ("mask", "residual", "both")  # beside the plain one, the simplest first
_EQUAL = 1e-9  # Dice that differ by less are alike, and the simpler reading wins


@dataclass(frozen=True)
class Found:
    """What a network found in one sample; all volumes of shape (z, y, x).

    Attributes
    ----------
    probability : ndarray of float32
        Of the mask channel.
    residual : ndarray of float32
        `train.inference.reading.distance` of the composite from the predicted normal.
    roi, truth : ndarray of bool
    spacing_mm : tuple of float
        (z, y, x).
    """

    probability: np.ndarray = field(repr=False)
    residual: np.ndarray = field(repr=False)
    roi: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)
    spacing_mm: tuple[float, float, float]


def choose_readings(corpora: Sequence[Sequence[Found]]) -> Readings:
    """Return the best reading of each way, and which to use.

    A pure function of what was found. Of readings as good as each other the simplest is taken: mask before residual
    before both, levels near 0.5, little smoothing, no clean-up.

    Parameters
    ----------
    corpora : sequence of sequence of Found
        The samples of each corpus; one that is empty does not count.

    Raises
    ------
    ValueError
        If there is no sample at all.
    """
    kept = [samples for samples in corpora if samples]
    if not kept:
        raise ValueError("no samples to choose a reading on")
    samples = [sample for each in kept for sample in each]
    weights = np.concatenate([np.full(len(each), 1 / (len(kept) * len(each))) for each in kept])
    plain = float(weights @ [dice(sample.probability >= 0.5, sample.truth) for sample in samples])
    best: dict[str, Scored] = {}
    shares_of: dict[str, list[np.ndarray]] = {}
    for reading, shares in _ways(samples, weights):
        beaten = _worth(best[reading.by]) if reading.by in best else -1.0
        scored = _best_level(reading, shares, [sample.truth for sample in samples], weights, beaten)
        if _worth(scored) > beaten + _EQUAL:
            best[reading.by], shares_of[reading.by] = scored, shares
    chosen: Way = "plain"
    needed = plain + GAIN
    for way in WAYS:
        if _worth(best[way]) >= needed:
            chosen, needed = way, _worth(best[way]) + _EQUAL
    if chosen != "plain":
        best[chosen] = _without_specks(best[chosen], shares_of[chosen], samples, weights)
    return Readings(chosen=chosen, plain=Scored(dice=plain), **best, samples=tuple(len(samples) for samples in corpora))


def _ways(samples: Sequence[Found], weights: np.ndarray) -> Iterator[tuple[Reading, list[np.ndarray]]]:
    """Yield each way with each smoothing, the simplest first, and its share of every sample."""
    yield Reading(), [sample.probability for sample in samples]
    for sigma_mm in SMOOTH_MM:
        smoothed = [smooth(sample.residual, sample.roi, sigma_mm, sample.spacing_mm) for sample in samples]
        scale = _scale(smoothed, samples, weights)
        for by in ("residual", "both"):
            reading = Reading.model_validate({"by": by, "smooth_mm": sigma_mm, "residual_scale": scale})
            yield (
                reading,
                [reading.mixed(far, sample.probability) for far, sample in zip(smoothed, samples, strict=True)],
            )


def _scale(smoothed: Sequence[np.ndarray], samples: Sequence[Found], weights: np.ndarray) -> float:
    """Return the residual that parts tumours best from the rest; 1 where there is no residual."""
    inside = [far[sample.roi] for far, sample in zip(smoothed, samples, strict=True)]
    pooled = np.concatenate(inside)
    if not pooled.size or not pooled.max() > 0:
        return 1.0
    levels = np.unique(np.quantile(pooled, 1 - np.geomspace(0.3, 0.001, TAILS)).astype(np.float32))
    levels = levels[levels > 0]
    if not levels.size:
        return float(pooled.max())
    each = [_dices(far, sample.truth, levels) for far, sample in zip(smoothed, samples, strict=True)]
    return float(levels[int(np.argmax(weights @ each))])


def _best_level(
    reading: Reading, shares: Sequence[np.ndarray], truths: Sequence[np.ndarray], weights: np.ndarray, beaten: float
) -> Scored:
    """Return a reading at its best level, with the largest part alone if that gains enough and beats `beaten`."""
    levels = np.array(LEVELS, np.float32)
    whole = weights @ [_dices(share, truth, levels) for share, truth in zip(shares, truths, strict=True)]
    at = _first_best(whole)
    best = Scored(**{**reading.model_dump(), "level": LEVELS[at], "dice": _in_bounds(whole[at])})
    # To find parts takes time, and is left out where it cannot help: the largest part overlaps the truth by o voxels
    # at most, so that its Dice is at most 2 o / (o + truth).
    most = np.array([_most(share, truth, levels) for share, truth in zip(shares, truths, strict=True)])
    for at in np.argsort(-(weights @ most), kind="stable"):
        needed = max(_worth(best), beaten) + CLEAN_GAIN + _EQUAL
        each = most[:, at].copy()
        for number, (share, truth) in enumerate(zip(shares, truths, strict=True)):
            if weights @ each <= needed:
                break
            mask = share >= levels[at]
            keep_parts(mask, largest=True)
            each[number] = dice(mask, truth)
        if weights @ each > needed:
            changed = {"level": LEVELS[at], "clean": "largest", "dice": _in_bounds(weights @ each)}
            best = Scored(**{**reading.model_dump(), **changed})
    return best


def _without_specks(
    scored: Scored, shares: Sequence[np.ndarray], samples: Sequence[Found], weights: np.ndarray
) -> Scored:
    """Return a reading that leaves out small parts: of the volumes tried the largest that costs no Dice.

    Specks weigh little in a Dice, and each is a false lesion to who reads the scan.
    """
    if scored.clean == "largest":
        return scored
    for least_ml in LEAST_ML:
        each = []
        for share, sample in zip(shares, samples, strict=True):
            mask = share >= np.float32(scored.level)
            keep_parts(mask, least_ml=least_ml, voxel_mm3=float(np.prod(sample.spacing_mm)))
            each.append(dice(mask, sample.truth))
        overlap = float(weights @ each)
        if overlap >= scored.dice - _EQUAL:
            return scored.model_copy(update={"least_ml": least_ml, "dice": _in_bounds(overlap)})
    return scored


def _worth(scored: Scored) -> float:
    """Return the Dice of a reading, less what its clean-up must gain."""
    return scored.dice - (CLEAN_GAIN if scored.clean == "largest" else 0.0)


def _in_bounds(score: float) -> float:
    """Return a mean Dice without what rounding adds."""
    return min(1.0, max(0.0, float(score)))


def _first_best(scores: np.ndarray) -> int:
    """Return the first position whose score is the highest, but for rounding."""
    return int(np.argmax(scores >= scores.max() - _EQUAL))


def _dices(share: np.ndarray, truth: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the Dice with the truth of ``share >= level`` for each level."""
    beyond, overlap = _beyond(share.ravel(), levels), _beyond(share[truth], levels)
    total = beyond + np.count_nonzero(truth)
    return np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)


def _most(share: np.ndarray, truth: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the highest Dice that parts of ``share >= level`` can have, for each level."""
    overlap, size = _beyond(share[truth], levels), np.count_nonzero(truth)
    return 2 * overlap / (overlap + size) if size else np.ones(len(levels))


def _beyond(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Count the values that are at least each level, in any order of levels."""
    order = np.argsort(levels)
    passed = np.searchsorted(levels[order], values, side="right")  # how many levels each value reaches
    reached = np.bincount(passed, minlength=len(levels) + 1)[::-1].cumsum()[::-1][1:]
    counts = np.empty(len(levels), np.int64)
    counts[order] = reached
    return counts
