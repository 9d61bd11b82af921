"""Proxy tasks whose answer is one of a few classes: the UNet's encoder, and a small head that is thrown away."""

import torch
from torch import nn
from torch.nn import functional

from train.architectures.zhang import POOLINGS
from train.network.unet import UNet
from train.proxies.task import Proxy
from train.settings import Network

HIDDEN = 256  # features of the head's one hidden layer
SMALLEST = 2**POOLINGS  # voxels along a side that leave the encoder as one


class Classifier(nn.Module):
    """The encoder of the UNet, global average pooling, and two linear layers.

    Several pieces of a scan go through the same encoder one by one; the head sees the features of all of them,
    in their order.
    """

    def __init__(self, settings: Network, pieces: int, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = UNet(settings).encoder
        features = settings.width * 2 ** (POOLINGS + 1)
        self.head = nn.Sequential(nn.Linear(pieces * features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))

    def forward(self, pieces: torch.Tensor) -> torch.Tensor:
        """Map pieces of scans, shape (N, P, C, z, y, x), to logits of the classes, shape (N, classes)."""
        count = len(pieces)
        features = self.encoder(pieces.flatten(0, 1))[-1].mean((2, 3, 4))
        return self.head(features.reshape(count, -1))


class Classification(Proxy):
    """What proxy tasks with classes have in common; the answer wanted is the number of a class, int64."""

    pieces = 1
    classes: int

    def network(self, settings: Network, sources: int) -> Classifier:
        """Return a classifier with random weights."""
        return Classifier(settings, self.pieces, self.classes)

    def terms(self, output: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        """Cross-entropy."""
        return {"total": functional.cross_entropy(output.float(), wanted)}

    def score(self, output: torch.Tensor, wanted: torch.Tensor) -> dict[str, float]:
        """Return the share of right answers."""
        return {"accuracy": float((output.argmax(1) == wanted).float().mean())}
