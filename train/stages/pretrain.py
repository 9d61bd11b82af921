"""Pretraining: learn from artificial tumours to take a scan apart into its layers, or whatever a proxy task asks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import torch

from scans.errors import StoreError
from scans.image.box import tight_box
from synth.corpus import Corpus, Sample
from train.architectures import choice
from train.architectures.planner import planned
from train.data.corpora import Corpora, open_corpus
from train.data.patches import patchable
from train.data.split import Split, evenly, shifted_samples, split_by_source
from train.evaluation.threshold_row import choose_threshold, unit_of
from train.network import hardware
from train.network.channels import recorded_channel
from train.network.ranks import joined
from train.network.record import Record, Threshold
from train.network.unet import UNet
from train.proxies.registry import check_same_proxy, proxy_of, proxy_task, told
from train.run.folder import check_run_folder
from train.settings import LAYERS, Network, Pretrain, SettingsError, loss_of, with_modalities
from train.stages import loop
from train.stages.decomposition import Decomposition
from train.stages.read_out import record_readings
from train.stages.real_validation import find_real_cases
from train.stages.resume import load_last

Symmetry = Literal["auto", "on", "off"]
LEAST_PATCH = 16  # voxels a side
BASELINE_SAMPLES = 24  # training composites the threshold row is chosen on
BASELINE_VOXELS, BASELINE_LEAST = 24 * 128**3, 8  # fewer where they are larger


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
    patch: str | None = None,
    **course: Unpack[loop.Course],
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
    patch : str, optional
        What the network is shown: patches of so many voxels a side, ``whole`` cubes, or ``auto``, as the first
        modality's region says. None: as ``settings.patch`` says.
    **course
        As of `train.stages.loop.Course`.
    """
    say, resume = course.get("say", loop.silent), course.get("resume", False)
    check_run_folder(out, resume)
    choice.check_installed(settings.network)
    corpus = open_corpus(corpus_path, cache)
    if patch is not None:
        settings = settings.model_copy(update=shown(patch, corpus, settings.proxy))
        if settings.patch is not None:
            say(f"trained on patches of {settings.patch} of the {corpus.size} voxels along each side")
    settings = settings.model_copy(update={"loss": loss_of(settings.loss, settings.patch)})
    side = settings.patch or corpus.size
    network_settings = with_modalities(settings.network, len(corpus.channels))
    if network_settings.architecture != "unet":
        network_settings = planned(network_settings, side, typical_spacing_mm(corpus))
        say(f"the network is {choice.described(network_settings)}")
    check_size(side, network_settings)
    if symmetry is not None:
        region = recorded_channel(corpus.channels[0], corpus.where).region
        if symmetry == "on" and settings.patch is not None:
            raise SettingsError("--symmetry on: a patch does not show both sides; add --patch whole")
        whole = settings.proxy == LAYERS and settings.patch is None
        mirrors = symmetry == "on" or (symmetry == "auto" and region.symmetric and whole)
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
    machine = hardware.of(schedule, side if proxy is None else proxy.side(corpus.size))
    interrupted = load_last(out) if resume else None
    threshold: dict[str, Any] | None = None
    if interrupted is not None:
        check_same_proxy(interrupted[1].record.settings, settings, interrupted[0])
        threshold = interrupted[1].record.threshold
    elif course.get("rehearsed") is None:
        rule = corpus_threshold(corpus, split)
        say(f"threshold row, chosen on training composites: {rule.words()}; Dice {rule.dice:.2f} there")
        threshold = rule.model_dump(mode="json")
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
        patch=settings.patch,
        network=settings.network.model_dump(mode="json"),
        **described,
        threshold=threshold,
    )
    with joined(machine) as (machine, ranks):
        task: loop.Objective
        if proxy is None:
            real = find_real_cases(catalog, corpus.channels, corpus.size, real_cases, say) if ranks.first else []
            if real:
                say(f"shown at each validation, steering nothing: {', '.join(scan.name for scan in real)}")
            task = Decomposition(corpus, split, settings, machine, ranks, real, shifted)
        else:
            task = proxy_task(proxy, corpus, split, settings, ranks)
        outcome = loop.train(task, network, record, schedule, machine, out, ranks=ranks, **course)
        if isinstance(task, Decomposition):
            record_readings(out, outcome, (task.validation, task.shifted), machine, ranks, say)
        return outcome


def shown(patch: str, corpus: Corpus | Corpora, proxy: str) -> dict[str, Any]:
    """Return the settings of the patches that a network is shown: their side, None for whole cubes, and their share.

    Parameters
    ----------
    patch : str
        As of `pretrain`.
    corpus : Corpus or Corpora
    proxy : str
        Layers alone are learnt from patches.

    Raises
    ------
    SettingsError
        If there are no such patches.
    """
    region = recorded_channel(corpus.channels[0], corpus.where).region
    if patch == "auto":
        rule = region.patches
        cuts = proxy == LAYERS and isinstance(corpus, Corpus) and corpus.layout == "layered"
        if rule is None or not cuts:
            return {"patch": None}
        side = max(LEAST_PATCH, round(rule.side * corpus.size / rule.cube / 8) * 8)  # as many mm, whatever the voxels
        return {"patch": None} if side >= corpus.size else {"patch": side, "tumour_share": rule.tumour_share}
    if patch == "whole":
        return {"patch": None}
    side = int(patch) if patch.isdecimal() else 0
    if not LEAST_PATCH <= side < corpus.size or side % 8:
        raise SettingsError(
            f"--patch {patch}: give auto, whole, or a multiple of 8 from {LEAST_PATCH} to less than the "
            f"corpus's {corpus.size} voxels"
        )
    if proxy != LAYERS:
        raise SettingsError(f"--patch {patch}: --proxy {proxy} is shown whole cubes; leave it out")
    patchable(corpus)
    return {"patch": side, **({"tumour_share": region.patches.tumour_share} if region.patches else {})}


def describe(corpus: Corpus | Corpora, split: Split) -> dict[str, Any]:
    """Return what a record says of a corpus: region, size, statistics and data."""
    kept = ("name", "dataset", "licence", "terms", "citation", "redistribute_derived")
    lent = ("tumour_voxels", "pseudo_label")  # of scans alone whose real tumours are in the corpus
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
    numbers = evenly(split.training, max(BASELINE_LEAST, min(BASELINE_SAMPLES, BASELINE_VOXELS // corpus.size**3)))
    samples = [(_organ(corpus[n]), corpus.spacing_mm(n)) for n in numbers.tolist()]
    unit = unit_of(recorded_channel(corpus.channels[0], corpus.where))
    return choose_threshold([sample for sample, _ in samples], [spacing for _, spacing in samples], *unit)


def _organ(sample: Sample) -> Sample:
    """Return a sample's part around its organ: no rule looks further."""
    box = tight_box((sample.composite != 0) | (sample.normal != 0))
    volumes = (sample.composite, sample.normal, sample.texture, sample.mask)
    composite, normal, texture, mask = (volume[box].copy() for volume in volumes)  # the whole ones are let go
    return Sample(composite, normal, texture, mask, sample.alpha)


def typical_spacing_mm(corpus: Corpus | Corpora) -> tuple[float, float, float]:
    """Return the median spacing (z, y, x) in mm of the first modality's normals."""
    used = np.unique(corpus.normal)
    z, y, x = np.median([corpus.sources[position]["spacing_mm"] for position in used.tolist()], axis=0)
    return float(z), float(y), float(x)


def check_size(size: int, network: Network) -> None:
    """Refuse a corpus whose side the strides of a network do not divide."""
    if size % (step := choice.side_step(network)):
        raise StoreError(f"the corpus has sides of {size} voxels; the network needs a multiple of {step}")
