"""Weights for nnU-Net: encoder and decoder of a network as ``nnUNetv2_train -pretrained_weights`` takes them.

Written against nnU-Net 2.8, which wants every weight but those of its segmentation heads, under its own names, and a
first convolution of as many channels as its dataset has. Its axes stand in the order of its plan.
"""

import io
import json
from dataclasses import dataclass

import torch
from torch import nn

from scans.errors import CheckpointError
from train.architectures.choice import FIRST_CONVOLUTION
from train.architectures.nnunet import whole
from train.architectures.plans import Plan, configuration_of, in_axes_of_plan
from train.network.channels import carry_encoder
from train.network.unet import UNet
from train.settings import Network, SettingsError, Topology

_HEADS = ".seg_layers."  # nnU-Net looks for this too
_MIRRORED = (
    "The weights that see the mirror image are added to those that see the scan, since nnU-Net sees the scan alone."
)


@dataclass(frozen=True)
class NnunetFile:
    """What nnU-Net is given.

    Attributes
    ----------
    content : bytes
        For ``-pretrained_weights``: what ``torch.save`` makes of plain tensors.
    configuration : bytes
        JSON: what its plan must say of the network, for those who have no such plan yet.
    notes : tuple of str
        In a sentence each, what nnU-Net does not take over as it is.
    """

    content: bytes
    configuration: bytes
    notes: tuple[str, ...]


def to_nnunet(network: UNet, size: int, plan: Plan | None = None) -> NnunetFile:
    """Turn a network into pretrained weights for nnU-Net.

    Parameters
    ----------
    network : UNet
    size : int
        Voxels along each side of its cube.
    plan : Plan, optional
        That it is for; without one, the plan that the network's own topology belongs to, for as many modalities.

    Raises
    ------
    SettingsError
        If nnU-Net has no such network, its package is not installed, or the plan is of another network.
    """
    settings, topology = network.settings, network.settings.topology
    if topology is None:
        raise SettingsError(
            "--nnunet: this is the paper's UNet, which no plan of nnU-Net has; pretrain with --network plainconv or "
            "--network resenc"
        )
    if plan is not None:
        _check_plan(settings, topology, plan)
        topology = plan.topology
    channels = settings.in_channels if plan is None or plan.channels is None else plan.channels
    halves = {
        "encoder": _encoder(network, channels),
        "decoder": {f"decoder.{name}": tensor for name, tensor in network.decoder.state_dict().items()},
    }
    theirs = whole(settings.architecture, in_axes_of_plan(topology), settings.norm, channels)
    order = (0, 1, *(2 + axis for axis in topology.axes))
    for half, tensors in halves.items():
        turned = {
            name.removeprefix(f"{half}."): tensor.permute(order) if tensor.ndim == len(order) else tensor
            for name, tensor in tensors.items()
        }
        _fill(getattr(theirs, half), turned)
    weights = {name: tensor for name, tensor in theirs.state_dict().items() if _HEADS not in name}
    stream = io.BytesIO()
    torch.save({"network_weights": weights}, stream)
    text = json.dumps({"3d_fullres_layered": configuration_of(settings, topology, size)}, indent=1) + "\n"
    return NnunetFile(stream.getvalue(), text.encode(), _notes(network.settings, channels))


def _check_plan(settings: Network, own: Topology, plan: Plan) -> None:
    """Refuse a plan of another network, whose weights nnU-Net would not load or would take for something else."""
    ours = {"architecture": settings.architecture, "norm": settings.norm, **own.model_dump(exclude={"axes"})}
    theirs = {"architecture": plan.architecture, "norm": plan.norm, **plan.topology.model_dump(exclude={"axes"})}
    for name, value in ours.items():
        if value != theirs[name]:
            raise SettingsError(
                f"{plan.where}: has {name} {_written(theirs[name])}, and this network {_written(value)}; "
                "pretrain with --plans to have one that fits"
            )


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _encoder(network: UNet, channels: int) -> dict[str, torch.Tensor]:
    """Return the encoder's tensors, its first convolution for scans alone and for so many modalities."""
    settings = network.settings
    tensors = {f"encoder.{name}": tensor for name, tensor in network.encoder.state_dict().items()}
    if settings.mirror is not None:
        first = FIRST_CONVOLUTION[settings.architecture]
        tensors[first] = tensors[first].unflatten(1, (2, settings.in_channels)).sum(1)
    before, now = ([str(number) for number in range(count)] for count in (settings.in_channels, channels))
    return carry_encoder(tensors, before, now)


def _fill(half: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy weights into half of nnU-Net's network, in which most have two names."""
    loaded = half.load_state_dict(tensors, strict=False)
    state = half.state_dict()
    filled = {state[name].data_ptr() for name in tensors}
    left = [name for name in loaded.missing_keys if state[name].data_ptr() not in filled]
    left = [name for name in left if not name.startswith(("encoder.", "seg_layers."))]
    if left or loaded.unexpected_keys:
        raise CheckpointError(
            f"nnU-Net's network has other weights than this one ({[*left, *loaded.unexpected_keys][0]}); "
            "its package is newer than this release of layered-tumors"
        )


def _notes(settings: Network, channels: int) -> tuple[str, ...]:
    """Say what nnU-Net does not take over as it is."""
    notes = ["nnU-Net makes segmentation heads of its own: the layers' head stays behind."]
    if settings.mirror is not None:
        notes.append(_MIRRORED)
    if channels != settings.in_channels:
        notes.append(
            f"The plan has {channels} channels and the network {settings.in_channels}: the first convolution's weights "
            f"are summed over its own and divided among the plan's."
        )
    return tuple(notes)
