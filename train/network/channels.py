"""Channels: which modalities a network takes, and how an encoder of some serves a network of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scans.catalog.region import Region
from scans.image.normalisation import Statistics
from train.architectures.choice import FIRST_CONVOLUTION
from train.network.record import Record
from train.settings import recorded


@dataclass(frozen=True)
class Channel:
    """One modality of a network's input.

    Attributes
    ----------
    region : Region
        Prepares its scans.
    statistics : Statistics or None
        Shared by all scans, or None where each has its own.
    """

    region: Region
    statistics: Statistics | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint records of it."""
        statistics = None if self.statistics is None else self.statistics.to_json()
        return {"region": self.region.model_dump(mode="json"), "statistics": statistics}


def recorded_channels(record: Record, where: str) -> list[Channel]:
    """Return the channels that a checkpoint records.

    Raises
    ------
    CheckpointError
        If they do not fit this release.
    """
    return [recorded_channel(channel, where) for channel in record.channels]


def recorded_channel(channel: dict[str, Any], where: str) -> Channel:
    """Return one channel of a checkpoint, or of a corpus; errors as of `recorded_channels`."""
    statistics = channel["statistics"]
    region = recorded(Region, channel["region"], where)
    return Channel(region, None if statistics is None else Statistics.from_json(statistics))


def carry_encoder(
    encoder: dict[str, torch.Tensor], before: Sequence[str], now: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return an encoder's tensors for other modalities; its first convolution alone depends on them.

    Modalities and, where the encoder sees them, their mirror images are treated alike, each among themselves.

    The same modalities in another order take their weights along. Otherwise the weights are summed over the old
    modalities, repeated for each of the C new ones and divided by C: shown C copies of what every old channel was
    shown, the encoder finds what it found before, in the same scale.

    Parameters
    ----------
    encoder : dict of str to Tensor
        By the names they have in `train.network.unet.UNet`.
    before, now : sequence of str
        Names of the modalities that the encoder takes, and shall take.
    """
    first = next((name for name in FIRST_CONVOLUTION.values() if name in encoder), None)
    if first is None or list(before) == list(now):
        return encoder
    weight = encoder[first]
    apart = weight.unflatten(1, (-1, len(before)))  # scans, and their mirror images
    if sorted(before) == sorted(now):
        carried = apart[:, :, [before.index(name) for name in now]]
    else:
        carried = apart.sum(2, keepdim=True).repeat(1, 1, len(now), 1, 1, 1) / len(now)
    return {**encoder, first: carried.flatten(1, 2)}
