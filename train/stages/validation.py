"""Validation on held-out synthetic samples: losses, Dice of the mask, and a picture."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from scans.image.box import tight_box
from synth.corpus import Corpus
from train.data.batch import Batch
from train.data.corpora import Corpora
from train.data.crops import tumours_of
from train.data.feed import Feed
from train.data.patches import Patches, patchable
from train.data.split import evenly
from train.inference.patchwise import slide_over_organ
from train.inference.reading import distance
from train.inference.reading_choice import Found
from train.network.dice import dice
from train.network.hardware import Hardware
from train.network.losses import decomposition_loss, mask_is_trained
from train.run.pictures import Views
from train.settings import Adapt, Pretrain

WHOLE = 6  # whole scans that a reading is chosen on where patches slide over them, a hundred or so over each
PICTURED = 4  # samples in a validation picture
_SEED = 0  # of where patches lie: whatever the training's, two trainings are validated on the same


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
        self.patches = self._patches(settings)
        channels, batch, threads = len(corpus.channels), schedule.batch, schedule.loader_threads
        self.whole = self.feed = Feed(corpus.read, corpus.size, channels, batch, threads, machine.device)
        if self.patches is not None:
            self.feed = Feed(self.patches.read, self.patches.side, channels, batch, threads, machine.device)

    def _patches(self, settings: Pretrain | Adapt) -> Patches | None:
        """Return the patches that samples are scored on, the same at each validation, each around a tumour."""
        if not isinstance(settings, Pretrain) or settings.patch is None:
            return None
        corpus = patchable(self.corpus)
        return Patches(corpus, settings.patch, 1.0, _SEED, tumours_of(corpus))

    def _seen(self, wanted: Iterable[list[int]]) -> Iterator[Batch]:
        return self._shown(self.feed, wanted)

    def _shown(self, feed: Feed, wanted: Iterable[list[int]]) -> Iterator[Batch]:
        batches = feed.batches(wanted)
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
        if self.patches is not None:
            most = min(most, WHOLE)
        numbers = evenly(self.numbers, most).tolist()
        return [
            self._found(network, hardware, batch, self.corpus.spacing_mm(number))
            for number, batch in zip(numbers, self._shown(self.whole, ([n] for n in numbers)), strict=True)
        ]

    def _found(
        self, network: nn.Module, hardware: Hardware, batch: Batch, spacing_mm: tuple[float, float, float]
    ) -> Found:
        """Return what a network finds in one whole sample; of patches in the box of its ROI alone, which is less."""

        def layers_of(scan: torch.Tensor) -> torch.Tensor:
            with torch.no_grad(), hardware.autocast():
                layers = network(scan)
            return torch.cat([layers.normal.float(), layers.logits.float().sigmoid()], dim=1)

        composite, below, truth = (
            volume[0].cpu().numpy() for volume in (batch.composite, batch.normal, batch.mask != 0)
        )
        roi = ((composite != 0) | (below != 0)).any(axis=0)
        if self.patches is None:
            layers = layers_of(batch.composite)[0].cpu().numpy()
        else:
            box = (slice(None), *tight_box(roi))
            composite, truth, roi = composite[box], truth[box], roi[box[1:]]
            found = len(composite) + len(truth)
            layers = slide_over_organ(layers_of, composite, self.patches.side, found, hardware.device)
        normal, probability = layers[: len(composite)], layers[len(composite)]
        return Found(probability, distance(composite, normal), roi, truth[0], spacing_mm)

    def views(self, network: nn.Module, hardware: Hardware) -> list[Views]:
        """Return the first held-out samples, to be drawn."""
        rows = []
        for number, batch in zip(self.pictured, self._seen([n] for n in self.pictured), strict=True):
            with torch.no_grad(), hardware.autocast():
                layers = network(batch.composite)
            normal, texture, logits = (layer[0, 0].cpu().numpy() for layer in layers)
            composite, truth = batch.composite[0, 0].cpu().numpy().copy(), batch.mask[0, 0].cpu().numpy() != 0
            mask, spacing = logits > 0, self.corpus.spacing_mm(number)
            rows.append(Views(str(number), composite, normal, np.where(mask, texture, 0), mask, truth, spacing))
        return rows
