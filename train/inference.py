"""Apply a trained network to a scan: into network space, through the network, back to the scan's own grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scans.errors import CheckpointError
from scans.normalisation import Statistics, normalise
from scans.preparation import Prepared, from_frame, prepare
from scans.region import Region
from scans.volume import Volume
from train import hardware
from train.checkpoint import Record, load_checkpoint, restore_network
from train.settings import Network, recorded
from train.unet import UNet, split_layers


@dataclass(frozen=True)
class Model:
    """A trained network, ready to run, and all it needs to know about its input."""

    network: UNet
    record: Record
    region: Region
    statistics: Statistics | None
    machine: hardware.Hardware
    path: Path


@dataclass(frozen=True)
class Decomposed:
    """A scan taken apart, float32 (size, size, size): layers in network units, ``probability`` in [0, 1]."""

    scan: np.ndarray
    normal: np.ndarray
    texture: np.ndarray
    probability: np.ndarray


def load_model(path: Path, device: str = "auto", precision: str = "auto") -> Model:
    """Load a checkpoint for use.

    Raises
    ------
    CheckpointError
        If it cannot be read, or its network or region does not fit this release.
    """
    checkpoint = load_checkpoint(path)
    record = checkpoint.record
    network = UNet(recorded(Network, record.network, str(path)))
    restore_network(network, checkpoint.network, path)
    machine = hardware.choose(device, precision)
    machine.place(network)
    network.eval()
    try:
        statistics = None if record.statistics is None else Statistics(**record.statistics)
    except TypeError as error:
        raise CheckpointError(f"{path}: its normalisation does not fit this release ({error})") from error
    region = recorded(Region, record.region, str(path))
    return Model(network, record, region, statistics, machine, path)


def prepare_for(model: Model, volume: Volume, roi: Volume | None, where: str) -> Prepared:
    """Prepare a scan as the network's training scans were.

    Raises
    ------
    ScanError
        If the scan cannot be prepared.
    """
    return prepare(volume, roi, None, model.region, model.record.size, model.statistics, where=where)


def network_input(prepared: Prepared, path: Path) -> np.ndarray:
    """Return a prepared scan in network units, float32 (size, size, size), 0 outside the ROI."""
    if prepared.statistics is None:
        raise CheckpointError(f"{path}: records no statistics, which region needs; train on a finished corpus")
    return normalise(prepared.intensity, prepared.roi, prepared.statistics).astype(np.float32)


def decompose(model: Model, prepared: Prepared) -> Decomposed:
    """Run the network on a prepared scan."""
    scan = network_input(prepared, model.path)
    batch = torch.from_numpy(scan)[None, None].to(model.machine.device)
    with torch.inference_mode(), model.machine.autocast():
        output = model.network(batch)
    layers = split_layers(output)
    normal, texture, probability = (
        layer[0, 0].float().cpu().numpy() for layer in (layers.normal, layers.texture, layers.logits.sigmoid())
    )
    return Decomposed(scan, normal, texture, probability)


def to_scan(share: np.ndarray, prepared: Prepared, threshold: float = 0.5) -> Volume:
    """Bring a probability or a mask (size, size, size) to the scan's own grid, as a uint8 mask."""
    volume = from_frame(np.asarray(share, dtype=np.float32), prepared.frame)
    return volume.with_array((volume.array >= threshold).astype(np.uint8))
