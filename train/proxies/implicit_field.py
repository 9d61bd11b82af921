"""3D implicit field (Naval Marimont and Tarroni 2021): what healthy scans cannot explain is the tumour."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from train.hardware import Hardware
from train.metrics import dice
from train.proxies.auto_decoder import AutoDecoder, coordinates, distance
from train.proxies.draws import Draws
from train.proxies.normals import Scan
from train.proxies.task import PICTURED, Example, ProxyTask
from train.settings import ImplicitField as Settings
from train.settings import Network

if TYPE_CHECKING:
    from train.pictures import Views

LEVELS = 40  # thresholds tried


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
        """Draw nothing: `ImplicitFieldTask` does."""


class ImplicitFieldTask(ProxyTask):
    """The task of the implicit field; it is validated as it is used, on held-out samples with a tumour."""

    _shown: "Sequence[Views]" = ()

    def validate(self, network: nn.Module, machine: Hardware) -> dict[str, float]:
        """Restore each held-out composite, and choose the threshold with the best mean Dice.

        ``loss`` is the mean distance of what was restored from the normal, ``threshold`` what a checkpoint keeps.
        """
        from train.pictures import Views

        assert isinstance(network, AutoDecoder)
        losses, far, masks = [], [], []
        shown: list[tuple[str, np.ndarray, np.ndarray]] = []
        for number in self.split.validation:
            sample = self.corpus[int(number)]
            composite, normal = (_channels(volume, machine) for volume in (sample.composite, sample.normal))
            restored = network.restore(composite)
            losses.append(float((restored - normal)[:, (normal != 0).any(0)].abs().mean()))
            far.append(distance(composite[None], restored[None])[0, 0].cpu().numpy())
            masks.append(sample.mask != 0)
            if len(shown) < PICTURED:
                shown.append((str(number), composite[0].cpu().numpy(), restored[0].cpu().numpy()))
        threshold, overlap = best_threshold(far, masks)
        found = [one >= threshold for one in far]
        self._shown = [
            Views(name, scan, normal, np.where(inside, scan, 0), inside, truth)
            for (name, scan, normal), inside, truth in zip(shown, found, masks, strict=False)
        ]
        return {"loss": float(np.mean(losses)), "dice": overlap, "score": overlap, "threshold": threshold}

    def views(self, network: nn.Module, machine: Hardware) -> "dict[str, list[Views]]":
        """Return what the last validation found in the first held-out samples: to restore is slow."""
        return {"validation": list(self._shown)} if self._shown else {}


def _channels(volume: np.ndarray, machine: Hardware) -> torch.Tensor:
    """Return a volume as float32 (C, z, y, x) on the device."""
    return torch.from_numpy(volume.astype(np.float32)).reshape(-1, *volume.shape[-3:]).to(machine.device)


def best_threshold(far: list[np.ndarray], masks: list[np.ndarray]) -> tuple[float, float]:
    """Return the threshold with the best mean Dice, and that Dice.

    Parameters
    ----------
    far : list of ndarray, shape (z, y, x)
        Distance from the restored scan.
    masks : list of ndarray of bool, same shape
    """
    pooled = np.concatenate([one[one > 0] for one in far])
    if not pooled.size:
        return 1.0, 0.0
    # Tumours fill few voxels: most thresholds worth trying lie near the top.
    shares = 1 - np.geomspace(1e-4, 0.5, LEVELS)
    levels = np.unique(np.quantile(pooled, shares))
    scores = [np.mean([dice(one >= level, mask) for one, mask in zip(far, masks, strict=True)]) for level in levels]
    best = int(np.argmax(scores))
    return float(levels[best]), float(scores[best])
