"""Apply a trained network to a scan: into network space, through the network, back to the scan's own grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scans.catalog.region import Region
from scans.errors import CheckpointError, ScanError
from scans.image.box import Box, tight_box
from scans.image.frame import box_in_scan, from_frame, part_from_frame
from scans.image.normalisation import normalise
from scans.image.preparation import Prepared, prepare_modalities
from scans.image.volume import Volume
from train.cases.classes import Classes, labels_of, recorded_classes
from train.inference.clean import clean
from train.inference.patchwise import slide_over_organ
from train.inference.reading import PLAIN, Asked, Reading, recorded_readings, wanted_reading
from train.network import hardware
from train.network.channels import Channel, recorded_channels
from train.network.checkpoint import network_sha256
from train.network.record import Record
from train.network.symmetry import seen
from train.proxies.recorded import check_finds_layers, for_scans, load_network
from train.proxies.residual import Residual

_MIRRORINGS = tuple(axes for count in range(4) for axes in combinations((2, 3, 4), count))  # of z, y, x; 8 of them


@dataclass(frozen=True)
class Model:
    """A trained network, ready to run, and all it needs to know about its input.

    Attributes
    ----------
    channels : tuple of Channel
        One for each modality of the input, in the network's order.
    classes : Classes
        What its masks find, in their order, and the labels that they are written as.
    reading : Reading
        How a mask is made of what it finds.
    """

    network: nn.Module
    record: Record
    channels: tuple[Channel, ...]
    machine: hardware.Hardware
    path: Path
    classes: Classes
    reading: Reading = PLAIN

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions of the modalities, in the network's order."""
        return tuple(channel.region for channel in self.channels)

    @property
    def region(self) -> Region:
        """Region of the first modality, which has the frame and the ROI of all of them."""
        return self.regions[0]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the network's order."""
        return tuple(region.modality for region in self.regions)

    def seen(self, scan: torch.Tensor) -> torch.Tensor:
        """Return what the network sees of whole scans, (N, C, z, y, x); see `train.network.symmetry.seen`."""
        return seen(scan, len(self.channels), self.record.network.get("mirror"))

    def sha256(self) -> str:
        """Return the SHA-256 of all that decides what the network finds, as hexadecimal digits."""
        return network_sha256(self.record, self.network)


@dataclass(frozen=True)
class Decomposed:
    """A scan taken apart, in the network's grid.

    Attributes
    ----------
    scan, normal, texture : ndarray of float32, shape (C, z, y, x)
        In network units, one for each of C modalities.
    probabilities : ndarray of float32, shape (K, z, y, x)
        Of K classes, in [0, 1].
    """

    scan: np.ndarray
    normal: np.ndarray
    texture: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, scan: np.ndarray, found: np.ndarray) -> "Decomposed":
        """Name the channels of `found`, shape (2 C + K, z, y, x), as `find_layers` returns them."""
        modalities = len(scan)
        return cls(scan, *np.split(found, (modalities, 2 * modalities)))

    def share(self, reading: Reading, prepared: Prepared) -> np.ndarray:
        """Return the share of tumour by a reading, float32 (K, z, y, x) in [0, 1].

        Parameters
        ----------
        reading : Reading
        prepared : Prepared
            The scan's first modality, in the same grid.
        """
        return reading.share(self.scan, self.normal, self.probabilities, prepared.roi, prepared.frame.spacing_mm)


def load_model(path: Path, device: str = "auto", precision: str = "auto", asked: Asked | None = None) -> Model:
    """Load a checkpoint for use.

    Parameters
    ----------
    path : Path
    device, precision : str
    asked : Asked, optional
        What to change of the reading that it records.

    Raises
    ------
    CheckpointError
        If it cannot be read, its network or region does not fit this release, or it records no such reading.
    """
    record, network = load_network(path)
    check_finds_layers(record, path, as_unet=False)
    classes = recorded_classes(record.network, record.data, str(path))
    readings = recorded_readings(record.reading, str(path))
    by_layers = not isinstance(network, Residual) and len(classes) == 1 and record.stage != "finetune"
    if readings is not None and not by_layers:
        raise CheckpointError(f"{path}: its record is damaged (a reading by layers, which its network does not find)")
    channels = tuple(recorded_channels(record, str(path)))
    network = for_scans(network, record.validation, str(path))
    machine = hardware.choose(device, precision)
    machine.place(network)
    network.eval()
    reading = wanted_reading(readings, asked or Asked(), str(path))
    return Model(network, record, channels, machine, path, classes, reading)


def prepare_for(model: Model, volumes: Sequence[Volume], roi: Volume | None, where: str) -> list[Prepared]:
    """Prepare the modalities of a scan as the network's training scans were.

    Parameters
    ----------
    model : Model
    volumes : sequence of Volume
        One a modality, in the network's order, on one grid.
    roi : Volume or None
        Region of interest on that grid; without one it is the foreground of the first modality.
    where : str
        Name of the scan, for errors.

    Returns
    -------
    list of Prepared
        One a modality, all in one frame.

    Raises
    ------
    ScanError
        If the scan cannot be prepared, or has not the modalities that the network takes.
    """
    if len(volumes) != len(model.channels):
        raise ScanError(f"{where}: has {len(volumes)} modalities; {wanted(model.modalities)}")
    statistics = [channel.statistics for channel in model.channels]
    return prepare_modalities(volumes, roi, model.regions, model.record.size, statistics, where)


def wanted(modalities: Sequence[str]) -> str:
    """Say which modalities a network takes, as the end of a sentence."""
    if len(modalities) == 1:
        return f"this network takes {modalities[0]} alone"
    return f"this network takes {len(modalities)}, in this order: {', '.join(modalities)}"


def network_input(model: Model, prepared: Sequence[Prepared]) -> np.ndarray:
    """Return a prepared scan in network units, float32 (C, z, y, x), 0 outside the ROI.

    Raises
    ------
    CheckpointError
        If a modality is normalised by statistics that the checkpoint does not have.
    """
    channels = []
    for one, region in zip(prepared, model.regions, strict=True):
        if one.statistics is None:
            raise CheckpointError(
                f"{model.path}: records no statistics, which region {region.name} needs; train on a finished corpus"
            )
        channels.append(normalise(one.intensity, one.roi, one.statistics))
    return np.stack(channels).astype(np.float32, copy=False)


def find_layers(model: Model, batch: torch.Tensor, flips: bool = False) -> torch.Tensor:
    """Run the network.

    Parameters
    ----------
    model : Model
    batch : Tensor, shape (N, C, z, y, x)
        In network units, on the model's device; sides divisible by 8. Parts of scans: what `Model.seen` gave of them.
    flips : bool
        Average what is found over the eight mirrorings of the input, each turned back.

    Returns
    -------
    Tensor of float32, shape (N, 2 C + K, z, y, x)
        Normal and texture of each modality, then the probability of each class.
    """
    mirrorings = _MIRRORINGS if flips else _MIRRORINGS[:1]
    inputs = model.seen(batch)  # once: a mirrored scan has the mirrored plane
    total: torch.Tensor | None = None
    for axes in mirrorings:
        with torch.inference_mode(), model.machine.autocast():
            layers = model.network(inputs.flip(axes))
        found = torch.cat([layers.normal, layers.texture, layers.logits.sigmoid()], dim=1).flip(axes)
        total = found if total is None else total + found
    assert total is not None
    return total / len(mirrorings)


def decompose(model: Model, prepared: Sequence[Prepared], flips: bool = False) -> Decomposed:
    """Run the network on a prepared scan: on its cube, or patch by patch if that is what it was trained on.

    Parameters
    ----------
    model : Model
    prepared : sequence of Prepared
        One a modality, in the network's cube.
    flips : bool
        As of `find_layers`.
    """
    scan = network_input(model, prepared)
    if model.record.patch is not None:
        layers, find = 2 * len(scan) + len(model.classes), partial(find_layers, model, flips=flips)
        return Decomposed.of(scan, slide_over_organ(find, scan, model.record.patch, layers, model.machine.device))
    batch = torch.from_numpy(scan)[None].to(model.machine.device)
    return Decomposed.of(scan, find_layers(model, batch, flips)[0].cpu().numpy())


def share_in_scan(share: np.ndarray, frame_of: Prepared, box: Box | None = None) -> Volume:
    """Bring a probability or a mask, shape (z, y, x) in the network's grid, to the scan's own: float32 in [0, 1].

    With `box` that part of the scan alone.
    """
    share, frame = np.asarray(share, dtype=np.float32), frame_of.frame
    volume = from_frame(share, frame) if box is None else part_from_frame(share, frame, box)
    if share.min() < 0 or share.max() > 1:  # else no mean of it is outside
        np.clip(volume.array, 0, 1, out=volume.array)
    return volume


def to_scan(share: np.ndarray, frame_of: Prepared) -> Volume:
    """Bring a probability or a mask, shape (z, y, x) in the network's grid, to the scan's own, as a uint8 mask."""
    volume = share_in_scan(share, frame_of)
    return volume.with_array((volume.array >= 0.5).astype(np.uint8))


def mask_in_scan(model: Model, share: np.ndarray, frame_of: Prepared) -> Volume:
    """Return the label map of shares, (K, z, y, x) in the network's grid and one a class, in the scan's own grid.

    The same as `label_map` of `share_in_scan`, of which only the part is made that a mask can lie in.
    """
    reached = np.logical_or.reduce(share >= np.float32(model.reading.least))
    box = box_in_scan(reached, frame_of.frame) or (slice(0, 1),) * 3
    part = label_map([share_in_scan(each, frame_of, box) for each in share], model.classes, model.reading)
    labels = np.zeros(frame_of.frame.scan.shape, part.array.dtype)
    labels[box] = part.array
    return Volume.on(frame_of.frame.scan, labels)


def label_map(shares: Sequence[Volume], classes: Classes, reading: Reading = PLAIN) -> Volume:
    """Return the label map of shares in the scan's own grid, one a class: where each reaches the reading's level.

    Parts are left out as the reading says.
    """
    reached = [reading.reached(share.array) for share in shares]
    box = tight_box(np.logical_or.reduce(reached)) if any(mask.any() for mask in reached) else (slice(0, 0),) * 3
    found = labels_of(np.stack([mask[box] for mask in reached]), classes)
    labels = shares[0].with_array(np.zeros(reached[0].shape, found.dtype))
    labels.array[box] = found
    if reading.clean == "none" and not reading.least_ml:
        return labels
    return clean(labels, classes, **reading.kept_parts(), least_ml=reading.least_ml)
