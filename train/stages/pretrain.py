"""Pretraining: learn from artificial tumours to take a scan apart into its layers, or whatever a proxy task asks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from scans.errors import StoreError
from synth.corpus import Corpus
from train.architectures import choice
from train.architectures.planner import planned
from train.data.corpora import Corpora, open_corpus
from train.data.split import Split, evenly, shifted_samples, split_by_source
from train.evaluation.threshold_row import Threshold, choose_threshold
from train.network import hardware
from train.network.channels import recorded_channel
from train.network.ranks import joined
from train.network.record import Record
from train.network.unet import UNet
from train.proxies.registry import check_same_proxy, proxy_of, proxy_task, told
from train.run.folder import check_run_folder
from train.settings import LAYERS, Network, Pretrain, SettingsError, with_modalities
from train.stages import loop
from train.stages.decomposition import Decomposition
from train.stages.read_out import record_readings
from train.stages.real_validation import find_real_cases
from train.stages.resume import load_last

Symmetry = Literal["auto", "on", "off"]
BASELINE_SAMPLES = 24  # training composites the threshold row is chosen on


def pretrain(
    corpus_path: str | Path | Sequence[str | Path],
    out: Path,
    settings: Pretrain,
    *,
    validation_corpus: str | Path | Sequence[str | Path] = (),
    cache: Path | None = None,
    catalog: Path | None = None,
    real_cases: int = 4,
    symmetry: Symmetry | None = None,
    resume: bool = False,
    report: loop.Report = lambda step, shown: None,
    say: Callable[[str], None] = lambda line: None,
) -> loop.Outcome:
    """Train a network on a corpus: on its layers, or on the proxy task of another paper.

    Parameters
    ----------
    corpus_path : str, Path, or sequence of them
        A folder or a URL; of several modalities, one for each: see `train.data.corpora.Corpora`.
    out : Path
        Run folder.
    settings : Pretrain
    validation_corpus : str, Path, or sequence of them
        Another generator's, as `corpus_path`: loss and Dice there steer the rate and choose the best. Empty: none.
    cache : Path, optional
        Where to keep what is read from a URL.
    catalog : Path, optional
        Its annotated real cases of the corpus's region are scored at each validation; they steer nothing.
    real_cases : int
        How many at the most.
    symmetry : str, optional
        Whether the network sees each scan's mirror image: ``on``, ``off``, or ``auto``, where the first modality's
        region is symmetric and layers are learnt. None: as ``settings.network.mirror`` says.
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
    choice.check_installed(settings.network)
    corpus = open_corpus(corpus_path, cache)
    network_settings = with_modalities(settings.network, len(corpus.channels))
    if network_settings.architecture != "unet":
        network_settings = planned(network_settings, corpus.size, typical_spacing_mm(corpus))
        say(f"the network is {choice.described(network_settings)}")
    check_size(corpus.size, network_settings)
    if symmetry is not None:
        region = recorded_channel(corpus.channels[0], corpus.where).region
        mirrors = symmetry == "on" or (symmetry == "auto" and region.symmetric and settings.proxy == LAYERS)
        network_settings = network_settings.model_copy(update={"mirror": region.mirror_axis if mirrors else None})
    settings = settings.model_copy(update={"network": network_settings})
    schedule = settings.schedule
    split = split_by_source(corpus, settings.validation_sources, schedule.seed, settings.validation_samples)
    say(f"{len(split.training)} training and {len(split.validation)} validation samples: {split.note}")
    shifted = None
    if validation_corpus:
        if settings.proxy != LAYERS:
            raise SettingsError(
                f"--validation-corpus: --proxy {settings.proxy} has a validation of its own; leave it out"
            )
        shifted = shifted_samples(corpus, split, open_corpus(validation_corpus, cache), settings.validation_samples)
        steers = schedule.rate_rule == "plateau" or schedule.chosen == "score"
        say(f"another generator's tumours {'steer' if steers else 'are watched'}: {shifted.note}")
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
    if shifted is not None:
        described["data"]["validation_corpus"] = shifted.to_json()
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
            real = find_real_cases(catalog, corpus.channels, corpus.size, real_cases, say) if ranks.first else []
            if real:
                say(f"shown at each validation, steering nothing: {', '.join(scan.name for scan in real)}")
            task = Decomposition(corpus, split, settings, machine, ranks, real, shifted)
        else:
            task = proxy_task(proxy, corpus, split, settings, ranks)
        outcome = loop.train(
            task, network, record, schedule, machine, out, ranks=ranks, resume=resume, report=report, say=say
        )
        if isinstance(task, Decomposition):
            record_readings(out, outcome, (task.validation, task.shifted), machine, ranks, say)
        return outcome


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
    numbers = evenly(split.training, BASELINE_SAMPLES).tolist()
    return choose_threshold([corpus[n] for n in numbers], [corpus.spacing_mm(n) for n in numbers])


def typical_spacing_mm(corpus: Corpus | Corpora) -> tuple[float, float, float]:
    """Return the median spacing (z, y, x) in mm of the first modality's normals."""
    used = np.unique(corpus.normal)
    z, y, x = np.median([corpus.sources[position]["spacing_mm"] for position in used.tolist()], axis=0)
    return float(z), float(y), float(x)


def check_size(size: int, network: Network) -> None:
    """Refuse a corpus whose side the strides of a network do not divide."""
    if size % (step := choice.side_step(network)):
        raise StoreError(f"the corpus has sides of {size} voxels; the network needs a multiple of {step}")
