"""The paper's encoder and decoder: four levels, max-pooling, skip connections (Zhang et al. 2021, Sec. IV-C)."""

import itertools

import torch
from torch import nn

from train.architectures.instance_norm import InstanceNorm

POOLINGS = 3  # sides must be divisible by 2**3


def widths(width: int) -> tuple[list[int], list[int]]:
    """Return the channels after the first and after the second convolution of each level (Models Genesis)."""
    first = [width * 2**level for level in range(POOLINGS + 1)]
    return first, [2 * channels for channels in first]


class Encoder(nn.Module):
    """Four levels down; returns the features of each, finest first."""

    def __init__(self, in_channels: int, first: list[int], second: list[int], norm: str) -> None:
        super().__init__()
        inputs = [in_channels, *second[:-1]]
        self.levels = nn.ModuleList(
            double_convolution(i, a, b, norm) for i, a, b in zip(inputs, first, second, strict=True)
        )
        self.pool = Pool(2)

    def forward(self, scan: torch.Tensor) -> list[torch.Tensor]:
        """Map (N, in_channels, z, y, x) to features of (N, channels, z / 2**level, ...)."""
        features = [self.levels[0](scan)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        return features


class Pool(nn.MaxPool3d):
    """``torch.nn.MaxPool3d`` of windows of 2³, in an eighth of the time where a CPU needs no gradients.

    Autocast would have torch's own run in float32. Which of equal voxels gets a gradient is torch's own to say.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Halve the sides of (N, channels, z, y, x), without the last voxel of an odd one."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or features.is_cuda:
            return super().forward(features)
        for axis in (2, 3, 4):
            pairs = features.narrow(axis, 0, features.shape[axis] // 2 * 2)
            features = torch.maximum(*(pairs[(slice(None),) * axis + (slice(one, None, 2),)] for one in (0, 1)))
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
    normed = nn.BatchNorm3d(outputs) if norm == "batch" else InstanceNorm(outputs)
    return [nn.Conv3d(inputs, outputs, kernel_size=3, padding=1), normed, nn.ReLU(inplace=True)]
