"""The network: a 3D UNet that sends a scan to its normal layer, its tumour layer and the mask's logits."""

import itertools
from typing import NamedTuple

import torch
from torch import nn

from train.network.symmetry import Sight
from train.settings import Network

POOLINGS = 3  # sides must be divisible by 2**3


class Layers(NamedTuple):
    """What the network found in a batch, float32.

    ``normal`` and ``texture``, (N, C, z, y, x), are in the intensity units of the C input modalities; ``logits``,
    (N, K, z, y, x), belong to the masks of K classes, one unless fine-tuned to several.
    """

    normal: torch.Tensor
    texture: torch.Tensor
    logits: torch.Tensor


class UNet(nn.Module):
    """3D UNet of four levels (Zhang et al. 2021, Sec. IV-C; widths of Models Genesis).

    Level ``i`` has two 3³ convolutions with ``width * 2**i`` and ``width * 2**(i + 1)`` channels, each
    followed by a norm and a ReLU; 2³ max-pooling between levels, 2³ transposed convolutions on the way up,
    skip connections, and one 1³ convolution to the layers: normal and texture of each modality, and the mask of
    each class.

    Parameters
    ----------
    settings : Network
        At ``width=32`` the network has 19,073,795 parameters.
    """

    def __init__(self, settings: Network) -> None:
        super().__init__()
        self.settings = settings
        first = [settings.width * 2**level for level in range(POOLINGS + 1)]
        second = [2 * channels for channels in first]
        inputs = settings.in_channels * (1 if settings.mirror is None else 2)
        self.sight = Sight(settings.in_channels, settings.mirror)
        self.encoder = Encoder(inputs, first, second, settings.norm)
        self.decoder = Decoder(second, settings.norm)
        self.head = nn.Conv3d(second[0], 2 * settings.in_channels + settings.classes, kernel_size=1)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias[-settings.classes :] = settings.mask_bias

    def forward(self, scan: torch.Tensor) -> Layers:
        """Take scans of shape (N, C, z, y, x) apart; parts of scans come as ``train.network.symmetry.seen`` says."""
        output = self.head(self.decoder(self.encoder(self.sight(scan)))).float()  # losses are computed in it
        modalities = self.settings.in_channels
        return Layers(*output.split([modalities, modalities, self.settings.classes], dim=1))


class Encoder(nn.Module):
    """Four levels down; returns the features of each, finest first."""

    def __init__(self, in_channels: int, first: list[int], second: list[int], norm: str) -> None:
        super().__init__()
        inputs = [in_channels, *second[:-1]]
        self.levels = nn.ModuleList(
            double_convolution(i, a, b, norm) for i, a, b in zip(inputs, first, second, strict=True)
        )
        self.pool = nn.MaxPool3d(2)

    def forward(self, scan: torch.Tensor) -> list[torch.Tensor]:
        """Map (N, in_channels, z, y, x) to features of (N, channels, z / 2**level, ...)."""
        features = [self.levels[0](scan)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        return features


class Decoder(nn.Module):
    """Three levels up; joins each with the features the encoder kept there."""

    def __init__(self, channels: list[int], norm: str) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.up = nn.ModuleList(nn.ConvTranspose3d(coarse, coarse, 2, stride=2) for _, coarse in pairs)
        self.levels = nn.ModuleList(double_convolution(coarse + fine, fine, fine, norm) for fine, coarse in pairs)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Map the encoder's features to the finest level's, shape (N, channels, z, y, x)."""
        x = features[-1]
        for level in reversed(range(len(self.levels))):
            x = self.levels[level](torch.cat([self.up[level](x), features[level]], dim=1))
        return x


def double_convolution(inputs: int, first: int, second: int, norm: str) -> nn.Sequential:
    """Two 3³ convolutions, each with norm and ReLU."""
    return nn.Sequential(*_convolution(inputs, first, norm), *_convolution(first, second, norm))


def _convolution(inputs: int, outputs: int, norm: str) -> list[nn.Module]:
    # A norm follows and takes the mean away: a bias before it would have no effect on the output; it is
    # kept because Models Genesis counts it.
    normed = nn.BatchNorm3d(outputs) if norm == "batch" else nn.InstanceNorm3d(outputs, affine=True)
    return [nn.Conv3d(inputs, outputs, kernel_size=3, padding=1), normed, nn.ReLU(inplace=True)]
