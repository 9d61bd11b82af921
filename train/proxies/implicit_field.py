"""3D implicit field (Naval Marimont and Tarroni 2021): what healthy scans cannot explain is the tumour."""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from train.data.random_bits import Draws
from train.proxies.normals import NormalScan
from train.proxies.residual import Restorer
from train.proxies.task import Example, Proxy
from train.settings import ImplicitField as Settings
from train.settings import Network

_AT_A_TIME = 2**17  # points that are decoded together
_SEED = 0  # of the points a scan is fitted on: the same scan always gives the same restoration


class AutoDecoder(Restorer):
    """One latent vector for each source, and one network for all of them.

    Parameters
    ----------
    network : Network
        Only its number of modalities counts.
    settings : Settings
    sources : int
    """

    said = "an auto-decoder of healthy scans; what it cannot restore counts as tumour"

    def __init__(self, network: Network, settings: Settings, sources: int) -> None:
        super().__init__()
        self.settings = settings
        self.latents = nn.Embedding(sources, settings.latent)
        nn.init.normal_(self.latents.weight, std=0.01)
        inputs = settings.latent + 3 + 6 * settings.frequencies
        widths = [inputs] + [settings.width] * settings.layers
        hidden = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.field = nn.Sequential(*hidden, nn.Linear(settings.width, network.in_channels))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Tell intensities at points of sources.

        Parameters
        ----------
        points : Tensor of float32, shape (N, K, 4)
            Position of the source in the corpus, the same for all points of a row; then z, y, x in [-1, 1].

        Returns
        -------
        Tensor, shape (N, K, C + 1)
            The intensity of each modality; then the mean square of the source's latent, for the loss.
        """
        latent = self.latents(points[:, 0, 0].long())
        told = self.decode(latent, points[..., 1:])
        size = latent.square().mean(1).to(told.dtype)
        return torch.cat([told, size[:, None, None].expand(*told.shape[:2], 1)], dim=2)

    def decode(self, latent: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Map latents (N, L) and places (N, K, 3) to intensities (N, K, C)."""
        octaves = math.pi * 2.0 ** torch.arange(self.settings.frequencies, device=places.device)
        angles = (places[..., None] * octaves).flatten(-2)
        each = latent[:, None].expand(-1, places.shape[1], -1)
        return self.field(torch.cat([each, places, angles.sin(), angles.cos()], dim=-1))

    def restore(self, scan: torch.Tensor) -> torch.Tensor:
        """Return the healthy scan that is most like a scan, shape (C, z, y, x), 0 where all of the scan is 0.

        A latent is fitted to the scan, beginning at 0, the mean of what was learnt. L1, so that a tumour pulls
        no more than its share of voxels. The weights stay as they are.
        """
        settings, organ = self.settings, (scan != 0).any(0)
        restored = torch.zeros_like(scan)
        places, truth = coordinates(scan.shape[1:]).to(scan.device)[organ], scan[:, organ].T
        if not len(places):
            return restored
        draws = Draws(_SEED, len(places))
        with torch.enable_grad(), torch.autocast(scan.device.type, enabled=False):
            latent = torch.zeros(1, settings.latent, device=scan.device, requires_grad=True)
            optimiser = torch.optim.Adam([latent], lr=settings.restore_rate)
            for _ in range(settings.restore_steps):
                chosen = torch.from_numpy((draws.uniforms(settings.restore_points) * len(places)).astype(np.int64))
                told = self.decode(latent, places[chosen][None])[0]
                loss = (told - truth[chosen]).abs().mean() + settings.prior * latent.square().mean()
                optimiser.zero_grad()
                (latent.grad,) = torch.autograd.grad(loss, [latent])
                optimiser.step()
        with torch.no_grad(), torch.autocast(scan.device.type, enabled=False):
            told = torch.cat([self.decode(latent, part[None])[0] for part in places.split(_AT_A_TIME)])
        restored[:, organ] = told.T
        return restored


def coordinates(shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
    """Return the place of each voxel, float32 (z, y, x, 3): centres of a cube from -1 to 1."""
    axes = [(2 * torch.arange(n, dtype=torch.float32) + 1) / n - 1 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


class ImplicitField(Proxy):
    """Intensities at random points of training sources, told from their latents."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def network(self, settings: Network, sources: int) -> AutoDecoder:
        """Return an auto-decoder with random weights."""
        return AutoDecoder(settings, self.settings, sources)

    def example(self, scan: NormalScan, draws: Draws) -> Example:
        """Return points of the organ, float32 (K, 4), see `AutoDecoder`, and their intensities, float32 (K, C)."""
        inside = np.flatnonzero(scan.organ)
        chosen = inside[(draws.uniforms(self.settings.points) * len(inside)).astype(int)]
        places = coordinates(scan.voxels.shape[1:]).reshape(-1, 3).numpy()[chosen]
        points = np.concatenate([np.full((len(places), 1), scan.position, np.float32), places], axis=1)
        return points, np.ascontiguousarray(scan.voxels.reshape(len(scan.voxels), -1)[:, chosen].T)

    def terms(self, output: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean squared difference of intensities, and that latents stay near 0."""
        told, size = output.float().split([wanted.shape[-1], 1], dim=-1)
        distance, latent = functional.mse_loss(told, wanted), size.mean()
        return {"intensity": distance, "latent": latent, "total": distance + self.settings.prior * latent}
