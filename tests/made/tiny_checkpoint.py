"""A checkpoint whose masks are known: its network finds what is brighter than a level in network units, one a class.

Its normal is the scan, or that times a number. One that sees mirror images finds what is brighter by that than its
counterpart on the other side.
"""

import torch

from train.inference.reading import Readings, Scored
from train.network.checkpoint import save_checkpoint
from train.network.record import Record
from train.network.unet import UNet
from train.settings import Network

LEVEL = 2.0
REGION = {"name": "brain", "modality": "FLAIR"}


def bright_network(width=2, levels=(LEVEL,), mirror=None, normal=1.0):
    network = UNet(Network(width=width, classes=len(levels), mirror=mirror))
    coarse = 4 * width
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for block, channel in ((network.encoder.levels[0], 0), (network.decoder.levels[0], coarse)):
            block[0].weight[0, channel, 1, 1, 1] = 1
            block[3].weight[0, 0, 1, 1, 1] = 1
            block[1].weight[0] = block[4].weight[0] = 1
        if mirror is not None:
            network.encoder.levels[0][0].weight[0, 1, 1, 1, 1] = -1
        network.head.weight[0, 0], network.head.weight[1, 0] = normal, 1
        for mask, level in enumerate(levels, start=2):
            network.head.weight[mask, 0], network.head.bias[mask] = 40, -40 * level
    return network


def save_bright(path, region=REGION, size=48, levels=(LEVEL,), normal=1.0, **changed):
    values = {
        "stage": "pretrain",
        "step": 1,
        "settings": {},
        "network": {"width": 2} | ({"classes": len(levels)} if len(levels) > 1 else {}),
        "channels": [{"region": region, "statistics": None}],
        "size": size,
        "data": {
            "corpus": "ab" * 32,
            "corpus_samples": 5,
            "split": "none",
            "sources": [{"name": "s", "dataset": "d", "licence": "CC0", "terms": "cite <us>"}],
        },
        "threshold": {"sigma_mm": 1.0, "level": 1.0, "side": "above", "dice": 0.5},
    }
    record = Record(**{**values, **changed})
    save_checkpoint(path, record, bright_network(levels=levels, mirror=record.network.get("mirror"), normal=normal))
    return path


def readings(chosen="both", **changed):
    """Return what a checkpoint may record of its readings."""
    ways = {
        "plain": Scored(dice=0.5),
        "mask": Scored(level=0.3, clean="largest", dice=0.6),
        "residual": Scored(by="residual", residual_scale=0.5, dice=0.7),
        "both": Scored(by="both", level=0.4, residual_scale=0.5, dice=0.8),
    }
    return Readings(chosen=chosen, samples=(4, 2), **{**ways, **changed}).model_dump(mode="json")


RECORD = Record(
    stage="pretrain",
    step=3,
    settings={"schedule": {"seed": 1}},
    network={"width": 2},
    channels=[{"region": {"name": "brain", "modality": "FLAIR"}, "statistics": None}],
    size=16,
    data={"corpus": "abc"},
)
