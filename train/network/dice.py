"""Dice: of two masks, and its soft form that a loss can follow."""

import numpy as np
import torch

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
