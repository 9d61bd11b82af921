"""nnU-Net's plans: a network's topology read from ``plans.json``, and one written as a configuration for it.

Written against nnU-Net 2.8. A plan numbers axes as nnU-Net turns them, ``transpose_forward``; here they are z, y, x.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from scans.catalog.settings import Strict, one_line
from train.settings import ArchitectureName, Count, Features, Kernel, Network, SettingsError, Stride, Topology

CONFIGURATION = "3d_fullres"
_UNETS = "dynamic_network_architectures.architectures.unet."
_CLASSES: dict[str, ArchitectureName] = {
    f"{_UNETS}PlainConvUNet": "plainconv",
    f"{_UNETS}ResidualEncoderUNet": "resenc",
}
_BLOCKS = {"plainconv": "n_conv_per_stage", "resenc": "n_blocks_per_stage"}
_NORMS = {
    "instance": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "batch": "torch.nn.modules.batchnorm.BatchNorm3d",
}


class _Norm(Strict):
    eps: float = Field(1e-05, ge=1e-05, le=1e-05)
    affine: Literal[True]


class _Activation(Strict):
    inplace: bool = True


class _Arguments(Strict):
    """What the network's class is given; what cannot be built here is not allowed."""

    n_stages: int
    features_per_stage: tuple[Features, ...]
    conv_op: Literal["torch.nn.modules.conv.Conv3d"]
    kernel_sizes: tuple[Kernel, ...]
    strides: tuple[Stride, ...]
    n_conv_per_stage: tuple[Count, ...] = ()
    n_blocks_per_stage: tuple[Count, ...] = ()
    n_conv_per_stage_decoder: tuple[Count, ...]
    conv_bias: Literal[True]
    norm_op: Literal["torch.nn.modules.instancenorm.InstanceNorm3d", "torch.nn.modules.batchnorm.BatchNorm3d"]
    norm_op_kwargs: _Norm
    dropout_op: None = None
    dropout_op_kwargs: None = None
    nonlin: Literal["torch.nn.LeakyReLU"]
    nonlin_kwargs: _Activation


class _Architecture(Strict):
    network_class_name: Literal[
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    ]
    arch_kwargs: _Arguments
    kw_requires_import: list[str] = Field(default=[], alias="_kw_requires_import")


@dataclass(frozen=True)
class Plan:
    """A configuration of a plan.

    Attributes
    ----------
    where : str
        The file and the configuration, for errors.
    architecture : str
    topology : Topology
    norm : {"batch", "instance"}
    channels : int or None
        Modalities, where the plan has them.
    """

    where: str
    architecture: ArchitectureName
    topology: Topology
    norm: str
    channels: int | None

    def network(self) -> dict[str, Any]:
        """Return the settings of a network that fits."""
        return {
            "architecture": self.architecture,
            "topology": self.topology.model_dump(),
            "norm": self.norm,
            "width": self.topology.features[0],
        }


def read_plan(path: Path, configuration: str = CONFIGURATION) -> Plan:
    """Read which network a plan has.

    Raises
    ------
    SettingsError
        If the file is no plan of nnU-Net, has no such configuration, or one of a network that cannot be built here.
    """
    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
        configurations, order = plans["configurations"], [int(axis) for axis in plans["transpose_forward"]]
        known = isinstance(configurations, dict)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"{path}: no plan of nnU-Net ({error}); give the nnUNetPlans.json of a dataset") from error
    if not known or sorted(order) not in ([0, 1, 2], [0, 1]):
        raise SettingsError(f"{path}: no plan of nnU-Net; give the nnUNetPlans.json of a dataset")
    where = f"{path}, configuration {configuration!a}"
    whole = _resolved(configurations, configuration, str(path))
    if "architecture" not in whole:
        raise SettingsError(f"{where}: says no architecture; plan the dataset again with nnU-Net 2.5 or newer")
    try:
        found = _Architecture.model_validate(whole["architecture"])
        architecture, given = _CLASSES[found.network_class_name], found.arch_kwargs
        back = [order.index(axis) for axis in range(3)]
        topology = Topology(
            features=given.features_per_stage,
            strides=tuple(_turned(each, back) for each in given.strides),
            kernels=tuple(_turned(each, back) for each in given.kernel_sizes),
            blocks=getattr(given, _BLOCKS[architecture]),
            up_blocks=given.n_conv_per_stage_decoder,
            axes=tuple(order),
        )
    except ValidationError as error:
        raise SettingsError(f"{where}: of a network that cannot be built here ({one_line(error)})") from error
    norm = next(name for name, written in _NORMS.items() if written == given.norm_op)
    channels = plans.get("foreground_intensity_properties_per_channel")
    return Plan(where, architecture, topology, norm, len(channels) if isinstance(channels, dict) else None)


def _resolved(configurations: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return a configuration with what it inherits."""
    chain: list[dict[str, Any]] = []
    seen: set[str] = set()
    following: Any = name
    while following is not None:
        one = configurations.get(following) if isinstance(following, str) and following not in seen else None
        if not isinstance(one, dict):
            there = ", ".join(map(ascii, configurations)) or "none"
            raise SettingsError(f"{where}: has no configuration {following!a}; there are {there}")
        seen.add(following)
        chain.append(one)
        following = one.get("inherits_from")
    return {key: value for one in reversed(chain) for key, value in one.items()}


def configuration_of(settings: Network, own: Topology, size: int) -> dict[str, Any]:
    """Return what stands for a network's configuration in ``plans.json``; the rest is inherited.

    Parameters
    ----------
    settings : Network
    own : Topology
        Its stages, with the order of axes that the plan has.
    size : int
        Voxels along each side of its cube.
    """
    topology = in_axes_of_plan(own)
    return {
        "inherits_from": CONFIGURATION,
        "patch_size": [size] * 3,
        "architecture": {
            "network_class_name": next(name for name, each in _CLASSES.items() if each == settings.architecture),
            "arch_kwargs": {
                "n_stages": len(topology.features),
                "features_per_stage": list(topology.features),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": list(topology.kernels),
                "strides": list(topology.strides),
                _BLOCKS[settings.architecture]: list(topology.blocks),
                "n_conv_per_stage_decoder": list(topology.up_blocks),
                "conv_bias": True,
                "norm_op": _NORMS[settings.norm],
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }


def in_axes_of_plan(topology: Topology) -> Topology:
    """Return a topology with strides and kernels along the axes as nnU-Net's plan has them."""
    turned = {
        name: tuple(_turned(each, topology.axes) for each in getattr(topology, name)) for name in ("strides", "kernels")
    }
    return topology.model_copy(update={**turned, "axes": (0, 1, 2)})


def _turned(along: Sequence[Any], axes: Sequence[int]) -> tuple[Any, ...]:
    """Return what is given for each axis in another order of axes."""
    return tuple(along[axis] for axis in axes)
