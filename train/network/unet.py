"""The network: a 3D UNet that sends a scan to its normal layer, its tumour layer and the mask's logits."""

from typing import NamedTuple

import torch
from torch import nn

from train.architectures.choice import encoder_and_decoder
from train.network.symmetry import Sight
from train.settings import Network


class Layers(NamedTuple):
    """What the network found in a batch, float32.

    ``normal`` and ``texture``, (N, C, z, y, x), are in the intensity units of the C input modalities; ``logits``,
    (N, K, z, y, x), belong to the masks of K classes, one unless fine-tuned to several.
    """

    normal: torch.Tensor
    texture: torch.Tensor
    logits: torch.Tensor


class UNet(nn.Module):
    """3D UNet of four levels (Zhang et al. 2021, Sec. IV-C; widths of Models Genesis), or one of nnU-Net's.

    In the paper's, level ``i`` has two 3³ convolutions with ``width * 2**i`` and ``width * 2**(i + 1)`` channels, each
    followed by a norm and a ReLU; 2³ max-pooling between levels, 2³ transposed convolutions on the way up, and skip
    connections. On any, one 1³ convolution leads to the layers: normal and texture of each modality, and the mask of
    each class.

    Parameters
    ----------
    settings : Network
        At ``width=32`` the paper's network has 19,073,795 parameters.

    Raises
    ------
    SettingsError
        If nnU-Net's network has no topology, or its package is not installed.
    """

    def __init__(self, settings: Network) -> None:
        super().__init__()
        self.settings = settings
        inputs = settings.in_channels * (1 if settings.mirror is None else 2)
        self.sight = Sight(settings.in_channels, settings.mirror)
        self.encoder, self.decoder, features = encoder_and_decoder(settings, inputs)
        self.head = nn.Conv3d(features, 2 * settings.in_channels + settings.classes, kernel_size=1)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias[-settings.classes :] = settings.mask_bias

    def forward(self, scan: torch.Tensor) -> Layers:
        """Take scans of shape (N, C, z, y, x) apart; parts of scans come as ``train.network.symmetry.seen`` says."""
        output = self.head(self.decoder(self.encoder(self.sight(scan)))).float()  # losses are computed in it
        modalities = self.settings.in_channels
        return Layers(*output.split([modalities, modalities, self.settings.classes], dim=1))
