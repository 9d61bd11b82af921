"""Segmenting by what is left: a network restores the healthy scan, and what it could not restore is the tumour."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from train.network.dice import best_level
from train.network.hardware import Hardware
from train.network.unet import Layers
from train.proxies.task import PICTURED, ProxyTask
from train.run.pictures import Views


class Restorer(nn.Module):
    """A network that can tell what a scan would be like without its tumour.

    Attributes
    ----------
    said : str
        What it is, for a report.
    """

    said: str

    def restore(self, scan: torch.Tensor) -> torch.Tensor:
        """Return the healthy scan of a scan, shape (C, z, y, x), 0 where all of the scan is 0."""
        raise NotImplementedError


class Residual(nn.Module):
    """A restorer in the place of the layers' network.

    Parameters
    ----------
    restorer : Restorer
    threshold : float
        Least distance from the restored scan, in the network's units, that counts as tumour.
    """

    def __init__(self, restorer: Restorer, threshold: float) -> None:
        super().__init__()
        self.restorer = restorer
        self.threshold: torch.Tensor
        self.register_buffer("threshold", torch.tensor(threshold))

    def forward(self, scans: torch.Tensor) -> Layers:
        """Take scans (N, C, z, y, x) apart: what was restored is normal, the scan itself the texture.

        The logits are 0 at the threshold, so that the usual probability of 0.5 is there.
        """
        with torch.inference_mode(False):
            own = scans.clone().float()
            restored = torch.stack([self.restorer.restore(scan) for scan in own])
            far = distance(own, restored)
            return Layers(restored, own, far - self.threshold)


def distance(scans: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """Return how far scans (N, C, z, y, x) are from what was restored, the mean over modalities (N, 1, z, y, x)."""
    return (scans - restored).abs().mean(1, keepdim=True)


class ResidualTask(ProxyTask):
    """A proxy task that is validated as its network is used, on held-out samples with a tumour."""

    _shown: Sequence[Views] = ()

    def validate(self, network: nn.Module, machine: Hardware) -> dict[str, float]:
        """Restore each held-out composite, and choose the threshold with the best mean Dice.

        ``loss`` is the mean distance of what was restored from the normal, ``threshold`` what a checkpoint keeps.
        """
        assert isinstance(network, Restorer)
        losses, far, masks = [], [], []
        shown: list[tuple[int, np.ndarray, np.ndarray]] = []
        for number in self.split.validation:
            sample = self.corpus[int(number)]
            composite, normal = (
                torch.from_numpy(modalities(volume)).to(machine.device) for volume in (sample.composite, sample.normal)
            )
            restored = network.restore(composite)
            losses.append(float((restored - normal)[:, (normal != 0).any(0)].abs().mean()))
            far.append(distance(composite[None], restored[None])[0, 0].cpu().numpy())
            masks.append(sample.mask != 0)
            if len(shown) < PICTURED:
                shown.append((int(number), composite[0].cpu().numpy(), restored[0].cpu().numpy()))
        threshold, overlap = best_level(far, masks)
        found = [one >= threshold for one in far]
        self._shown = [
            Views(str(n), scan, normal, np.where(inside, scan, 0), inside, truth, self.corpus.spacing_mm(n))
            for (n, scan, normal), inside, truth in zip(shown, found, masks, strict=False)
        ]
        return {"loss": float(np.mean(losses)), "dice": overlap, "score": overlap, "threshold": threshold}

    def views(self, network: nn.Module, machine: Hardware) -> dict[str, list[Views]]:
        """Return what the last validation found in the first held-out samples: to restore is slow."""
        return {"validation": list(self._shown)} if self._shown else {}


def modalities(volume: np.ndarray) -> np.ndarray:
    """Return a volume of a sample, (z, y, x) of one modality or (C, z, y, x), as float32 (C, z, y, x)."""
    return volume.astype(np.float32).reshape(-1, *volume.shape[-3:])
