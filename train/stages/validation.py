"""Validation on held-out synthetic samples: losses, Dice of the mask, and a picture."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from synth.corpus import Corpus
from train.data.batch import Batch
from train.data.corpora import Corpora
from train.data.feed import Feed
from train.data.split import evenly
from train.network.dice import dice
from train.network.hardware import Hardware
from train.network.losses import decomposition_loss, mask_is_trained
from train.run.pictures import Views
from train.segmentation.reading import distance
from train.segmentation.reading_choice import Found
from train.settings import Adapt, Pretrain

PICTURED = 4  # samples in a validation picture


class SyntheticValidation:
    """Held-out samples of a corpus, scored as the training samples are seen.

    Parameters
    ----------
    corpus : Corpus or Corpora
    numbers : ndarray of int
        The held-out samples.
    settings : Pretrain or Adapt
        Weights of the losses, batch, threads, and whether samples are standardised.
    machine : Hardware
    """

    def __init__(
        self, corpus: Corpus | Corpora, numbers: np.ndarray, settings: Pretrain | Adapt, machine: Hardware
    ) -> None:
        schedule = settings.schedule
        self.corpus, self.numbers = corpus, numbers
        self.weights, self.standardise = settings.loss, settings.standardise
        self.batches = [numbers[i : i + schedule.batch].tolist() for i in range(0, len(numbers), schedule.batch)]
        self.pictured = numbers[:PICTURED].tolist()
        self.feed = Feed(
            corpus.read, corpus.size, len(corpus.channels), schedule.batch, schedule.loader_threads, machine.device
        )

    def _seen(self, wanted: Iterable[list[int]]) -> Iterator[Batch]:
        batches = self.feed.batches(wanted)
        return (batch.standardised() for batch in batches) if self.standardise else batches

    def scores(self, network: nn.Module, hardware: Hardware) -> dict[str, float]:
        """Return mean loss terms, the total as ``loss``, mean ``dice`` at probability 0.5, and ``score``.

        ``score`` chooses the best checkpoint: Dice where the mask is trained, else minus the loss.
        """
        sums: dict[str, float] = {}
        overlaps: list[float] = []
        for batch in self._seen(self.batches):
            with torch.no_grad(), hardware.autocast():
                layers = network(batch.composite)
            for name, term in decomposition_loss(layers, batch, self.weights).items():
                sums[name] = sums.get(name, 0.0) + float(term.detach()) * len(batch.alpha)
            predicted, truth = ((t > 0).cpu().numpy()[:, 0] for t in (layers.logits, batch.mask))
            overlaps += [dice(p, t) for p, t in zip(predicted, truth, strict=True)]
        means = {name: value / len(overlaps) for name, value in sums.items()}
        loss, overlap = means.pop("total"), float(np.mean(overlaps))
        score = overlap if mask_is_trained(self.weights.model_dump()) else -loss
        return {"loss": loss, "dice": overlap, "score": score, **means}

    def found(self, network: nn.Module, hardware: Hardware, most: int) -> list[Found]:
        """Return what a network finds in `most` samples at the most, evenly spread; to choose its reading on."""
        numbers = evenly(self.numbers, most).tolist()
        found = []
        for number, batch in zip(numbers, self._seen([n] for n in numbers), strict=True):
            with torch.no_grad(), hardware.autocast():
                layers = network(batch.composite)
            composite, normal, below = (
                volume[0].cpu().numpy() for volume in (batch.composite, layers.normal.float(), batch.normal)
            )
            found.append(
                Found(
                    probability=layers.logits.float().sigmoid()[0, 0].cpu().numpy(),
                    residual=distance(composite, normal),
                    roi=((composite != 0) | (below != 0)).any(axis=0),
                    truth=batch.mask[0, 0].cpu().numpy() != 0,
                    spacing_mm=self.corpus.spacing_mm(number),
                )
            )
        return found

    def views(self, network: nn.Module, hardware: Hardware) -> list[Views]:
        """Return the first held-out samples, to be drawn."""
        rows = []
        for number, batch in zip(self.pictured, self._seen([n] for n in self.pictured), strict=True):
            with torch.no_grad(), hardware.autocast():
                layers = network(batch.composite)
            normal, texture, logits = (layer[0, 0].cpu().numpy() for layer in layers)
            composite, truth = batch.composite[0, 0].cpu().numpy().copy(), batch.mask[0, 0].cpu().numpy() != 0
            rows.append(Views(str(number), composite, normal, np.where(logits > 0, texture, 0), logits > 0, truth))
        return rows
