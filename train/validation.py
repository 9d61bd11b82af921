"""Validation on held-out synthetic samples: losses, Dice of the mask, and a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from synth.corpus import Sample
from train.hardware import Hardware
from train.losses import decomposition_loss
from train.metrics import dice
from train.settings import Loss
from train.stream import ahead, collate
from train.unet import split_layers

PICTURED = 4  # samples in a validation picture


class SyntheticValidation:
    """Held-out samples of a corpus.

    Parameters
    ----------
    read : callable
        Returns a sample by number.
    numbers : sequence of int
        The held-out samples.
    weights : Loss
    batch, threads : int
        How many samples go through the network at once, and how many threads read them.
    """

    def __init__(
        self, read: Callable[[int], Sample], numbers: Sequence[int], weights: Loss, batch: int, threads: int
    ) -> None:
        self.read, self.weights, self.threads = read, weights, threads
        self.batches = [list(numbers[i : i + batch]) for i in range(0, len(numbers), batch)]
        self.pictured = list(numbers[:PICTURED])

    def scores(self, network: nn.Module, hardware: Hardware) -> dict[str, float]:
        """Return mean loss terms, the total as ``loss``, mean ``dice`` at probability 0.5, and ``score``.

        ``score`` chooses the best checkpoint: Dice where the mask is trained, else minus the loss.
        """
        sums: dict[str, float] = {}
        overlaps: list[float] = []
        steps = range(len(self.batches))
        for samples in ahead(self.read, self.batches.__getitem__, steps, self.threads):
            batch = collate(samples).to(hardware.device)
            with torch.no_grad(), hardware.autocast():
                output = network(batch.composite)
            layers = split_layers(output)
            for name, term in decomposition_loss(layers, batch, self.weights).items():
                sums[name] = sums.get(name, 0.0) + float(term.detach()) * len(samples)
            masks = (layers.logits > 0).cpu().numpy()[:, 0]
            overlaps += [dice(m, s.mask != 0) for m, s in zip(masks, samples, strict=True)]
        means = {name: value / len(overlaps) for name, value in sums.items()}
        loss, overlap = means.pop("total"), float(np.mean(overlaps))
        score = overlap if self.weights.scores_mask else -loss
        return {"loss": loss, "dice": overlap, "score": score, **means}

    def picture(self, network: nn.Module, hardware: Hardware, path: Path) -> np.ndarray:
        """Draw the first held-out samples into `path`."""
        # Matplotlib takes half a second to import; a training that never gets here does not pay.
        from train.pictures import Views, validation_picture

        rows = []
        for number in self.pictured:
            sample = self.read(number)
            with torch.no_grad(), hardware.autocast():
                output = network(collate([sample]).composite.to(hardware.device))
            normal, texture, logits = (layer[0, 0].cpu().numpy() for layer in split_layers(output))
            mask = logits > 0
            rows.append(
                Views(str(number), sample.composite, normal, np.where(mask, texture, 0), mask, sample.mask != 0)
            )
        return validation_picture(rows, path)
