"""Real annotated cases scored while a network trains: shown, and never used to choose anything.

The road to real tumours is synthetic, so real truth must not steer it; but whoever watches a training wants to see
early whether it leads there. Nothing here imports SimpleITK before there are cases to read.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from scans.errors import CatalogError, ScanError, UserError
from scans.file_names import safe_names
from train.inference.patchwise import slide_over_organ
from train.network.dice import dice
from train.network.hardware import Hardware
from train.network.unet import Layers
from train.run.pictures import Views

if TYPE_CHECKING:
    from train.cases.prepared import RealScan

SCORE = "real_dice"


class RealValidation:
    """Annotated real scans, prepared for the network.

    Parameters
    ----------
    scans : list of RealScan
        With masks.
    batch : int
        How many go through the network at once.
    patch : int, optional
        Side of what the network is shown; it then slides over each scan's organ.
    """

    def __init__(self, scans: "list[RealScan]", batch: int, patch: int | None = None) -> None:
        self.scans, self.patch = scans, patch
        self.names = safe_names([scan.name for scan in scans])
        self._batches = [scans[i : i + batch] for i in range(0, len(scans), batch)]

    def scores(self, network: nn.Module, hardware: Hardware) -> dict[str, float]:
        """Return the mean Dice at probability 0.5 as ``real_dice``, and each case's as ``real_dice.CASE``.

        In the network's cube: good for watching a training, not the number to report. That is ``train evaluate``'s,
        in each scan's own grid. Empty without scans. The network must be in evaluation mode.
        """
        overlaps: list[float] = []
        for batch in self._batches:
            masks = (self._through(network, hardware, batch).logits > 0).cpu().numpy()[:, 0]
            overlaps += [dice(mask, truth_of(scan)) for scan, mask in zip(batch, masks, strict=True)]
        if not overlaps:
            return {}
        each = {f"{SCORE}.{name}": overlap for name, overlap in zip(self.names, overlaps, strict=True)}
        return {SCORE: float(np.mean(overlaps)), **each}

    def views(self, network: nn.Module, hardware: Hardware) -> list[Views]:
        """Return what a picture shows of each scan: its first modality, the predicted layers and mask, the truth."""
        rows = []
        for scan in self.scans:
            layers = self._through(network, hardware, [scan])
            normal, texture, logits = (layer[0, 0].cpu().numpy() for layer in layers)
            mask = logits > 0
            seen, tumour = scan.intensity[0], np.where(mask, texture, 0)
            rows.append(Views(scan.name, seen, normal, tumour, mask, truth_of(scan), scan.spacing_mm))
        return rows

    def _through(self, network: nn.Module, hardware: Hardware, scans: "Sequence[RealScan]") -> Layers:
        def layers_of(scan: torch.Tensor) -> Layers:
            with torch.no_grad(), hardware.autocast():
                layers: Layers = network(scan.to(hardware.device))
            return layers

        if self.patch is None:
            return layers_of(torch.from_numpy(np.stack([s.intensity for s in scans]).astype(np.float32, copy=False)))
        channels, device = len(scans[0].intensity), hardware.device
        each = [
            slide_over_organ(
                lambda patch: torch.cat(layers_of(patch), dim=1), s.intensity, self.patch, 2 * channels + 1, device
            )
            for s in scans
        ]
        return Layers(*torch.from_numpy(np.stack(each)).split([channels, channels, 1], dim=1))


def truth_of(scan: "RealScan") -> np.ndarray:
    """Return a scan's annotated tumour, bool (z, y, x)."""
    assert scan.mask is not None
    return scan.mask != 0


def find_real_cases(
    catalog: Path | None,
    channels: Sequence[dict[str, Any]],
    size: int,
    most: int,
    say: Callable[[str], None] = lambda line: None,
) -> "list[RealScan]":
    """Prepare annotated cases of the region a network is trained for, from the datasets that are here.

    Parameters
    ----------
    catalog : Path or None
        None: there is none to look in.
    channels : sequence of dict
        The network's modalities as a checkpoint records them; datasets that have them, of that region, are taken.
    size : int
        Side of the network's cube in voxels.
    most : int
        Cases at the most: the first of each dataset, then the second of each, and so on.
    say : callable
        Told, in a sentence, of each case that cannot be used and of a catalog that cannot be read.

    Returns
    -------
    list of RealScan
        With masks, named ``DATASET--CASE``; empty if there are none. Never an error: a training does without.
    """
    if catalog is None or most < 1:
        return []
    try:
        from scans.catalog.catalog import load_catalog
        from train.cases.prepared import dataset_cases, prepare_cases
        from train.network.channels import recorded_channel
    except ImportError as error:
        say(f"no real cases are shown: {error.name} is not installed")
        return []
    try:
        known = [recorded_channel(channel, "the corpus") for channel in channels]
        loaded = load_catalog(catalog)
    except UserError as error:
        say(f"no real cases are shown: {error}")
        return []
    regions, statistics = [channel.region for channel in known], [channel.statistics for channel in known]
    annotated = []
    for name in sorted(name for name, dataset in loaded.datasets.items() if dataset.role == "tumour"):
        with suppress(CatalogError):  # of another region or other modalities, or not here
            dataset, cases = dataset_cases(loaded, name, regions)
            annotated.append([(name, dataset, case) for case in cases if case.label is not None])
    found: list[RealScan] = []
    seen: set[Path] = set()
    for name, dataset, case in (entry for row in zip_longest(*annotated) for entry in row if entry is not None):
        if len(found) >= most:
            break
        if case.image in seen:  # of a dataset that the catalog has twice, with one modality and with several
            continue
        seen.add(case.image)
        try:
            [scan] = prepare_cases([case], dataset, regions, size, statistics, annotated=True, say=say)
        except ScanError:
            continue  # told of already
        found.append(replace(scan, name=f"{name}--{scan.name}"))
    return found
