"""What a scanner does to intensities: a bias field, a curve, a lower resolution; the same to all layers of a sample.

A scan is normalised after bias and curve have happened to it: the normal layer has its mean and its deviation back
after them, and all layers go through the same map.
"""

import numpy as np
import torch
from torch.nn import functional

from train.data.batch import placed
from train.data.random_bits import Draws

BIAS = 0.5  # probability, a modality
BIAS_FIELD = 0.3  # largest change; Sudre et al. 2017, Pérez-García et al., TorchIO, 2021: of this order
BIAS_POINTS = 4  # along an axis; between them it is interpolated
GAMMA = 0.3  # probability, a modality; Isensee et al., nnU-Net, 2021
EXPONENT = (0.7, 1.5)  # below 1 as often as above; Isensee et al. 2021
COARSER = 0.25  # probability; Isensee et al. 2021
RESOLUTION = (0.5, 1.0)  # voxels a side that are left; Isensee et al. 2021
_LEAST = 1e-3  # a deviation in network units below which there is nothing to restore


def looks(images: torch.Tensor, organ: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Change the look of a sample's layers.

    Parameters
    ----------
    images : Tensor of float32, shape (3, C, z, y, x)
        Composite, normal and tissue, each without holes.
    organ : Tensor of bool, shape (1, z, y, x)
    draws : Draws
        As many numbers are taken whatever is done. Resolution is that of the scan, the rest each modality's own.

    Returns
    -------
    Tensor
        Same shape. What it holds outside the organ means nothing.
    """
    count = images.shape[1]
    coarser, share = draws.uniform(), draws.uniform()
    biased, strength = draws.uniforms(count) < BIAS, draws.uniforms(count)
    knots = draws.uniforms(count, BIAS_POINTS, BIAS_POINTS, BIAS_POINTS)
    curved, exponent = draws.uniforms(count) < GAMMA, _exponents(draws.uniforms(count), draws.uniforms(count))
    if biased.any() or curved.any():
        before = _statistics(images[1], organ)
        largest = (BIAS_FIELD * strength * biased)[:, None, None, None] * (2 * knots - 1)
        images = _biased(images, organ, placed(largest, images.device))
        images = _curved(images, organ, np.where(curved, exponent, 1.0))
        images = _restored(images, organ, before)
    if coarser < COARSER:
        images = _coarser(images, organ, RESOLUTION[0] + (RESOLUTION[1] - RESOLUTION[0]) * share)
    return images


def _exponents(side: np.ndarray, share: np.ndarray) -> np.ndarray:
    low, high = EXPONENT
    return np.where(side < 0.5, low + (1 - low) * share, 1 + (high - 1) * share)


def _statistics(layer: torch.Tensor, organ: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of each modality inside the organ, shape (C, 1, 1, 1)."""
    space, count = (1, 2, 3), organ.sum().clamp(min=1)
    mean = torch.where(organ, layer, 0.0).sum(space, keepdim=True) / count
    square = torch.where(organ, layer - mean, 0.0).square().sum(space, keepdim=True) / count
    return mean, square.sqrt()


def _restored(images: torch.Tensor, organ: torch.Tensor, before: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Give the normal layer its mean and deviation back, by one map for all layers."""
    (mean, deviation), (wanted, wide) = _statistics(images[1], organ), before
    scale = torch.where(deviation > _LEAST, wide / deviation.clamp(min=_LEAST), 1.0)
    return (images - mean) * scale + wanted


def _ends(images: torch.Tensor, organ: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least and the greatest intensity of each modality in any layer inside the organ, (C, 1, 1, 1)."""
    over = (0, 2, 3, 4)
    low = torch.where(organ, images, torch.inf).amin(over)
    high = torch.where(organ, images, -torch.inf).amax(over)
    empty = ~organ.any()
    low, high = (torch.where(empty, 0.0, end).view(-1, 1, 1, 1) for end in (low, high))
    return low, high


def _biased(images: torch.Tensor, organ: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """Multiply intensities, counted from the least one, by a smooth field around 1; knots (C, n, n, n)."""
    field = functional.interpolate(knots[None], size=images.shape[2:], mode="trilinear", align_corners=True)[0]
    low, _ = _ends(images, organ)
    return images + (images - low) * field


def _curved(images: torch.Tensor, organ: torch.Tensor, exponents: np.ndarray) -> torch.Tensor:
    """Raise intensities, as shares of their range, to a power; ends stay where they are."""
    low, high = _ends(images, organ)
    wide = (high - low).clamp(min=_LEAST)
    powers = placed(exponents[:, None, None, None], images.device)
    return ((images - low) / wide).clamp(0, 1).pow(powers) * wide + low


def _coarser(images: torch.Tensor, organ: torch.Tensor, share: float) -> torch.Tensor:
    """Keep a share of the voxels a side, and make up the rest by interpolation; 0 outside the organ."""
    side = images.shape[-1]
    fewer = (max(2, round(side * share)),) * 3
    inside = torch.where(organ, images, 0.0)
    return functional.interpolate(
        functional.interpolate(inside, size=fewer, mode="trilinear", align_corners=False),
        size=(side,) * 3,
        mode="trilinear",
        align_corners=False,
    )
