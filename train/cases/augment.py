"""Augmentation as in nnU-Net: what is done to a scan is drawn as plain numbers, then done by MONAI and torch.

The numbers are a function of (seed, position in the stream) and stand in a step's recipe. No transform here keeps or
touches a random state: threads cannot race, and a step can be done again. All of it runs where the scan lies, on a GPU
as on a CPU.

Probabilities and ranges are those of nnU-Net v2 for 3D volumes (Isensee et al., Nature Methods 2021). Two differences:
intensities of several modalities change independently, each with the probability that it has there; and what lies
outside the ROI is 0 again afterwards, as nnU-Net has it for scans normalised inside a mask.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from train.data.random_bits import random_bits, units

_CHANGES = 2**63  # stream of random bits of the stream's first position, beside the order of samples
_NOISE = 2**63 + 2**62


@dataclass(frozen=True)
class Appearance:
    """What is done to the intensities of one modality, in this order; the default does nothing."""

    noise: float = 0.0  # standard deviation in network units
    blur_vox: float = 0.0  # standard deviation
    brightness: float = 1.0  # factor
    contrast: float = 1.0  # factor about the mean, kept in the scan's range
    resolution: float = 1.0  # share of voxels a side that is kept, before it is made up by interpolation
    inverted_gamma: float = 1.0
    gamma: float = 1.0


@dataclass(frozen=True)
class Change:
    """What is done to one annotated scan.

    Attributes
    ----------
    angles : tuple of float
        Rotation about the z, y and x axis through the centre, radians.
    zoom : float
        Step between voxels that are looked at: above 1 the tumour becomes smaller.
    appearance : tuple of Appearance
        One a modality, or none to leave all as they are.
    mirrored : tuple of int
        Axes along which it is flipped at the end: 0 is z, 1 is y, 2 is x.
    noise_key : tuple of int
        Of the random bits of the noise.
    """

    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    zoom: float = 1.0
    appearance: tuple[Appearance, ...] = ()
    mirrored: tuple[int, ...] = ()
    noise_key: tuple[int, int] = (0, 0)


def draw(kind: Literal["nnunet", "mirror", "none"], seed: int, position: int, modalities: int) -> Change:
    """Draw what is done to the scan at a position of the stream.

    Parameters
    ----------
    kind : str
        ``mirror`` flips and does nothing else.
    seed, position : int
    modalities : int
    """
    if kind == "none":
        return Change()
    word = int(random_bits(1, seed, _CHANGES + position)[0])
    mirrored = tuple(axis for axis in range(3) if word >> axis & 1)
    if kind == "mirror":
        return Change(mirrored=mirrored)
    drawn = iter(units(random_bits(9 + 18 * modalities, seed, _CHANGES + position)[1:]).tolist())

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * next(drawn)

    def factor(low: float, high: float) -> float:
        """Below 1 as often as above."""
        below, share = uniform(0, 1) < 0.5, uniform(0, 1)
        return low + (1 - low) * share if below else 1 + (high - 1) * share

    def sometimes(probability: float, value: float, otherwise: float) -> float:
        return value if uniform(0, 1) < probability else otherwise

    turns = uniform(0, 1) < 0.2
    angles = [uniform(-math.pi / 6, math.pi / 6) for _ in range(3)]
    zoom = sometimes(0.2, uniform(0.7, 1.4), 1.0)
    appearance = tuple(
        Appearance(
            noise=sometimes(0.1, uniform(0, 0.1), 0.0),
            blur_vox=sometimes(0.2 * 0.5, uniform(0.5, 1), 0.0),  # in nnU-Net half of the channels of a fifth
            brightness=sometimes(0.15, factor(0.75, 1.25), 1.0),
            contrast=sometimes(0.15, factor(0.75, 1.25), 1.0),
            resolution=sometimes(0.25 * 0.5, uniform(0.5, 1), 1.0),
            inverted_gamma=sometimes(0.1, factor(0.7, 1.5), 1.0),
            gamma=sometimes(0.3, factor(0.7, 1.5), 1.0),
        )
        for _ in range(modalities)
    )
    z, y, x = angles if turns else (0.0, 0.0, 0.0)
    return Change((z, y, x), zoom, appearance, mirrored, (seed, _NOISE + position))


def changed(intensity: torch.Tensor, mask: torch.Tensor, change: Change) -> tuple[torch.Tensor, torch.Tensor]:
    """Do to a scan and its masks what was drawn.

    Parameters
    ----------
    intensity : Tensor of float32, shape (C, size, size, size)
        In network units; 0 outside the ROI.
    mask : Tensor of float32, shape (K, size, size, size)
        0 or 1.
    change : Change

    Returns
    -------
    intensity, mask : Tensor
        New ones of the same shapes, or the ones given where nothing is done.
    """
    if any(change.angles) or change.zoom != 1 or any(a != Appearance() for a in change.appearance):
        inside = (intensity != 0).any(0, keepdim=True)
        if any(change.angles) or change.zoom != 1:
            # One interpolation for all; a mask is where at least half of a voxel is of it.
            together = warped(torch.cat([intensity, inside.float(), mask]), change.angles, change.zoom)
            intensity, inside = together[: len(intensity)], together[len(intensity)][None] >= 0.5
            mask = (together[len(intensity) + 1 :] >= 0.5).float()
        noise = np.random.Generator(np.random.Philox(key=np.array(change.noise_key, np.uint64)))
        each = zip(intensity, change.appearance or [Appearance()] * len(intensity), strict=True)
        intensity = torch.where(inside, torch.stack([_appears(volume, a, noise) for volume, a in each]), 0.0)
    axes = [axis + 1 for axis in change.mirrored]
    return (intensity.flip(axes), mask.flip(axes)) if axes else (intensity, mask)


def warped(volumes: torch.Tensor, angles: tuple[float, float, float], zoom: float) -> torch.Tensor:
    """Rotate and zoom cubes about their centre, by linear interpolation; what comes from outside is 0.

    Parameters
    ----------
    volumes : Tensor of float32, shape (N, size, size, size)
    angles, zoom
        As of `Change`.
    """
    from monai.networks.layers import AffineTransform

    theta = torch.zeros(3, 4)
    theta[:, :3] = torch.from_numpy(zoom * rotation(angles)[::-1, ::-1].copy())  # torch counts axes (x, y, z)
    resample = AffineTransform(normalized=True, reverse_indexing=False, align_corners=False)
    return resample(volumes[None], theta.to(volumes))[0]


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """Return the rotation about the z, then the y, then the x axis: float64, (3, 3), rows and columns (z, y, x)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _appears(volume: torch.Tensor, appearance: Appearance, noise: np.random.Generator) -> torch.Tensor:
    """Change the intensities of one modality, shape (z, y, x)."""
    from monai.networks.layers import gaussian_1d, separable_filtering
    from monai.transforms import AdjustContrast, ScaleIntensityFixedMean

    if appearance.noise:
        drawn = torch.from_numpy(noise.standard_normal(tuple(volume.shape), np.float32))
        volume = volume + appearance.noise * drawn.to(volume.device)
    if appearance.blur_vox:
        kernel = gaussian_1d(torch.tensor(appearance.blur_vox), truncated=6, approx="sampled", normalize=True)
        volume = separable_filtering(volume[None, None], [kernel.to(volume)] * 3)[0, 0]
    if appearance.brightness != 1:
        volume = volume * appearance.brightness
    if appearance.contrast != 1:
        volume = _plain(ScaleIntensityFixedMean(appearance.contrast - 1, preserve_range=True)(volume))
    if appearance.resolution != 1:
        sides = [max(1, round(side * appearance.resolution)) for side in volume.shape]
        coarse = functional.interpolate(volume[None, None], sides, mode="nearest-exact")
        volume = functional.interpolate(coarse, tuple(volume.shape), mode="trilinear")[0, 0]
    for gamma, inverted in ((appearance.inverted_gamma, True), (appearance.gamma, False)):
        if gamma != 1:
            volume = _plain(AdjustContrast(gamma, invert_image=inverted, retain_stats=True)(volume))
    return volume


def _plain(volume: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Return a tensor without what MONAI adds to it."""
    assert isinstance(volume, torch.Tensor)
    return volume.as_subclass(torch.Tensor)
