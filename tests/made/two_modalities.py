"""A checkpoint of two modalities, and heads for it: the tumour is bright in the second alone."""

import torch

from scans.image.volume import write_volume
from tests.made.real_scans import head
from tests.made.tiny_checkpoint import LEVEL
from train.network.checkpoint import save_checkpoint
from train.network.record import Record
from train.network.unet import UNet
from train.settings import Network

REGIONS = [{"name": "brain", "modality": "T1"}, {"name": "brain", "modality": "FLAIR"}]
WIDTH = 3


def network_of_two():
    """Pass both modalities on as normal layers, and find what is bright in the second."""
    network = UNet(Network(width=WIDTH, in_channels=2))
    coarse = 4 * WIDTH
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for block, first in ((network.encoder.levels[0], 0), (network.decoder.levels[0], coarse)):
            for channel in range(2):
                block[0].weight[channel, first + channel, 1, 1, 1] = 1
                block[3].weight[channel, channel, 1, 1, 1] = 1
                block[1].weight[channel] = block[4].weight[channel] = 1
        for channel in range(2):
            network.head.weight[channel, channel] = 1
        network.head.weight[4, 1], network.head.bias[4] = 40, -40 * LEVEL
    return network


def save_two(path, **changed):
    values = {
        "stage": "pretrain",
        "step": 1,
        "settings": {},
        "network": {"width": WIDTH, "in_channels": 2},
        "channels": [{"region": region, "statistics": None} for region in REGIONS],
        "size": 48,
        "data": {},
    }
    save_checkpoint(path, Record(**{**values, **changed}), network_of_two())
    return path


def write_two(folder, name, seed=0, **made):
    """Write NAME_t1 (no tumour in it) and NAME_flair, and return the tumour."""
    folder.mkdir(parents=True, exist_ok=True)
    flair, tumour, brain = head(seed=seed, **made)
    other, _, _ = head(seed=seed + 1, **made)
    other.array[tumour.array > 0] = 100
    write_volume(other, folder / f"{name}_t1.nii.gz")
    write_volume(flair, folder / f"{name}_flair.nii.gz")
    write_volume(brain, folder / f"{name}_brain.nii.gz")
    return tumour
