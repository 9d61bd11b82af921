"""Dice: of two masks, and its soft form that a loss can follow."""

from collections.abc import Sequence

import numpy as np
import torch

LEVELS = 40  # tried by `best_level`
SMOOTH_VOXELS = 1.0  # keeps soft Dice and its gradient finite for an empty mask


def soft_dice(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the soft Dice of two volumes of numbers in [0, 1], shape (N, K, z, y, x), for each of N and K."""
    spatial = tuple(range(2, one.ndim))
    overlap = (one * other).sum(spatial)
    volumes = one.sum(spatial) + other.sum(spatial)
    return (2.0 * overlap + SMOOTH_VOXELS) / (volumes + SMOOTH_VOXELS)


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two boolean masks; 1 if both are empty. For searches and for watching a training, without MONAI."""
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
    return 2.0 * int(np.count_nonzero(mask & truth)) / total if total else 1.0


def best_level(values: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the level from which on a voxel is tumour that has the best mean Dice, and that Dice.

    Parameters
    ----------
    values : sequence of ndarray, shape (z, y, x)
        What speaks for a tumour, in network units; 0 where nothing does, outside the ROI among others.
    truths : sequence of ndarray of bool, same shapes

    Returns
    -------
    tuple of float
        The lowest of equally good levels; 1 where all values are 0.
    """
    inside = np.concatenate([each[each > 0] for each in values])
    # Tumours fill few voxels: most levels worth trying lie near the top.
    levels = np.unique(np.quantile(inside, 1 - np.geomspace(1e-4, 0.5, LEVELS))) if inside.size else np.ones(1)
    scores = [np.mean([dice(v >= level, t) for v, t in zip(values, truths, strict=True)]) for level in levels]
    best = int(np.argmax(scores))
    return float(levels[best]), float(scores[best])
