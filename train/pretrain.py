"""Pretraining: learn from artificial tumours to take a scan apart into its layers."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from scans.errors import StoreError
from synth.corpus import Corpus, Recombine, Sample
from train import hardware, loop
from train.baseline import Threshold, choose_threshold
from train.checkpoint import Record, load_checkpoint
from train.losses import decomposition_loss
from train.run_folder import check_run_folder
from train.settings import Pretrain, SettingsError
from train.stream import Batch, Split, ahead, collate, positions, split_by_source, standardise
from train.unet import POOLINGS, UNet, split_layers
from train.validation import SyntheticValidation

BASELINE_SAMPLES = 24  # training composites the threshold row is chosen on


class Decomposition:
    """The task of pretraining, for ``train.loop``."""

    def __init__(self, corpus: Corpus, split: Split, settings: Pretrain) -> None:
        self.settings = settings
        self.split = split
        self.read = reader(corpus, settings.standardise)
        self.endless = recombined(corpus, split, settings) if settings.recombine else None
        schedule = settings.schedule
        self.validation = SyntheticValidation(
            self.read, split.validation.tolist(), settings.loss, schedule.batch, schedule.loader_threads
        )

    def batches(self, steps: range) -> Iterator[Batch]:
        """Yield the batch of each step."""
        schedule, training = self.settings.schedule, self.split.training
        if self.endless is not None:
            fresh = [range(step * schedule.batch, (step + 1) * schedule.batch) for step in steps]
            return map(collate, ahead(self.endless, fresh.__getitem__, range(len(fresh)), schedule.loader_threads))

        def wanted(step: int) -> list[int]:
            drawn = positions(len(training), schedule.batch, schedule.seed, step)
            return [int(training[i]) for i in drawn]

        return map(collate, ahead(self.read, wanted, steps, schedule.loader_threads))

    def loss(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Eq. 11."""
        return decomposition_loss(split_layers(output), batch, self.settings.loss)

    def validate(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, float]:
        """Score on samples of held-out sources."""
        return self.validation.scores(network, machine)

    def picture(self, network: nn.Module, machine: hardware.Hardware, path: Path) -> np.ndarray:
        """Draw samples of held-out sources."""
        return self.validation.picture(network, machine, path)


def pretrain(
    corpus_path: str | Path,
    out: Path,
    settings: Pretrain,
    *,
    cache: Path | None = None,
    resume: bool = False,
    report: loop.Report = lambda step, shown: None,
    say: Callable[[str], None] = lambda line: None,
) -> loop.Outcome:
    """Train a network on a corpus.

    Parameters
    ----------
    corpus_path : str or Path
        A folder or a URL.
    out : Path
        Run folder.
    settings : Pretrain
    cache : Path, optional
        Where to keep what is read from a URL.
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
    interrupted = check_run_folder(out, resume)
    corpus = Corpus(corpus_path, cache=cache)
    check_size(corpus.size)
    schedule = settings.schedule
    split = split_by_source(corpus, settings.validation_sources, schedule.seed, settings.validation_samples)
    say(f"{len(split.training)} training and {len(split.validation)} validation samples: {split.note}")
    machine = hardware.of(schedule)
    threshold = None if interrupted is None else load_checkpoint(interrupted).record.threshold
    if threshold is None:
        rule = corpus_threshold(corpus, split)
        say(
            f"threshold row, chosen on training composites: smooth {rule.sigma_mm:g} mm, "
            f"{rule.side} {rule.level:.2f}, Dice {rule.dice:.2f} there"
        )
        threshold = asdict(rule)
    # Weights are drawn on the CPU whatever the device, so that a seed means the same network everywhere.
    torch.manual_seed(schedule.seed)
    network = UNet(settings.network)
    record = Record(
        stage="pretrain",
        step=0,
        settings=settings.model_dump(mode="json"),
        network=settings.network.model_dump(mode="json"),
        **describe(corpus, split),
        threshold=threshold,
    )
    return loop.train(
        Decomposition(corpus, split, settings),
        network,
        record,
        schedule,
        machine,
        out,
        resume=resume,
        report=report,
    )


def reader(corpus: Corpus, own_units: bool, read: Callable[[int], Sample] | None = None) -> Callable[[int], Sample]:
    """Return a function that reads a sample, of the corpus unless `read` is given; in its own units where asked for."""
    given = read or corpus.__getitem__
    if not own_units:
        return given
    if corpus.statistics is not None:
        raise SettingsError(
            "--standardise: this corpus is normalised by common statistics, as its scans will be; leave it off"
        )
    return lambda index: standardise(given(index))


def recombined(corpus: Corpus, split: Split, settings: Pretrain) -> Callable[[int], Sample]:
    """Return a function that reads sample `step` of an endless stream: training tumours in training sources."""
    names = [str(source["name"]) for source in corpus.sources]
    sources = [position for position, name in enumerate(names) if name not in split.held_out]
    stream = Recombine(corpus, settings.schedule.seed, tumours=split.training, sources=sources)
    return reader(corpus, settings.standardise, stream.__getitem__)


def describe(corpus: Corpus, split: Split) -> dict[str, Any]:
    """Return what a record says of a corpus: region, size, statistics and data."""
    kept = ("name", "dataset", "licence", "terms", "citation", "redistribute_derived")
    return {
        "channels": [{"region": corpus.region, "statistics": corpus.statistics}],
        "size": corpus.size,
        "data": {
            "corpus": corpus.content_hash,
            "corpus_seed": corpus.seed,
            "corpus_samples": len(corpus),
            "sources": [{key: source.get(key) for key in kept} for source in corpus.sources],
            "held_out": list(split.held_out),
            "split": split.note,
        },
    }


def corpus_threshold(corpus: Corpus, split: Split) -> Threshold:
    """Choose the threshold row on training composites, evenly spread over the corpus."""
    spread = np.linspace(0, len(split.training) - 1, min(BASELINE_SAMPLES, len(split.training)))
    numbers = [int(split.training[int(i)]) for i in spread]
    return choose_threshold([corpus[n] for n in numbers], [corpus.spacing_mm(n) for n in numbers])


def check_size(size: int) -> None:
    """Refuse a corpus whose side three poolings do not divide."""
    if size % 2**POOLINGS:
        raise StoreError(f"the corpus has sides of {size} voxels; the network needs a multiple of {2**POOLINGS}")
