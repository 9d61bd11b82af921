"""Layer decomposition, the task of pretraining: what is shown, the loss, what is validated."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from synth.corpus import Corpus, Recombine
from train.data.batch import Batch
from train.data.corpora import Corpora, Recombined
from train.data.crops import CropFeed, tumours_of
from train.data.feed import Feed
from train.data.order import Endless
from train.data.patches import Patches, patchable
from train.data.split import Shifted, Split
from train.data.variation import varied
from train.network import hardware
from train.network.losses import decomposition_loss
from train.network.ranks import ALONE, Ranks
from train.network.unet import Layers
from train.run.pictures import Views
from train.settings import Pretrain, SettingsError
from train.stages.real_validation import RealValidation
from train.stages.validation import SyntheticValidation

if TYPE_CHECKING:
    from train.cases.prepared import RealScan


class Decomposition:
    """The task of pretraining, for ``train.stages.loop``.

    Parameters
    ----------
    corpus : Corpus or Corpora
    split : Split
    settings : Pretrain
    machine : Hardware
        Samples of a layered corpus are laid together there.
    ranks : Ranks
        The processes that share each step's samples.
    real : sequence of RealScan
        Annotated scans to be scored along the way.
    shifted : Shifted, optional
        Samples of another generator; validation on them then steers.
    """

    def __init__(
        self,
        corpus: Corpus | Corpora,
        split: Split,
        settings: Pretrain,
        machine: hardware.Hardware = hardware.PLAIN,
        ranks: Ranks = ALONE,
        real: Sequence["RealScan"] = (),
        shifted: Shifted | None = None,
    ) -> None:
        if settings.standardise and any(
            channel["statistics"] is not None or channel["region"].get("normalisation", {}).get("scale")
            for channel in corpus.channels
        ):
            raise SettingsError(
                "--standardise: this corpus is normalised by what all scans share, as they will be; leave it off"
            )
        self.corpus, self.split, self.settings, self.ranks = corpus, split, settings, ranks
        self.stream = recombined(corpus, split, settings) if settings.recombine else None
        self.order = Endless(corpus.shards[split.training], settings.schedule.seed)
        self.patches = self._patches()
        self.feed = self._feed(machine)
        self.real = RealValidation(list(real), settings.schedule.batch, settings.patch) if real else None
        self.validation = SyntheticValidation(corpus, split.validation, settings, machine)
        self.shifted: SyntheticValidation | None = None
        if shifted is not None:
            self.shifted = SyntheticValidation(shifted.corpus, shifted.numbers, settings, machine)

    def _patches(self) -> Patches | None:
        if self.settings.patch is None:
            return None
        corpus = patchable(self.corpus)
        tumour, seed = tumours_of(corpus, self.stream), self.settings.schedule.seed
        number = self._number  # of a place in the stream: the same sample is cut anew each time that it comes
        return Patches(
            corpus, self.settings.patch, self.settings.tumour_share, seed, lambda position: tumour(number(position))
        )

    def _feed(self, machine: hardware.Hardware) -> Feed | CropFeed:
        schedule, corpus, threads = self.settings.schedule, self.corpus, self.settings.schedule.loader_threads
        if self.patches is not None:
            return Feed(self.patches.read, self.patches.side, 1, schedule.batch, threads, machine.device)
        if isinstance(corpus, Corpus) and corpus.layout == "layered":
            tumour = tumours_of(corpus, self.stream)
            return CropFeed(tumour, corpus.source, corpus.size, schedule.batch, threads, machine.device)
        read = corpus.read if self.stream is None else self.stream.read
        return Feed(read, corpus.size, len(corpus.channels), schedule.batch, threads, machine.device)

    def positions(self, step: int) -> range:
        """Return the places of this process's samples in the stream of the training."""
        return self.ranks.share(self.settings.schedule.batch, step)

    def numbers(self, step: int) -> list[int]:
        """Return the samples of this process at a step: numbers of the corpus, or of the recombined stream."""
        return [self._number(position) for position in self.positions(step)]

    def _number(self, position: int) -> int:
        return position if self.stream is not None else int(self.split.training[self.order[position]])

    def batches(self, steps: range) -> Iterator[Batch]:
        """Yield the batch of each step; its memory is written over when the next one is asked for."""
        wanted = self.numbers if self.patches is None else lambda step: list(self.positions(step))
        for step, batch in zip(steps, self.feed.batches(map(wanted, steps)), strict=True):
            seen = batch.standardised() if self.settings.standardise else batch
            yield varied(seen, self.settings.variation, self.settings.schedule.seed, self.positions(step))

    def recipe(self, step: int) -> list[dict[str, Any]]:
        """Return every random choice behind each sample of a step."""
        return [{"corpus": self.corpus.where, **self._recipe(position)} for position in self.positions(step)]

    def _recipe(self, position: int) -> dict[str, Any]:
        number = self._number(position)
        corner = {}
        if self.patches is not None:
            corner = {"patch": [part.start for part in self.patches.window(position)]}
        if self.stream is not None:
            return {**asdict(self.stream.draw(number)), **corner}
        return {"sample": number, **self.corpus.recipe(number), **corner}

    def loss(self, layers: Layers, batch: Batch) -> dict[str, torch.Tensor]:
        """Eq. 10."""
        return decomposition_loss(layers, batch, self.settings.loss)

    def validate(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, float]:
        """Score on samples of held-out sources, on those of another generator, and on real cases, which steer nothing.

        With another generator's, ``shifted_loss`` and ``shifted_dice`` are of them, and ``score`` is theirs too.
        """
        scores = self.validation.scores(network, machine)
        if self.shifted is not None:
            other = self.shifted.scores(network, machine)
            scores |= {"shifted_loss": other["loss"], "shifted_dice": other["dice"], "score": other["score"]}
        return scores if self.real is None else {**scores, **self.real.scores(network, machine)}

    def views(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, list[Views]]:
        """Return samples of held-out sources, of another generator, and real cases, to be drawn."""
        views = {"validation": self.validation.views(network, machine)}
        if self.shifted is not None:
            views["shifted"] = self.shifted.views(network, machine)
        return views if self.real is None else {**views, "real": self.real.views(network, machine)}


def recombined(corpus: Corpus | Corpora, split: Split, settings: Pretrain) -> Recombine | Recombined:
    """Return an endless stream of samples: training tumours in training sources."""
    names = [str(source["name"]) for source in corpus.sources]
    sources = [position for position, name in enumerate(names) if name not in split.held_out]
    seed = settings.schedule.seed
    if isinstance(corpus, Corpora):
        return Recombined(corpus, seed, tumours=split.training, sources=sources)
    return Recombine(corpus, seed, tumours=split.training, sources=sources)
