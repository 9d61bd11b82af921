"""nnU-Net's encoders and decoders, built by its own package: PlainConvUNet, and the residual ResidualEncoderUNet.

The package keeps each convolution and norm under two names, and the encoder within the decoder once more. Here each has
one name, so that a checkpoint, an optimiser and a moving average meet every weight once; `whole` has all of them.
"""

import importlib.util
from typing import Any

from torch import nn

from train.architectures.instance_norm import InstanceNorm
from train.settings import SettingsError, Topology

PACKAGE = "dynamic_network_architectures"
_NORMS = {"batch": nn.BatchNorm3d, "instance": InstanceNorm}
_AGAIN = ("conv", "dropout", "norm", "nonlin")  # of a block that also holds them in a row, which it runs


def check_package(architecture: str) -> None:
    """Stop where nnU-Net's package is missing.

    Raises
    ------
    SettingsError
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise SettingsError(
            f"network {architecture} is nnU-Net's and needs its package, which is not installed here; "
            f"type: pip install {PACKAGE.replace('_', '-')}"
        )


def whole(architecture: str, topology: Topology, norm: str, inputs: int, masks: int = 1) -> nn.Module:
    """Return the network as nnU-Net builds it, with its initial weights and names.

    Parameters
    ----------
    architecture : {"plainconv", "resenc"}
    topology : Topology
    norm : {"batch", "instance"}
    inputs : int
        Channels of the first convolution.
    masks : int
        Channels of its segmentation heads.

    Raises
    ------
    SettingsError
        If its package is not installed.
    """
    check_package(architecture)
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

    built, blocks = {
        "plainconv": (PlainConvUNet, "n_conv_per_stage"),
        "resenc": (ResidualEncoderUNet, "n_blocks_per_stage"),
    }[architecture]
    network: nn.Module = built(
        input_channels=inputs,
        num_classes=masks,
        n_stages=len(topology.features),
        features_per_stage=topology.features,
        conv_op=nn.Conv3d,
        kernel_sizes=topology.kernels,
        strides=topology.strides,
        **{blocks: topology.blocks},
        n_conv_per_stage_decoder=topology.up_blocks,
        conv_bias=True,
        norm_op=_NORMS[norm],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    return network.apply(built.initialize)


def encoder_and_decoder(architecture: str, topology: Topology, norm: str, inputs: int) -> tuple[nn.Module, nn.Module]:
    """Return the two halves, the decoder without heads: it maps features to those of the finest stage; as `whole`."""
    network: Any = whole(architecture, topology, norm, inputs)
    encoder, decoder = network.encoder, network.decoder
    del decoder.encoder
    decoder.seg_layers = nn.ModuleList([nn.Identity()])
    for block in network.modules():
        if hasattr(block, "all_modules"):
            for name in _AGAIN:
                if hasattr(block, name):
                    delattr(block, name)
    return encoder, decoder
