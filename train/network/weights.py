"""What a checkpoint from a stranger must hold before anything is built of it.

A record is text and a network is numbers, so neither can do anything; but a record may say a thousand million channels,
or that a deviation is a word. Memory is taken for a network only once the file has been seen to hold all its weights.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scans.errors import CheckpointError
from train.architectures.choice import side_step
from train.network.unet import UNet
from train.settings import Network, recorded


def check_network(
    network: dict[str, Any],
    modalities: int,
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    *,
    finite: bool = True,
    build: Callable[[Network], nn.Module] = UNet,
) -> None:
    """Check that a record's network, as `build` makes it, has an input channel a modality and its weights in `tensors`.

    Raises
    ------
    CheckpointError
    """
    settings = recorded(Network, network, str(path))
    if settings.in_channels != modalities:
        raise CheckpointError(
            f"{path}: its record is damaged ({settings.in_channels} input channels for {modalities} modalities)"
        )
    with torch.device("meta"):  # shapes, without memory
        expected = build(settings).state_dict()
    check_weights(expected, tensors, path, finite=finite)


def check_cube(network: dict[str, Any], size: int, path: Path) -> None:
    """Check that nnU-Net's networks have the topology they were built of, and that it divides a record's cube.

    Raises
    ------
    CheckpointError
    """
    settings = recorded(Network, network, str(path))
    if settings.architecture != "unet" and settings.topology is None:
        raise CheckpointError(f"{path}: its record is damaged ({settings.architecture} without a topology)")
    if size % (step := side_step(settings)):
        raise CheckpointError(
            f"{path}: its record is damaged (a cube of {size} voxels for a network that needs a multiple of {step})"
        )


def check_one_mask(network: dict[str, Any], path: Path) -> None:
    """Stop at a network that was fine-tuned to several classes, where it would go on with a corpus.

    Raises
    ------
    CheckpointError
    """
    classes = recorded(Network, network, str(path)).classes
    if classes > 1:
        raise CheckpointError(f"{path}: finds {classes} classes, and a corpus has one; take a network with one mask")


def check_weights(
    expected: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], path: Path, *, finite: bool = True
) -> None:
    """Check that every expected tensor is there, in its shape and type and, if asked for, finite, and no other.

    Raises
    ------
    CheckpointError
        Naming the first tensor that does not fit.
    """
    for name in sorted(set(expected) ^ set(tensors)):
        what = "is missing" if name in expected else "has no place in this network"
        raise CheckpointError(f"{path}: {ascii(name)[1:-1]} {what}; the checkpoint is of another network")
    for name, tensor in tensors.items():
        shape, kind = expected[name].shape, expected[name].dtype
        if tensor.shape != shape:
            raise CheckpointError(f"{path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(shape)}")
        if tensor.dtype != kind:
            raise CheckpointError(f"{path}: {name} is of type {tensor.dtype}, expected {kind}")
        if finite and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path}: {name} holds values that are not finite; take an earlier one")


def restore_network(network: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copy weights into `network`; every tensor must be there, in its shape, and no other.

    Raises
    ------
    CheckpointError
        Naming the first tensor that does not fit.
    """
    check_weights(network.state_dict(), tensors, path, finite=False)  # who loaded it has looked
    network.load_state_dict(tensors)


def restore_optimiser(optimiser: torch.optim.Optimizer, network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put the moments and step counts of Adam back, each in its parameter's own memory layout."""
    for name, parameter in network.named_parameters():
        state: dict[str, torch.Tensor] = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (value := tensors.get(f"{key}.{name}")) is not None:
                # Fused Adam keeps the count of steps beside the weights.
                like = value.to(parameter.device) if key == "step" else torch.empty_like(parameter).copy_(value)
                state[key] = like
        if state:
            optimiser.state[parameter] = state
