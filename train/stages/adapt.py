"""Adaptation to real scans without annotations (last row of Table VI), and self-training on them.

Real scans join the synthetic ones in each batch. Of a real scan nothing is known but itself, so its loss is that its
layers, put together with α = 1, must give it back (Eq. 9). A mask of zeros would do that too: the synthetic part of
each batch keeps it from that. Self-training, an option, adds what the network it starts from is sure of: voxels that
it gives a probability near 0 or 1 are taken for true, the others are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import nn

from scans.catalog.catalog import load_catalog
from scans.errors import CheckpointError
from synth.corpus import Box, Corpus, Voxels
from train.cases.prepared import RealScan, dataset_cases, prepare_cases
from train.data.batch import Batch
from train.data.corpora import Corpora, open_corpus
from train.data.order import Endless
from train.data.patches import patch_window
from train.data.split import Split, split_by_source
from train.inference.named_network import origin_of
from train.inference.patchwise import slide_over_organ
from train.network import hardware
from train.network.channels import recorded_channels
from train.network.data_terms import with_dataset
from train.network.losses import composition_loss, decomposition_loss, pseudo_label_loss
from train.network.ranks import ALONE, Ranks, joined
from train.network.record import Record
from train.network.unet import Layers
from train.network.weights import check_one_mask
from train.proxies.recorded import load_unet
from train.run.folder import check_run_folder
from train.run.pictures import Views
from train.settings import Adapt, Pretrain, loss_of
from train.stages import loop
from train.stages.decomposition import Decomposition
from train.stages.pretrain import describe
from train.stages.read_out import record_readings

_NOTHING = Voxels(np.zeros((1, 1, 1), bool))  # no tumour of a real scan is known
_REAL = 1  # added to the seed: real scans come in an order of their own
LEAST_VOXELS = 8  # a scan with fewer sure tumour voxels teaches nothing about tumours: it is left out of self-training


@dataclass(frozen=True)
class Mixed:
    """Synthetic samples and real scans; the network sees them in one batch, the synthetic ones first.

    Attributes
    ----------
    synthetic : Batch or None
    real : Tensor of float32, shape (N, C, z, y, x)
    sure : Tensor of uint8, shape (N, 1, z, y, x), or None
        0: background, 1: tumour, 2: not sure; of real scans, for self-training.
    """

    synthetic: Batch | None
    real: torch.Tensor
    sure: torch.Tensor | None = None

    @property
    def composite(self) -> torch.Tensor:
        """Return every scan, shape (N, C, z, y, x)."""
        return self.real if self.synthetic is None else torch.cat([self.synthetic.composite, self.real])

    def to(self, device: torch.device) -> "Mixed":
        """Move to a device."""
        synthetic = None if self.synthetic is None else self.synthetic.to(device)
        sure = None if self.sure is None else self.sure.to(device, non_blocking=True)
        return Mixed(synthetic, self.real.to(device, non_blocking=True), sure)


class Adaptation:
    """The task of adaptation, for ``train.stages.loop``.

    Parameters
    ----------
    corpus, split, settings, machine, ranks
        As of `train.stages.decomposition.Decomposition`.
    scans : list of RealScan
    sure : list of ndarray of uint8, shape (z, y, x), optional
        What self-training takes for true in each scan, see `Mixed`.
    patch : int, optional
        Side of what the network is shown, of samples as of real scans.
    """

    def __init__(
        self,
        corpus: Corpus | Corpora,
        split: Split,
        scans: list[RealScan],
        settings: Adapt,
        machine: hardware.Hardware = hardware.PLAIN,
        ranks: Ranks = ALONE,
        sure: Sequence[np.ndarray] | None = None,
        patch: int | None = None,
    ) -> None:
        self.patch, self.organs = patch, [Voxels((scan.intensity != 0).any(axis=0)) for scan in scans if patch]
        self.settings, self.scans, self.sure, self.ranks = settings, scans, sure, ranks
        self.pinned = machine.device.type == "cuda"
        batch = settings.schedule.batch
        self.real_count = min(batch, max(1, round(batch * settings.real_share)))
        self.synthetic_count = batch - self.real_count
        inner = settings.schedule.model_copy(update={"batch": max(1, self.synthetic_count)})
        alike = {name: getattr(settings, name) for name in ("loss", "standardise", "variation", "recombine")}
        part = Pretrain(schedule=inner, patch=patch, **alike)
        self.synthetic = Decomposition(corpus, split, part, machine, ranks)
        self.order = Endless(np.zeros(len(scans), int), settings.schedule.seed + _REAL)

    def chosen(self, step: int) -> list[int]:
        """Return which real scans this process takes at a step."""
        return [self.order[position] for position in self.ranks.share(self.real_count, step)]

    def windows(self, step: int) -> list[Box]:
        """Return what is shown of each of these scans: a patch around any voxel of its organ, or all of it."""
        if self.patch is None:
            return [(slice(None), slice(None), slice(None)) for _ in self.chosen(step)]
        positions, seed = self.ranks.share(self.real_count, step), self.settings.schedule.seed + _REAL
        return [
            patch_window(self.scans[i].intensity.shape[1:], self.patch, 0.0, seed, position, self.organs[i], _NOTHING)
            for i, position in zip(self.chosen(step), positions, strict=True)
        ]

    def batches(self, steps: range) -> Iterator[Mixed]:
        """Yield the batch of each step."""
        synthetic = self.synthetic.batches(steps) if self.synthetic_count else None
        for step in steps:
            chosen, windows = self.chosen(step), self.windows(step)
            parts = [self.scans[i].intensity[:, z, y, x] for i, (z, y, x) in zip(chosen, windows, strict=True)]
            real = torch.from_numpy(np.stack(parts))
            real = real.pin_memory() if self.pinned else real
            sure = None
            if self.sure is not None:
                known = [self.sure[i][w] for i, w in zip(chosen, windows, strict=True)]
                sure = torch.from_numpy(np.stack(known)[:, None])
            yield Mixed(None if synthetic is None else next(synthetic), real, sure)

    def recipe(self, step: int) -> list[dict[str, Any]]:
        """Return every random choice behind each synthetic sample of a step, and the names of its real scans."""
        synthetic = self.synthetic.recipe(step) if self.synthetic_count else []
        return [*synthetic, *({"scan": self.scans[i].name} for i in self.chosen(step))]

    def loss(self, layers: Layers, batch: Mixed) -> dict[str, torch.Tensor]:
        """Return the terms of `mixed_loss`."""
        return mixed_loss(layers, batch, self.settings)

    def validate(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, float]:
        """Score on synthetic samples of held-out sources: there is no truth for real scans."""
        return self.synthetic.validate(network, machine)

    def views(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, list[Views]]:
        """Return synthetic samples of held-out sources, to be drawn."""
        return self.synthetic.views(network, machine)


def mixed_loss(layers: Layers, batch: Mixed, settings: Adapt) -> dict[str, torch.Tensor]:
    """Eq. 10 on synthetic samples plus Eq. 9 with α = 1 on real scans, plus what self-training is sure of."""
    first = len(layers.normal) - len(batch.real)
    real = Layers(*(layer[first:] for layer in layers))
    terms = {"real_l3": composition_loss(real, batch.real, torch.ones(len(batch.real), device=batch.real.device))}
    total = settings.real_weight * terms["real_l3"]
    if batch.sure is not None:
        terms["self_training"] = pseudo_label_loss(real.logits, batch.sure)
        total = total + settings.self_training * terms["self_training"]
    if batch.synthetic is not None:
        synthetic = Layers(*(layer[:first] for layer in layers))
        terms |= decomposition_loss(synthetic, batch.synthetic, settings.loss)
        total = total + terms["total"]
    return {**terms, "total": total}


def sure_voxels(
    network: nn.Module,
    machine: hardware.Hardware,
    scans: Sequence[RealScan],
    confidence: float,
    patch: int | None = None,
) -> list[np.ndarray]:
    """Return what a network is sure of in each scan: uint8 (z, y, x), 0 background, 1 tumour, 2 not sure.

    Parameters
    ----------
    network : Module
    machine : Hardware
    scans : sequence of RealScan
    confidence : float
        Least probability of what counts as sure, above 0.5. A scan with fewer than `LEAST_VOXELS` sure tumour voxels
        is not sure anywhere: were it taken for healthy, a missed tumour would be learned to be missed.
    patch : int, optional
        Side of what the network is shown; it then slides over the organ.
    """
    network = machine.place(network).eval()

    def probability_of(part: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), machine.autocast():
            return network(part.to(machine.device)).logits.sigmoid().float()

    found = []
    for scan in scans:
        if patch is None:
            probability = probability_of(torch.from_numpy(scan.intensity)[None])[0, 0].cpu().numpy()
        else:
            probability = slide_over_organ(probability_of, scan.intensity, patch, 1, machine.device)[0]
        sure = np.full(probability.shape, 2, np.uint8)
        sure[probability <= 1 - confidence] = 0
        sure[probability >= confidence] = 1
        if np.count_nonzero(sure == 1) < LEAST_VOXELS:
            sure[:] = 2
        found.append(sure)
    return found


def adapt(
    checkpoint: Path,
    corpus_path: str | Path | Sequence[str | Path],
    catalog: Path,
    dataset_name: str,
    out: Path,
    settings: Adapt,
    *,
    cache: Path | None = None,
    **course: Unpack[loop.Course],
) -> loop.Outcome:
    """Continue a pretrained network on a corpus and the unlabelled scans of a dataset.

    Raises
    ------
    CheckpointError
        If the checkpoint does not fit the corpus.
    """
    say = course.get("say", loop.silent)
    check_run_folder(out, course.get("resume", False))
    start, network = load_unet(checkpoint)
    check_one_mask(start.network, checkpoint)
    corpus = open_corpus(corpus_path, cache)
    seen = [channel["statistics"] for channel in start.channels]
    if (start.size, seen) != (corpus.size, [channel["statistics"] for channel in corpus.channels]):
        raise CheckpointError(
            f"{checkpoint}: was trained on cubes of {start.size} voxels with other modalities or statistics "
            f"than {corpus.where}; adapt with the corpus it was pretrained on"
        )
    known = recorded_channels(start, str(checkpoint))
    regions, statistics = [channel.region for channel in known], [channel.statistics for channel in known]
    dataset, cases = dataset_cases(load_catalog(catalog), dataset_name, regions)
    scans = prepare_cases(cases, dataset, regions, corpus.size, statistics, annotated=False, say=say)
    say(f"{len(scans)} of {len(cases)} scans of {dataset_name}, without their annotations")
    settings = settings.model_copy(update={"loss": loss_of(settings.loss, start.patch)})
    schedule = settings.schedule
    # What pretraining held out stays held out: a source it was trained on would flatter the validation.
    there = {str(source["name"]) for source in corpus.sources}
    held_out = settings.validation_sources or tuple(n for n in start.data.get("held_out", ()) if n in there)
    split = split_by_source(corpus, held_out, schedule.seed, settings.validation_samples)
    say(f"{len(split.training)} training and {len(split.validation)} validation samples: {split.note}")
    described = describe(corpus, split)
    names = [scan.name for scan in scans]
    data = {
        **described.pop("data"),
        "dataset": dataset_name,
        "scans": names,
        "began_from": origin_of(checkpoint),
        "datasets": with_dataset(start.data, dataset_name, dataset, "adapt", names),
    }
    record = Record(
        stage="adapt",
        step=0,
        settings=settings.model_dump(mode="json"),
        network=start.network,
        patch=start.patch,
        data=data,
        **described,
        threshold=start.threshold,
    )
    with joined(hardware.of(schedule, start.patch or corpus.size)) as (machine, ranks):
        sure = None
        if settings.self_training:
            sure = sure_voxels(network, machine, scans, settings.confidence, start.patch)
            usable = sum(bool((voxels == 1).any()) for voxels in sure)
            say(f"self-training: the network is sure of a tumour in {usable} of {len(scans)} scans")
        task = Adaptation(corpus, split, scans, settings, machine, ranks, sure, start.patch)
        outcome = loop.train(task, network, record, schedule, machine, out, ranks=ranks, **course)
        record_readings(out, outcome, (task.synthetic.validation,), machine, ranks, say)
    return replace(outcome, left_out=len(cases) - len(scans))
