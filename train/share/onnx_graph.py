"""What an ONNX graph computes, as torch modules: outputs with names, and normalisation where it is asked for.

Sums run over one axis after the other. Runtimes add up float32 as it comes, and onnxruntime's own InstanceNormalization
was wrong by 0.01 at 128³ (largest output 13); axis by axis it is wrong by 0.000006, as torch is.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from scans.errors import CheckpointError
from scans.image.normalisation import Statistics
from train.network.channels import Channel, recorded_channels
from train.network.record import Record
from train.network.unet import UNet

OUTPUTS = ("normal", "texture", "probability")
Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def channels_of(record: Record) -> list[Channel]:
    """Return a record's modalities.

    Raises
    ------
    CheckpointError
        If a region does not fit this release, or lacks the statistics that it is normalised by.
    """
    channels = recorded_channels(record, "the checkpoint")
    for region, statistics in ((channel.region, channel.statistics) for channel in channels):
        if statistics is None and region.normalisation.kind == "window":
            raise CheckpointError(f"the checkpoint has no statistics, which region {region.name!a} is normalised by")
    return channels


class Named(nn.Module):
    """A network whose outputs have names; see `OUTPUTS`."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, scan: torch.Tensor) -> Outputs:
        """Map (N, C, z, y, x) in network units to normal and texture, both (N, C, ...), and probability (N, K, ...)."""
        layers = self.network(scan)
        return layers.normal, layers.texture, layers.logits.sigmoid()


class Normalising(nn.Module):
    """A network that brings raw intensities to its own units, as ``scans.image.preparation`` and ``normalise`` do."""

    def __init__(self, network: UNet, channels: Sequence[Channel]) -> None:
        super().__init__()
        self.named = Named(network)
        self.channels = channels

    def forward(self, intensity: torch.Tensor, roi: torch.Tensor) -> Outputs:
        """Map intensities (N, C, z, y, x) and an ROI (N, 1, z, y, x), inside where 0.5 or more, to the layers."""
        inside = roi >= 0.5
        scaled = []
        for number, channel in enumerate(self.channels):
            values = intensity[:, number : number + 1]
            if (zero := channel.region.normalisation.raw_zero) is not None:
                values = (values - zero).clamp(min=0)
            scaled.append(_scale(values, inside, channel.statistics, channel.region.normalisation.scale))
        return self.named(torch.where(inside, torch.cat(scaled, dim=1), 0.0))


def _scale(values: torch.Tensor, inside: torch.Tensor, shared: Statistics | None, fixed: float | None) -> torch.Tensor:
    if shared is not None:
        if shared.low is not None or shared.high is not None:
            values = values.clamp(shared.low, shared.high)
        return (values - shared.mean) / shared.std
    share = _mean(inside.float()).clamp(min=1e-9)
    centred = values - _mean(torch.where(inside, values, 0.0)) / share
    if fixed is not None:
        return centred / fixed
    variance = _mean(torch.where(inside, centred.square(), 0.0)) / share
    return centred / variance.sqrt().clamp(min=1e-9)


def _mean(volumes: torch.Tensor) -> torch.Tensor:
    """Return the mean of each volume of (N, C, z, y, x), shape (N, C, 1, 1, 1), axis by axis."""
    return volumes.mean(4, keepdim=True).mean(3, keepdim=True).mean(2, keepdim=True)


class _InstanceNorm(nn.Module):
    """``nn.InstanceNorm3d`` with its sums axis by axis."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Map (N, C, z, y, x) to the same shape."""
        centred = volumes - _mean(volumes)
        scaled = centred * (_mean(centred.square()) + self.eps).rsqrt()
        return scaled * self.weight.view(1, -1, 1, 1, 1) + self.bias.view(1, -1, 1, 1, 1)


def summed_by_axis(network: UNet) -> UNet:
    """Return a copy of a network, in evaluation mode, that computes the same with sums axis by axis."""
    copied = copy.deepcopy(network).eval()
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm3d):
                setattr(module, name, _InstanceNorm(child))
    return copied
