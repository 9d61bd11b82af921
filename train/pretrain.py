"""Pretraining: learn from artificial tumours to take a scan apart into its layers, or whatever a proxy task asks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from scans.errors import StoreError
from synth.corpus import Corpus, Recombine, Tumour
from train import hardware, loop
from train.baseline import Threshold, choose_threshold
from train.batch import Batch
from train.checkpoint import Record
from train.corpora import Corpora, Recombined, open_corpus
from train.crops import CropFeed
from train.feed import Feed
from train.losses import decomposition_loss
from train.order import Endless
from train.proxies import check_same_proxy, proxy_of, proxy_task, told
from train.ranks import ALONE, Ranks, joined
from train.real_validation import RealValidation, find_real_cases
from train.resume import load_last
from train.run_folder import check_run_folder
from train.settings import Pretrain, SettingsError, with_modalities
from train.split import Split, split_by_source
from train.unet import POOLINGS, UNet, split_layers
from train.validation import SyntheticValidation
from train.variation import varied

if TYPE_CHECKING:
    from train.cases import RealScan
    from train.pictures import Views

BASELINE_SAMPLES = 24  # training composites the threshold row is chosen on


class Decomposition:
    """The task of pretraining, for ``train.loop``.

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
    """

    def __init__(
        self,
        corpus: Corpus | Corpora,
        split: Split,
        settings: Pretrain,
        machine: hardware.Hardware = hardware.PLAIN,
        ranks: Ranks = ALONE,
        real: Sequence["RealScan"] = (),
    ) -> None:
        if settings.standardise and any(channel["statistics"] is not None for channel in corpus.channels):
            raise SettingsError(
                "--standardise: this corpus is normalised by common statistics, as its scans will be; leave it off"
            )
        self.corpus, self.split, self.settings, self.ranks = corpus, split, settings, ranks
        self.stream = recombined(corpus, split, settings) if settings.recombine else None
        self.order = Endless(corpus.shards[split.training], settings.schedule.seed)
        self.feed = self._feed(machine)
        self.real = RealValidation(list(real), settings.schedule.batch) if real else None
        self.validation = SyntheticValidation(corpus, split.validation, settings, machine)

    def _feed(self, machine: hardware.Hardware) -> Feed | CropFeed:
        schedule, corpus, threads = self.settings.schedule, self.corpus, self.settings.schedule.loader_threads
        if isinstance(corpus, Corpus) and corpus.layout == "layered":
            tumour = crops(corpus, self.stream)
            return CropFeed(tumour, corpus.source, corpus.size, schedule.batch, threads, machine.device)
        read = corpus.read if self.stream is None else self.stream.read
        return Feed(read, corpus.size, len(corpus.channels), schedule.batch, threads, machine.device)

    def positions(self, step: int) -> range:
        """Return the places of this process's samples in the stream of the training."""
        return self.ranks.share(self.settings.schedule.batch, step)

    def numbers(self, step: int) -> list[int]:
        """Return the samples of this process at a step: numbers of the corpus, or of the recombined stream."""
        drawn = self.positions(step)
        if self.stream is not None:
            return list(drawn)
        return [int(self.split.training[self.order[position]]) for position in drawn]

    def batches(self, steps: range) -> Iterator[Batch]:
        """Yield the batch of each step; its memory is written over when the next one is asked for."""
        for step, batch in zip(steps, self.feed.batches(map(self.numbers, steps)), strict=True):
            seen = batch.standardised() if self.settings.standardise else batch
            yield varied(seen, self.settings.schedule.seed, self.positions(step)) if self.settings.vary else seen

    def recipe(self, step: int) -> list[dict[str, Any]]:
        """Return every random choice behind each sample of a step."""
        numbers = self.numbers(step)
        if self.stream is not None:
            return [{"corpus": self.corpus.where, **asdict(self.stream.draw(number))} for number in numbers]
        return [{"corpus": self.corpus.where, "sample": n, **self.corpus.recipe(n)} for n in numbers]

    def loss(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Eq. 11."""
        return decomposition_loss(split_layers(output), batch, self.settings.loss)

    def validate(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, float]:
        """Score on samples of held-out sources, and on real cases, which steer nothing."""
        scores = self.validation.scores(network, machine)
        return scores if self.real is None else {**scores, **self.real.scores(network, machine)}

    def views(self, network: nn.Module, machine: hardware.Hardware) -> "dict[str, list[Views]]":
        """Return samples of held-out sources and real cases, to be drawn."""
        views = {"validation": self.validation.views(network, machine)}
        return views if self.real is None else {**views, "real": self.real.views(network, machine)}


def pretrain(
    corpus_path: str | Path | Sequence[str | Path],
    out: Path,
    settings: Pretrain,
    *,
    cache: Path | None = None,
    catalog: Path | None = None,
    real_cases: int = 4,
    resume: bool = False,
    report: loop.Report = lambda step, shown: None,
    say: Callable[[str], None] = lambda line: None,
) -> loop.Outcome:
    """Train a network on a corpus: on its layers, or on the proxy task of another paper.

    Parameters
    ----------
    corpus_path : str, Path, or sequence of them
        A folder or a URL; of several modalities, one for each: see `train.corpora.Corpora`.
    out : Path
        Run folder.
    settings : Pretrain
    cache : Path, optional
        Where to keep what is read from a URL.
    catalog : Path, optional
        Its annotated real cases of the corpus's region are scored at each validation; they steer nothing.
    real_cases : int
        How many at the most.
    resume : bool
        Continue from the last checkpoint in `out`, if there is one.
    report : callable
        Told of progress, step by step.
    say : callable
        Told in sentences what was decided.

    Returns
    -------
    Outcome
    """
    check_run_folder(out, resume)
    corpus = open_corpus(corpus_path, cache)
    check_size(corpus.size)
    settings = settings.model_copy(update={"network": with_modalities(settings.network, len(corpus.channels))})
    schedule = settings.schedule
    split = split_by_source(corpus, settings.validation_sources, schedule.seed, settings.validation_samples)
    say(f"{len(split.training)} training and {len(split.validation)} validation samples: {split.note}")
    proxy = proxy_of(settings, corpus.size)
    machine = hardware.of(schedule, corpus.size if proxy is None else proxy.side(corpus.size))
    interrupted = load_last(out) if resume else None
    if interrupted is None:
        rule = corpus_threshold(corpus, split)
        say(
            f"threshold row, chosen on training composites: smooth {rule.sigma_mm:g} mm, "
            f"{rule.side} {rule.level:.2f}, Dice {rule.dice:.2f} there"
        )
        threshold = asdict(rule)
    else:
        check_same_proxy(interrupted[1].record.settings, settings, interrupted[0])
        threshold = interrupted[1].record.threshold or {}
    # Weights are drawn on the CPU whatever the device, so that a seed means the same network everywhere.
    torch.manual_seed(schedule.seed)
    network = UNet(settings.network) if proxy is None else proxy.network(settings.network, len(corpus.sources))
    described = describe(corpus, split)
    if proxy is not None:
        described["data"]["proxy"] = settings.proxy  # what is fine-tuned from it keeps the data
    record = Record(
        stage="pretrain",
        step=0,
        settings=told(settings),
        network=settings.network.model_dump(mode="json"),
        **described,
        threshold=threshold,
    )
    with joined(machine) as (machine, ranks):
        task: loop.Task
        if proxy is None:
            real = shown_cases(corpus, catalog, real_cases, say) if ranks.first else []
            task = Decomposition(corpus, split, settings, machine, ranks, real)
        else:
            task = proxy_task(proxy, corpus, split, settings, ranks)
        return loop.train(
            task, network, record, schedule, machine, out, ranks=ranks, resume=resume, report=report, say=say
        )


def shown_cases(
    corpus: Corpus | Corpora, catalog: Path | None, most: int, say: Callable[[str], None]
) -> "list[RealScan]":
    """Return the catalog's annotated real cases that a training shows its scores on, and say which."""
    real = find_real_cases(catalog, corpus.channels, corpus.size, most, say)
    if real:
        say(f"shown at each validation, steering nothing: {', '.join(scan.name for scan in real)}")
    return real


def recombined(corpus: Corpus | Corpora, split: Split, settings: Pretrain) -> Recombine | Recombined:
    """Return an endless stream of samples: training tumours in training sources."""
    names = [str(source["name"]) for source in corpus.sources]
    sources = [position for position, name in enumerate(names) if name not in split.held_out]
    seed = settings.schedule.seed
    if isinstance(corpus, Corpora):
        return corpus.recombined(seed, tumours=split.training, sources=sources)
    return Recombine(corpus, seed, tumours=split.training, sources=sources)


def crops(corpus: Corpus, stream: Recombine | Recombined | None) -> Callable[[int], tuple[int, Tumour]]:
    """Return a function that gives the position of a sample's normal, and its tumour."""
    if isinstance(stream, Recombine):
        return stream.tumour
    return lambda number: (int(corpus.normal[number]), corpus.tumour(number))


def describe(corpus: Corpus | Corpora, split: Split) -> dict[str, Any]:
    """Return what a record says of a corpus: region, size, statistics and data."""
    kept = ("name", "dataset", "licence", "terms", "citation", "redistribute_derived")
    lent = ("tumour_voxels",)  # of annotated scans alone, whose real tumours are in the corpus
    return {
        "channels": corpus.channels,
        "size": corpus.size,
        "data": {
            "corpus": corpus.content_hash,
            "corpus_seed": corpus.seed,
            "corpus_samples": len(corpus),
            "sources": [
                {key: source.get(key) for key in kept} | {key: source[key] for key in lent if key in source}
                for source in corpus.sources
            ],
            "held_out": list(split.held_out),
            "split": split.note,
        },
    }


def corpus_threshold(corpus: Corpus | Corpora, split: Split) -> Threshold:
    """Choose the threshold row on training composites of the first modality, evenly spread over the corpus."""
    corpus = corpus.first if isinstance(corpus, Corpora) else corpus
    spread = np.linspace(0, len(split.training) - 1, min(BASELINE_SAMPLES, len(split.training)))
    numbers = [int(split.training[int(i)]) for i in spread]
    return choose_threshold([corpus[n] for n in numbers], [corpus.spacing_mm(n) for n in numbers])


def check_size(size: int) -> None:
    """Refuse a corpus whose side three poolings do not divide."""
    if size % 2**POOLINGS:
        raise StoreError(f"the corpus has sides of {size} voxels; the network needs a multiple of {2**POOLINGS}")
