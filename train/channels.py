"""Channels: which modalities a network takes, and how an encoder of some serves a network of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scans.catalog import FRAME, load_catalog
from scans.errors import CatalogError
from scans.normalisation import Statistics
from scans.region import Region
from train.checkpoint import Record
from train.settings import recorded

FIRST_CONVOLUTION = "encoder.levels.0.0.weight"


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
    return [
        Channel(
            recorded(Region, channel["region"], where),
            None if channel["statistics"] is None else Statistics(**channel["statistics"]),
        )
        for channel in record.channels
    ]


def choose_channels(
    known: Sequence[Channel], catalog: Path, dataset_name: str, modalities: Sequence[str]
) -> list[Channel]:
    """Return the channels of a network that is to be trained on a dataset.

    Parameters
    ----------
    known : sequence of Channel
        Of the checkpoint to begin with; none from scratch.
    catalog : Path
    dataset_name : str
    modalities : sequence of str
        In the network's order. Empty: those of the checkpoint, or from scratch all of the dataset.

    Returns
    -------
    list of Channel
        What the checkpoint knows as it knows it, the rest as the catalog says.

    Raises
    ------
    CatalogError
        If the dataset is unknown or lacks one of them, a new one does not fit the checkpoint's cube, or it is
        normalised by statistics that only a corpus has.
    """
    if known and not modalities:
        return list(known)
    loaded = load_catalog(catalog)
    _, regions = loaded.in_modalities(dataset_name, modalities)
    by_name = {channel.region.modality: channel for channel in known}
    chosen = [by_name.get(region.modality, Channel(region)) for region in regions]
    for channel in chosen:
        region = channel.region
        if region.normalisation.kind == "window" and channel.statistics is None:
            raise CatalogError(
                f"region {region.name} is normalised by statistics of its sources, which "
                f"{'this checkpoint' if known else 'scratch'} has not; "
                "use --init with a checkpoint pretrained on such a corpus"
            )
        for shared in FRAME:
            if known and getattr(region, shared) != getattr(known[0].region, shared):
                raise CatalogError(
                    f"region {region.name} of dataset {dataset_name} and region {known[0].region.name} of the "
                    f"checkpoint differ in {shared}; start from a checkpoint that fits, or from scratch"
                )
    return chosen


def carry_encoder(
    encoder: dict[str, torch.Tensor], before: Sequence[str], now: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return an encoder's tensors for other modalities; its first convolution alone depends on them.

    The same modalities in another order take their weights along. Otherwise the weights are summed over the old
    modalities, repeated for each of the C new ones and divided by C: shown C copies of what every old channel was
    shown, the encoder finds what it found before, in the same scale.

    Parameters
    ----------
    encoder : dict of str to Tensor
        By the names they have in `train.unet.UNet`.
    before, now : sequence of str
        Names of the modalities that the encoder takes, and shall take.

    Returns
    -------
    dict of str to Tensor
    """
    weight = encoder.get(FIRST_CONVOLUTION)
    if weight is None or list(before) == list(now):
        return encoder
    if sorted(before) == sorted(now):
        carried = weight[:, [before.index(name) for name in now]]
    else:
        carried = weight.sum(1, keepdim=True).repeat(1, len(now), 1, 1, 1) / len(now)
    return {**encoder, FIRST_CONVOLUTION: carried}
