"""ASC-Net (Dey and Hong 2021): two cuts of a scan, one of which looks healthy to a discriminator.

The discriminator is part of the network, and the gradient that reaches the cut through it is reversed: one loss, which
it lowers and the cuts raise. The authors' own loss is such a game of sum zero, so the gradients are theirs.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from synth.corpus import Corpus
from train.data.corpora import Corpora
from train.data.order import Endless
from train.data.random_bits import Draws
from train.data.split import Split
from train.network.dice import soft_dice
from train.network.ranks import ALONE, Ranks
from train.network.unet import UNet
from train.proxies.classifier import Classifier
from train.proxies.normals import NormalScan
from train.proxies.residual import ResidualTask, Restorer, modalities
from train.proxies.task import Example, Proxy
from train.settings import Network, Pretrain

KNOWN, CUT = -1.0, 1.0  # what the discriminator is to say of a healthy scan, and of a cut


class AscNet(Restorer):
    """The UNet with two cuts in place of its layers, what puts them together again, and the discriminator."""

    said = "ASC-Net; where a scan is far from its cut that looks healthy counts as tumour"

    def __init__(self, settings: Network) -> None:
        super().__init__()
        self.settings = settings
        network, count = UNet(settings), settings.in_channels
        self.encoder, self.decoder = network.encoder, network.decoder
        self.cuts = nn.Conv3d(network.head.in_channels, 2 * count, kernel_size=1)
        self.together = nn.Conv3d(2 * count, count, kernel_size=1)
        self.discriminator = Classifier(settings, pieces=1, classes=1)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Cut scans, put them together again, and judge the first cuts beside healthy scans.

        Parameters
        ----------
        pairs : Tensor of float32, shape (N, 2, C, z, y, x)
            A scan and a healthy one of another source, in the network's units.

        Returns
        -------
        Tensor, shape (N, 3 C + 2, z, y, x)
            Both cuts and what they are together, in [0, 1]; then what the discriminator says of the healthy scan and
            of the first cut, before its tanh, the same in every voxel.
        """
        scan, healthy = pairs.unbind(1)
        cuts = brightness(self.cut(scan), scan)
        together = brightness(self.together(cuts), scan)
        fence = cuts[:, : scan.shape[1]]
        told = [self._judged(brightness(healthy, healthy)), self._judged(reversed_gradient(fence))]
        everywhere = [one[..., None, None, None].expand(-1, -1, *scan.shape[2:]) for one in told]
        return torch.cat([cuts, together, *everywhere], dim=1)

    def cut(self, scan: torch.Tensor) -> torch.Tensor:
        """Return the cut that is to look healthy and the other of scans (N, C, z, y, x), in the network's units."""
        return self.cuts(self.decoder(self.encoder(scan)))

    def restore(self, scan: torch.Tensor) -> torch.Tensor:
        """Return the cut of a scan that looks healthy, shape (C, z, y, x), 0 where all of the scan is 0."""
        # In float32 wherever it runs, so that the threshold means the same.
        with torch.no_grad(), torch.autocast(scan.device.type, enabled=False):
            fence = self.cut(scan[None])[0, : len(scan)]
        return fence * (scan != 0).any(0)

    def _judged(self, scans: torch.Tensor) -> torch.Tensor:
        """Map scans in [0, 1], shape (N, C, z, y, x), to what the discriminator says before its tanh, shape (N, 1)."""
        return self.discriminator(scans[:, None])


def brightness(values: torch.Tensor, scan: torch.Tensor) -> torch.Tensor:
    """Bring intensities, which are in deviations from a mean, to [0, 1] by the logistic function; 0 outside the organ.

    Parameters
    ----------
    values : Tensor, shape (N, K, z, y, x)
    scan : Tensor, shape (N, C, z, y, x)
        Outside the organ all of it is 0.
    """
    return values.sigmoid() * (scan != 0).any(1, keepdim=True)


def reversed_gradient(values: torch.Tensor) -> torch.Tensor:
    """Return the same numbers, which pass the negative of a gradient on (Ganin and Lempitsky 2015)."""
    return 2 * values.detach() - values


class Selection(Proxy):
    """Cut a composite in two, so that the first cut looks like a normal and both together like the composite."""

    def network(self, settings: Network, sources: int) -> AscNet:
        """Return an ASC-Net with random weights."""
        return AscNet(settings)

    def example(self, scan: NormalScan, draws: Draws) -> Example:
        """Return a composite beside a healthy scan, as `SelectionTask` reads them, and the composite."""
        return scan.voxels, scan.voxels[0]

    def terms(self, output: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        """Squared error of what was put together, overlap of the cuts, and the discriminator's mistakes.

        Parameters
        ----------
        output : Tensor, shape (N, 3 C + 2, z, y, x)
            Of `AscNet`.
        wanted : Tensor, shape (N, C, z, y, x)
            The composite.
        """
        count = wanted.shape[1]
        fence, wild, together, told = output.float().split([count, count, count, 2], dim=1)
        healthy, cut = told[:, :, 0, 0, 0].tanh().unbind(1)
        reconstruction = functional.mse_loss(together, brightness(wanted, wanted))
        overlap = soft_dice(fence, wild).mean()
        discriminator = (healthy - KNOWN).abs().mean() + (cut - CUT).abs().mean()
        return {
            "reconstruction": reconstruction,
            "overlap": overlap,
            "discriminator": discriminator,
            "total": reconstruction + overlap + discriminator,
        }


class SelectionTask(ResidualTask):
    """The task of ASC-Net: every training composite once an epoch, and beside it a normal of another source."""

    def __init__(
        self, proxy: Proxy, corpus: Corpus | Corpora, split: Split, settings: Pretrain, ranks: Ranks = ALONE
    ) -> None:
        super().__init__(proxy, corpus, split, settings, ranks)
        self._order = Endless(corpus.shards[split.training], settings.schedule.seed)

    def recipe(self, step: int) -> list[dict[str, Any]]:
        """Return the sample and the healthy source of each example of a step, and all that made the sample."""
        drawn = [(place, *self._drawn(place)) for place in self._places(step)]
        return [
            {
                "proxy": self.settings.proxy,
                "place": place,
                "corpus": self.corpus.where,
                "sample": number,
                "healthy": self.normals.names[healthy],
                **self.corpus.recipe(number),
            }
            for place, number, healthy in drawn
        ]

    def _drawn(self, place: int) -> tuple[int, int]:
        """Return the sample at a place of the stream, and the position of the source beside it."""
        number = int(self.split.training[self._order[place]])
        own = int(self.corpus.normal[number])
        # With a single source there is no other.
        others = [position for position in self.normals.training if position != own] or [own]
        return number, others[self.normals.draws_at(place).integer(0, len(others) - 1)]

    def _scan(self, place: int) -> NormalScan:
        """Return a composite and a healthy scan, its voxels of shape (2, C, z, y, x)."""
        number, healthy = self._drawn(place)
        composite = modalities(self.corpus[number].composite)
        return NormalScan(int(self.corpus.normal[number]), np.stack([composite, self.normals.scan(healthy).voxels]))
