"""What a checkpoint from a stranger must hold before anything is built of it.

A record is text and a network is numbers, so neither can do anything; but a record may say a thousand million channels,
or that a deviation is a word. Memory is taken for a network only once the file has been seen to hold all its weights.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field, FiniteFloat
from torch import nn

from scans.errors import CheckpointError
from scans.region import Strict
from train.settings import Network, recorded
from train.unet import POOLINGS, UNet

_LARGEST = 512  # voxels along a side, as scans.preparation takes them


class _Exact(Strict):
    model_config = ConfigDict(strict=True)  # a number in quotes is no number


class _Statistics(_Exact):
    mean: FiniteFloat
    std: float = Field(gt=0, allow_inf_nan=False)
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class _Channel(_Exact):
    region: dict[str, Any]
    statistics: _Statistics | None


class _Threshold(_Exact):
    sigma_mm: float = Field(ge=0, allow_inf_nan=False)
    level: FiniteFloat
    side: Literal["above", "below"]
    dice: FiniteFloat


class _Details(_Exact):
    channels: list[_Channel] = Field(min_length=1)
    size: int = Field(ge=2**POOLINGS, le=_LARGEST, multiple_of=2**POOLINGS)
    threshold: _Threshold | None


def check_details(channels: list[dict[str, Any]], size: int, threshold: dict[str, Any] | None) -> None:
    """Check what of a record is plain lists and dictionaries; regions and settings are checked where they are used.

    Raises
    ------
    ValidationError
    """
    _Details.model_validate({"channels": channels, "size": size, "threshold": threshold})


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
