"""The encoders and decoders by name, and what else depends on which one a network has."""

import math

from torch import nn

from train.architectures import nnunet, zhang
from train.settings import Network, SettingsError

FIRST_CONVOLUTION = {  # its weight, by the name that it has in `train.network.unet.UNet`
    "unet": "encoder.levels.0.0.weight",
    "plainconv": "encoder.stages.0.0.convs.0.all_modules.0.weight",
    "resenc": "encoder.stem.convs.0.all_modules.0.weight",
}
_NAMES = {"plainconv": "nnU-Net's plain 3D UNet", "resenc": "nnU-Net's residual encoder 3D UNet"}


def check_installed(settings: Network) -> None:
    """Stop where what a network is built by is missing, before anything is read.

    Raises
    ------
    SettingsError
    """
    if settings.architecture != "unet":
        nnunet.check_package(settings.architecture)


def encoder_and_decoder(settings: Network, inputs: int) -> tuple[nn.Module, nn.Module, int]:
    """Return both halves of a network with random weights, and how many features the finest level has.

    The encoder maps (N, inputs, z, y, x) to a list of features, the finest first; the decoder maps these to
    (N, features, z, y, x).

    Raises
    ------
    SettingsError
        If nnU-Net's network has no topology, or its package is not installed.
    """
    if settings.architecture == "unet":
        first, second = zhang.widths(settings.width)
        return zhang.Encoder(inputs, first, second, settings.norm), zhang.Decoder(second, settings.norm), second[0]
    if settings.topology is None:
        raise SettingsError(f"network {settings.architecture}: has no topology; plan one for the size and the spacing")
    halves = nnunet.encoder_and_decoder(settings.architecture, settings.topology, settings.norm, inputs)
    return *halves, settings.topology.features[0]


def side_step(settings: Network) -> int:
    """Return what a side of a scan must be a multiple of, in voxels: of 8, as every cube is, and of all strides."""
    step = 2**zhang.POOLINGS
    if settings.topology is None:
        return step
    return math.lcm(step, *(math.prod(along) for along in zip(*settings.topology.strides, strict=True)))


def described(settings: Network) -> str:
    """Say in words which network it is."""
    if settings.topology is None:
        return f"3D UNet, width {settings.width}"
    features = settings.topology.features
    return f"{_NAMES[settings.architecture]}, {len(features)} stages of {features[0]} to {max(features)} features"
