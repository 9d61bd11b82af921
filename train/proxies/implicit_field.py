"""3D implicit field (Naval Marimont and Tarroni 2021): what healthy scans cannot explain is the tumour."""

import numpy as np
import torch
from torch.nn import functional

from train.proxies.auto_decoder import AutoDecoder, coordinates
from train.proxies.draws import Draws
from train.proxies.normals import Scan
from train.proxies.task import Example
from train.settings import ImplicitField as Settings
from train.settings import Network


class ImplicitField:
    """Intensities at random points of training sources, told from their latents.

    Parameters
    ----------
    settings : train.settings.ImplicitField
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def side(self, size: int) -> int:
        """Return the side of a scan: there is no encoder."""
        return size

    def network(self, settings: Network, sources: int) -> AutoDecoder:
        """Return an auto-decoder with random weights."""
        return AutoDecoder(settings, self.settings, sources)

    def example(self, scan: Scan, draws: Draws) -> Example:
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

    def score(self, output: torch.Tensor, wanted: torch.Tensor) -> dict[str, float]:
        """Return nothing more."""
        return {}

    def row(self, name: str, shown: np.ndarray, output: np.ndarray) -> None:
        """Draw nothing: `ResidualTask` does."""
