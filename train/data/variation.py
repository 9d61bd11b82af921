"""Variation: each sample another look of its normal and its tumour, in such a way that Eq. 5 stays as it is.

``light`` is one affine map of intensities, one field of noise and mirrorings, over composite, normal and texture alike:
with ``x = (1 - αm) x_n + αm s`` also ``c x + b + n = (1 - αm)(c x_n + b + n) + αm (c s + b + n)``.

``full`` is more: rotation, scaling and warp (`train.data.spatial`), bias field, gamma and resolution
(`train.data.intensity`), the same for all layers. For it the tumour layer is a whole image, tissue inside the mask and
the normal around it: then ``x = (1 - α) x_n + α s`` everywhere, which no interpolation disturbs. A curve such as gamma
would; so where Eq. 5 held before, the composite is made anew of the two layers, by it. Where it did not, since the
corpus has soft edges or keeps the composite as the texture, the composite is changed as the layers are.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from train.data.batch import Batch, placed
from train.data.intensity import looks
from train.data.random_bits import Draws, random_bits, units
from train.data.spatial import moved
from train.settings import VariationName

# Isensee et al., nnU-Net, 2021: brightness and contrast are scaled by 0.75 to 1.25, noise has a variance up to 0.1.
CONTRAST = (0.75, 1.25)
BRIGHTNESS = (-0.25, 0.25)  # of a standard deviation
NOISE = (0.0, 0.1**0.5)
# Of full variation. A brain seen from below or back to front is never shown to a network, and what compares both
# hemispheres needs left and right to stay where they are, as sides.
MIRROR_X = 0.5
TOLERANCE = 0.02  # of Eq. 5, in the network's units: float16 rounds values up to 16 by less
_STREAM = 2**62  # streams of random bits beside the order of samples
_WORDS = 8

Layers = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # composite, normal, texture, mask


def varied(batch: Batch, kind: VariationName, seed: int, positions: Sequence[int]) -> Batch:
    """Return a batch in which each sample is varied.

    Parameters
    ----------
    batch : Batch
        Left as it is.
    kind : {"none", "light", "full"}
    seed : int
    positions : sequence of int
        Of the samples in the stream of a training: what is drawn is a function of (seed, position), and of the kind
        of device, whose generators of noise differ.

    Returns
    -------
    Batch
        In the same network units: 0 outside the organ, and outside the mask in ``texture``.
    """
    if kind == "none":
        return batch
    vary = _light if kind == "light" else _full
    layers = zip(batch.composite, batch.normal, batch.texture, batch.mask, batch.alpha, positions, strict=True)
    samples = [vary((x, n, s, m), alpha, seed, position) for x, n, s, m, alpha, position in layers]
    composite, normal, texture, mask = (torch.stack(of) for of in zip(*samples, strict=True))
    return replace(batch, composite=composite, normal=normal, texture=texture, mask=mask)


def _light(layers: Layers, alpha: torch.Tensor, seed: int, position: int) -> Layers:
    words = random_bits(_WORDS, seed, _STREAM + position)
    axes = [axis for axis in (1, 2, 3) if int(words[0]) >> axis & 1]
    contrast, brightness, deviation = (
        low + (high - low) * unit
        for unit, (low, high) in zip(units(words[1:4]).tolist(), (CONTRAST, BRIGHTNESS, NOISE), strict=True)
    )
    composite, normal, texture, mask = layers
    change = brightness + deviation * _noise(composite, int(words[4]))
    organ = (composite != 0) | (normal != 0)

    def changed(layer: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return torch.where(where, contrast * layer + change, 0.0).flip(axes)

    return changed(composite, organ), changed(normal, organ), changed(texture, mask != 0), mask.flip(axes)


def _full(layers: Layers, alpha: torch.Tensor, seed: int, position: int) -> Layers:
    draws = Draws(seed, _STREAM + position)
    composite, normal, texture, mask = layers
    tumour = mask != 0
    organ = ((composite != 0) | (normal != 0)).any(0, keepdim=True) | tumour
    tissue = torch.where(tumour, texture, normal)
    exact = ((composite - torch.where(tumour, torch.lerp(normal, tissue, alpha), normal)).abs() <= TOLERANCE).all()

    images = torch.stack([composite, normal, tissue])
    images, tumour, organ = moved(images, tumour, organ, draws)
    images = looks(images, organ, draws)

    contrast, brightness, deviation = (
        placed(low + (high - low) * draws.uniforms(len(composite), 1, 1, 1), composite.device)
        for low, high in (CONTRAST, BRIGHTNESS, NOISE)
    )
    images = contrast * images + (brightness + deviation * _noise(composite, int(draws.bits(1)[0])))
    axes = [3] if draws.chance(MIRROR_X) else []
    composite, normal, tissue = torch.where(organ, images, 0.0).flip([axis + 1 for axis in axes])
    tumour = tumour.flip(axes)
    composed = torch.where(tumour, torch.lerp(normal, tissue, alpha), normal)
    composite = torch.where(exact, composed, composite)
    return composite, normal, torch.where(tumour, tissue, 0.0), tumour.to(mask.dtype)


def _noise(like: torch.Tensor, word: int) -> torch.Tensor:
    """Return noise of deviation 1, drawn where it is used."""
    generator = torch.Generator(like.device).manual_seed(word >> 1)
    return torch.randn(like.shape, generator=generator, device=like.device)
