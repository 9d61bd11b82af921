"""The task of fine-tuning for the loop: annotated scans, augmented, and the soft Dice loss of their masks."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scans.catalog.region import TUMOUR_SHARE
from synth.corpus import Voxels
from train.cases.augment import Change, changed, draw
from train.cases.prepared import RealScan
from train.data.order import Endless
from train.data.patches import patch_window
from train.inference.patchwise import slide_over_organ
from train.network import hardware
from train.network.dice import dice
from train.network.losses import dice_loss
from train.network.ranks import ALONE, Ranks
from train.network.unet import Layers
from train.run.pictures import Views
from train.settings import Finetune


@dataclass(frozen=True)
class Annotated:
    """Annotated scans side by side.

    Attributes
    ----------
    composite : Tensor of float32, shape (N, C, z, y, x)
        Of C modalities.
    mask : Tensor of float32, shape (N, K, z, y, x)
        Of K classes.
    """

    composite: torch.Tensor
    mask: torch.Tensor

    def to(self, device: torch.device) -> "Annotated":
        """Move to a device."""
        return Annotated(self.composite.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))


class Supervised:
    """Annotated scans, in the order of a seed, for ``train.stages.loop``.

    Parameters
    ----------
    training, validation : list of RealScan
        An empty validation: the training scans steer.
    settings : Finetune
    ranks : Ranks
    classes : sequence of str
        Names of the classes that the scans' masks have.
    device : torch.device
        Where scans are augmented.
    patch : int, optional
        Side of what the network is shown; whole scans if not given.
    """

    def __init__(
        self,
        training: list[RealScan],
        validation: list[RealScan],
        settings: Finetune,
        ranks: Ranks = ALONE,
        *,
        classes: Sequence[str] = ("tumour",),
        device: torch.device | str = "cpu",
        patch: int | None = None,
    ) -> None:
        self.patch = patch
        self.places = [_places(scan) for scan in training if patch]
        self.settings = settings
        self.training = training
        self.validation = validation or training
        self.ranks = ranks
        self.classes = tuple(classes)
        self.device = torch.device(device)
        self.order = Endless(np.zeros(len(training), int), settings.schedule.seed)

    def batches(self, steps: range) -> Iterator[Annotated]:
        """Yield the batch of each step."""
        for step in steps:
            chosen = self._chosen(step)
            scans, changes = [self._shown(p) for p in chosen], [self._change(p) for p in chosen]
            yield batch_of(scans, changes, self.device)

    def recipe(self, step: int) -> list[dict[str, Any]]:
        """Return the name of each scan of a step, and what is done to it."""
        chosen = self._chosen(step)
        return [{"scan": self.training[self.order[p]].name, **_plain(self._change(p))} for p in chosen]

    def _chosen(self, step: int) -> range:
        return self.ranks.share(self.settings.schedule.batch, step)

    def _shown(self, position: int) -> RealScan:
        """Return the scan at a position of the stream, or the patch of it that is shown."""
        number = self.order[position]
        scan = self.training[number]
        if self.patch is None or scan.mask is None:
            return scan
        shape, seed = scan.intensity.shape[1:], self.settings.schedule.seed
        z, y, x = patch_window(shape, self.patch, TUMOUR_SHARE, seed, position, *self.places[number])
        return replace(scan, intensity=scan.intensity[:, z, y, x], mask=scan.mask[..., z, y, x])

    def _change(self, position: int) -> Change:
        """Draw what is done to the scan at a position of the stream."""
        modalities = len(self.training[0].intensity)
        return draw(self.settings.augment, self.settings.schedule.seed, position, modalities)

    def loss(self, layers: Layers, batch: Annotated) -> dict[str, torch.Tensor]:
        """Soft Dice loss of the masks; the other layers are not trained."""
        return supervised_loss(layers, batch)

    def validate(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, float]:
        """Soft Dice loss and Dice at probability 0.5 on the steering cases, in the network's cube.

        Of several classes the mean, and ``dice_CLASS`` of each.
        """
        losses, overlaps = [], []
        for scan in self.validation:
            logits, batch = self._logits(network, machine, scan)
            losses.append(float(dice_loss(logits, batch.mask)))
            found, truth = ((t[0] > 0).cpu().numpy() for t in (logits, batch.mask))
            overlaps.append([dice(a, b) for a, b in zip(found, truth, strict=True)])
        overlap = float(np.mean(overlaps))
        scores = {"loss": float(np.mean(losses)), "dice": overlap, "score": overlap}
        if len(self.classes) > 1:
            means = np.mean(overlaps, axis=0)
            scores |= {f"dice_{name.replace(' ', '_')}": float(m) for name, m in zip(self.classes, means, strict=True)}
        return scores

    def views(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, list[Views]]:
        """Return the first steering cases and their first class, to be drawn; layers are not trained and left empty."""
        rows = []
        for scan in self.validation[:4]:
            logits, batch = self._logits(network, machine, scan)
            found, truth = ((t[0, 0] > 0).cpu().numpy() for t in (logits, batch.mask))
            rows.append(Views(scan.name, scan.intensity[0], None, None, found, truth, scan.spacing_mm))
        return {"validation": rows}

    def _logits(self, network: nn.Module, machine: hardware.Hardware, scan: RealScan) -> tuple[torch.Tensor, Annotated]:
        batch = batch_of([scan], [Change()], machine.device)

        def logits_of(part: torch.Tensor) -> torch.Tensor:
            with torch.no_grad(), machine.autocast():
                return network(part).logits.float()

        if self.patch is None:
            return logits_of(batch.composite), batch
        found = slide_over_organ(
            lambda part: logits_of(part).sigmoid(), scan.intensity, self.patch, len(self.classes), machine.device
        )
        return torch.from_numpy(found)[None].clamp(1e-6, 1 - 1e-6).logit(), batch


def _places(scan: RealScan) -> tuple[Voxels, Voxels]:
    """Return what patches of a scan are around: its organ, and its tumour."""
    assert scan.mask is not None
    marked = np.asarray(scan.mask.reshape(-1, *scan.mask.shape[-3:]).any(axis=0))
    return Voxels((scan.intensity != 0).any(axis=0)), Voxels(marked)


def supervised_loss(layers: Layers, batch: Annotated) -> dict[str, torch.Tensor]:
    """Soft Dice loss of the masks (Eq. 8), its mean over classes; the other layers are not trained."""
    return {"total": dice_loss(layers.logits, batch.mask)}


def batch_of(scans: list[RealScan], changes: list[Change], device: torch.device | str = "cpu") -> Annotated:
    """Stack annotated scans on a device, to each its own change done."""
    intensities, masks = [], []
    for scan, change in zip(scans, changes, strict=True):
        assert scan.mask is not None
        cube = scan.mask.shape[-3:]
        intensity = torch.from_numpy(scan.intensity.astype(np.float32, copy=False)).to(device)
        mask = torch.from_numpy(scan.mask.reshape(-1, *cube)).to(device).float()
        intensity, mask = changed(intensity, mask, change)
        intensities.append(intensity)
        masks.append(mask)
    return Annotated(torch.stack(intensities), torch.stack(masks))


def _plain(change: Change) -> dict[str, Any]:
    """Return what is done to a scan, without what is not, as plain JSON values."""
    drawn, nothing = asdict(change), asdict(Change())
    appearance = [{n: v for n, v in vars(a).items() if v != getattr(type(a)(), n)} for a in change.appearance]
    drawn["appearance"] = appearance if any(appearance) else ()
    if not any("noise" in done for done in appearance):
        drawn["noise_key"] = nothing["noise_key"]
    return json.loads(json.dumps({n: v for n, v in drawn.items() if v != nothing[n]}))
