"""Variation: mirrorings, contrast, brightness and noise that leave Eq. 5 as it is.

One affine map of intensities, and one field of noise, over composite, normal and texture alike: with
``x = (1 - αm) x_n + αm s`` also ``c x + b + n = (1 - αm)(c x_n + b + n) + αm (c s + b + n)``.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from train.data.batch import Batch
from train.data.random_bits import random_bits, units

# Isensee et al., nnU-Net, 2021: brightness and contrast are scaled by 0.75 to 1.25, noise has a variance up to 0.1.
CONTRAST = (0.75, 1.25)
BRIGHTNESS = (-0.25, 0.25)  # of a standard deviation
NOISE = (0.0, 0.1**0.5)
_STREAM = 2**62  # streams of random bits beside the order of samples
_WORDS = 8


def varied(batch: Batch, seed: int, positions: Sequence[int]) -> Batch:
    """Return a batch in which each sample is mirrored and its intensities are changed.

    Parameters
    ----------
    batch : Batch
        Left as it is.
    seed : int
    positions : sequence of int
        Of the samples in the stream of a training: what is drawn is a function of (seed, position), and of the kind
        of device, whose generators of noise differ.

    Returns
    -------
    Batch
        In the same network units: 0 outside the organ, and outside the mask in ``texture``.
    """
    samples = [_varied(batch, number, seed, position) for number, position in enumerate(positions)]
    composite, normal, texture, mask = (torch.stack(layers) for layers in zip(*samples, strict=True))
    return replace(batch, composite=composite, normal=normal, texture=texture, mask=mask)


def _varied(batch: Batch, number: int, seed: int, position: int) -> tuple[torch.Tensor, ...]:
    words = random_bits(_WORDS, seed, _STREAM + position)
    axes = [axis for axis in (1, 2, 3) if int(words[0]) >> axis & 1]
    contrast, brightness, deviation = (
        low + (high - low) * unit
        for unit, (low, high) in zip(units(words[1:4]).tolist(), (CONTRAST, BRIGHTNESS, NOISE), strict=True)
    )
    composite, normal, texture, mask = (
        layer[number] for layer in (batch.composite, batch.normal, batch.texture, batch.mask)
    )
    generator = torch.Generator(composite.device).manual_seed(int(words[4]) >> 1)
    noise = torch.randn(composite.shape, generator=generator, device=composite.device)
    change = brightness + deviation * noise
    organ = (composite != 0) | (normal != 0)

    def changed(layer: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return torch.where(where, contrast * layer + change, 0.0).flip(axes)

    return changed(composite, organ), changed(normal, organ), changed(texture, mask != 0), mask.flip(axes)
