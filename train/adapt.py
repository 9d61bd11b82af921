"""Adaptation to real scans without annotations (last row of Table VI).

Real scans join the synthetic ones in each batch. Of a real scan nothing is known but itself, so its only loss is
that its layers, put together with α = 1, must give it back (Eq. 9).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scans.errors import CheckpointError
from scans.normalisation import Statistics
from scans.region import Region
from synth.corpus import Corpus
from train import hardware, loop
from train.cases import RealScan, dataset_cases, prepare_cases
from train.checkpoint import Record, load_checkpoint, restore_network
from train.losses import composition_loss, decomposition_loss
from train.pretrain import Decomposition, describe
from train.run_folder import check_run_folder
from train.settings import Adapt, Network, Pretrain, recorded
from train.stream import Batch, Split, positions, split_by_source
from train.unet import Layers, UNet, split_layers

_REAL = 1  # added to the seed: real scans come in an order of their own


@dataclass(frozen=True)
class Mixed:
    """Synthetic samples and real scans; the network sees them in one batch, the synthetic ones first."""

    synthetic: Batch | None
    real: torch.Tensor

    @property
    def composite(self) -> torch.Tensor:
        """Return every scan, shape (N, 1, z, y, x)."""
        return self.real if self.synthetic is None else torch.cat([self.synthetic.composite, self.real])

    def to(self, device: torch.device) -> "Mixed":
        """Move to a device."""
        synthetic = None if self.synthetic is None else self.synthetic.to(device)
        return Mixed(synthetic, self.real.to(device, non_blocking=True))


class Adaptation:
    """The task of adaptation, for ``train.loop``."""

    def __init__(self, corpus: Corpus, split: Split, scans: list[RealScan], settings: Adapt) -> None:
        self.settings = settings
        self.scans = scans
        batch = settings.schedule.batch
        self.real_count = min(batch, max(1, round(batch * settings.real_share)))
        self.synthetic_count = batch - self.real_count
        inner = settings.schedule.model_copy(update={"batch": max(1, self.synthetic_count)})
        self.synthetic = Decomposition(
            corpus,
            split,
            Pretrain(
                loss=settings.loss, schedule=inner, standardise=settings.standardise, recombine=settings.recombine
            ),
        )

    def batches(self, steps: range) -> Iterator[Mixed]:
        """Yield the batch of each step."""
        synthetic = self.synthetic.batches(steps) if self.synthetic_count else None
        for step in steps:
            chosen = positions(len(self.scans), self.real_count, self.settings.schedule.seed + _REAL, step)
            real = torch.from_numpy(np.stack([self.scans[i].intensity for i in chosen])[:, None])
            yield Mixed(None if synthetic is None else next(synthetic), real)

    def loss(self, output: torch.Tensor, batch: Mixed) -> dict[str, torch.Tensor]:
        """Eq. 11 on synthetic samples plus Eq. 9 with α = 1 on real scans."""
        first = self.synthetic_count
        alpha = torch.ones(len(batch.real), device=output.device)
        real = composition_loss(Layers(*(c[first:] for c in split_layers(output))), batch.real, alpha)
        terms = {"real_l3": real}
        total = self.settings.real_weight * real
        if batch.synthetic is not None:
            layers = Layers(*(channel[:first] for channel in split_layers(output)))
            terms |= decomposition_loss(layers, batch.synthetic, self.settings.loss)
            total = total + terms["total"]
        return {**terms, "total": total}

    def validate(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, float]:
        """Score on synthetic samples of held-out sources: there is no truth for real scans."""
        return self.synthetic.validate(network, machine)

    def picture(self, network: nn.Module, machine: hardware.Hardware, path: Path) -> np.ndarray:
        """Draw synthetic samples of held-out sources."""
        return self.synthetic.picture(network, machine, path)


def adapt(
    checkpoint: Path,
    corpus_path: str | Path,
    catalog: Path,
    dataset_name: str,
    out: Path,
    settings: Adapt,
    *,
    cache: Path | None = None,
    resume: bool = False,
    report: loop.Report = lambda step, shown: None,
    say: Callable[[str], None] = lambda line: None,
) -> loop.Outcome:
    """Continue a pretrained network on a corpus and the unlabelled scans of a dataset.

    Raises
    ------
    CheckpointError
        If the checkpoint does not fit the corpus.
    """
    check_run_folder(out, resume)
    start = load_checkpoint(checkpoint)
    corpus = Corpus(corpus_path, cache=cache)
    if (start.record.size, start.record.statistics) != (corpus.size, corpus.statistics):
        raise CheckpointError(
            f"{checkpoint}: was trained on cubes of {start.record.size} voxels with other statistics than "
            f"{corpus_path}; adapt with the corpus it was pretrained on"
        )
    region = recorded(Region, start.record.region, str(checkpoint))
    dataset, _, cases = dataset_cases(catalog, dataset_name, region)
    statistics = None if corpus.statistics is None else Statistics(**corpus.statistics)
    scans = prepare_cases(cases, dataset, region, corpus.size, statistics, annotated=False, told=say)
    say(f"{len(scans)} of {len(cases)} scans of {dataset_name}, without their annotations")
    schedule = settings.schedule
    # What pretraining held out stays held out: a source it was trained on would flatter the validation.
    there = {str(source["name"]) for source in corpus.sources}
    held_out = settings.validation_sources or tuple(n for n in start.record.data.get("held_out", ()) if n in there)
    split = split_by_source(corpus, held_out, schedule.seed, settings.validation_samples)
    say(f"{len(split.training)} training and {len(split.validation)} validation samples: {split.note}")
    network = UNet(recorded(Network, start.record.network, str(checkpoint)))
    restore_network(network, start.network, checkpoint)
    described = describe(corpus, split)
    data = {**described.pop("data"), "dataset": dataset_name, "scans": [scan.name for scan in scans]}
    record = Record(
        stage="adapt",
        step=0,
        settings=settings.model_dump(mode="json"),
        network=start.record.network,
        data=data,
        **described,
        threshold=start.record.threshold,
    )
    task = Adaptation(corpus, split, scans, settings)
    outcome = loop.train(task, network, record, schedule, hardware.of(schedule), out, resume=resume, report=report)
    return replace(outcome, left_out=len(cases) - len(scans))
