"""Fine-tuning on annotated scans: encoder from pretraining, decoder random, soft Dice (Zhang et al., Sec. IV-C)."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from train import hardware, loop
from train.cases import RealScan, dataset_cases, prepare_cases
from train.channels import carry_encoder, choose_channels, recorded_channels
from train.checkpoint import Checkpoint, Record, load_checkpoint, restore_network
from train.losses import dice_loss
from train.metrics import dice
from train.order import Endless, order, positions, random_bits
from train.ranks import ALONE, Ranks, joined
from train.run_folder import check_run_folder
from train.settings import Finetune, Network, SettingsError, recorded, with_modalities
from train.terms import with_dataset
from train.unet import POOLINGS, UNet, split_layers

if TYPE_CHECKING:
    from train.pictures import Views

_FOLDS, _FLIPS = 2**64 - 2, 2**63  # streams of random bits beside the order of samples


@dataclass(frozen=True)
class Folds:
    """Which cases train, which steer the training, and which are kept for evaluation."""

    training: list[str]
    validation: list[str]
    test: list[str]


def split_cases(names: list[str], folds: int, fold: int, fraction: float, seed: int) -> Folds:
    """Part cases into folds, the training ones nested over `fraction`: a tenth is part of every fifth.

    A fifth of the training cases steer the learning rate and the choice of the best checkpoint. With fewer
    than three none can be spared; ``validation`` is empty then.

    Raises
    ------
    SettingsError
        If there is no such fold, or fewer cases than folds.
    """
    if not 0 <= fold < folds:
        raise SettingsError(f"--fold {fold}: with --folds {folds} give 0 to {folds - 1}")
    if len(names) < folds:
        raise SettingsError(f"--folds {folds}: only {len(names)} usable cases; use fewer folds or more cases")
    shuffled = [sorted(names)[i] for i in order(len(names), seed, _FOLDS)]
    rest = [name for position, name in enumerate(shuffled) if position % folds != fold]
    chosen = rest[: max(1, math.ceil(fraction * len(rest) - 1e-9))]
    # Every fifth, not the last fifth, so that also the parts stay nested when the fraction grows.
    steering = [name for position, name in enumerate(chosen) if position % 5 == 2]
    return Folds([n for n in chosen if n not in steering], steering, shuffled[fold::folds])


@dataclass(frozen=True)
class Annotated:
    """Annotated scans side by side.

    Attributes
    ----------
    composite : Tensor of float32, shape (N, C, z, y, x)
        Of C modalities.
    mask : Tensor of float32, shape (N, 1, z, y, x)
    """

    composite: torch.Tensor
    mask: torch.Tensor

    def to(self, device: torch.device) -> "Annotated":
        """Move to a device."""
        return Annotated(self.composite.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))


class Supervised:
    """The task of fine-tuning, for ``train.loop``."""

    def __init__(
        self, training: list[RealScan], validation: list[RealScan], settings: Finetune, ranks: Ranks = ALONE
    ) -> None:
        self.settings = settings
        self.training = training
        self.validation = validation or training
        self.ranks = ranks
        self.order = Endless(np.zeros(len(training), int), settings.schedule.seed)

    def batches(self, steps: range) -> Iterator[Annotated]:
        """Yield the batch of each step."""
        for step in steps:
            chosen = self._chosen(step)
            yield batch_of([self.training[self.order[p]] for p in chosen], [self._mirrors(p) for p in chosen])

    def recipe(self, step: int) -> list[dict[str, Any]]:
        """Return the name of each scan of a step, and the axes along which it is flipped."""
        chosen = self._chosen(step)
        return [{"scan": self.training[self.order[p]].name, "flipped": list(self._mirrors(p))} for p in chosen]

    def _chosen(self, step: int) -> range:
        return positions(self.settings.schedule.batch, step, self.ranks.rank, self.ranks.count)

    def _mirrors(self, position: int) -> tuple[int, ...]:
        """Draw the axes along which the scan at a position of the stream is flipped."""
        if not self.settings.mirror:
            return ()
        word = int(random_bits(1, self.settings.schedule.seed, _FLIPS + position)[0])
        return tuple(axis for axis in range(3) if word >> axis & 1)

    def loss(self, output: torch.Tensor, batch: Annotated) -> dict[str, torch.Tensor]:
        """Soft Dice loss of the mask channel; the other channels are not trained."""
        return supervised_loss(output, batch)

    def validate(self, network: nn.Module, machine: hardware.Hardware) -> dict[str, float]:
        """Soft Dice loss and Dice at probability 0.5 on the steering cases, in the network's cube."""
        losses, overlaps = [], []
        for scan in self.validation:
            logits, batch = self._logits(network, machine, scan)
            losses.append(float(dice_loss(logits, batch.mask)))
            overlaps.append(dice((logits[0, 0] > 0).cpu().numpy(), scan.mask != 0))  # type: ignore[arg-type]
        overlap = float(np.mean(overlaps))
        return {"loss": float(np.mean(losses)), "dice": overlap, "score": overlap}

    def views(self, network: nn.Module, machine: hardware.Hardware) -> "dict[str, list[Views]]":
        """Return the first steering cases, to be drawn; their layers are not trained and left empty."""
        from train.pictures import Views

        rows = []
        for scan in self.validation[:4]:
            logits, _ = self._logits(network, machine, scan)
            rows.append(Views(scan.name, scan.intensity[0], None, None, (logits[0, 0] > 0).cpu().numpy(), scan.mask))
        return {"validation": rows}

    def _logits(self, network: nn.Module, machine: hardware.Hardware, scan: RealScan) -> tuple[torch.Tensor, Annotated]:
        batch = batch_of([scan], [()]).to(machine.device)
        with torch.no_grad(), machine.autocast():
            output = network(batch.composite)
        return split_layers(output).logits, batch


def supervised_loss(output: torch.Tensor, batch: Annotated) -> dict[str, torch.Tensor]:
    """Soft Dice loss of the mask channel (Eq. 8); the other channels are not trained."""
    return {"total": dice_loss(split_layers(output).logits, batch.mask)}


def batch_of(scans: list[RealScan], mirrored: list[tuple[int, ...]]) -> Annotated:
    """Stack annotated scans, each flipped along its axes: 0 is z, 1 is y, 2 is x."""

    def stack(volumes: list[np.ndarray]) -> torch.Tensor:
        turned = [
            np.flip(volume, tuple(axis + 1 for axis in axes)) for volume, axes in zip(volumes, mirrored, strict=True)
        ]
        return torch.from_numpy(np.stack(turned).astype(np.float32))

    masks = [scan.mask[None] for scan in scans if scan.mask is not None]
    return Annotated(stack([scan.intensity for scan in scans]), stack(masks))


def finetune(
    init: Path | None,
    catalog: Path,
    dataset_name: str,
    out: Path,
    settings: Finetune,
    *,
    size: int = 128,
    modalities: Sequence[str] = (),
    resume: bool = False,
    report: loop.Report = lambda step, shown: None,
    say: Callable[[str], None] = lambda line: None,
) -> loop.Outcome:
    """Fine-tune on one fold of a dataset; ``split.json`` in the run folder says which cases it saw.

    Parameters
    ----------
    init : Path or None
        A pretrained checkpoint; None: from scratch, with cubes of `size`.
    catalog : Path
    dataset_name : str
    out : Path
    settings : Finetune
    size : int
    modalities : sequence of str
        Of the dataset, in the network's order. Empty: those of the checkpoint, or from scratch all of the dataset.
    resume, report, say
        As in ``train.pretrain.pretrain``.
    """
    check_run_folder(out, resume)
    start = None if init is None else load_checkpoint(init)
    known = [] if start is None else recorded_channels(start.record, str(init))
    channels = choose_channels(known, catalog, dataset_name, modalities)
    names = [channel.region.modality for channel in channels]
    before = [channel.region.modality for channel in known]
    if known and names != before:
        say(f"the network takes {', '.join(names)}; its encoder was trained on {', '.join(before)}")
    regions = [channel.region for channel in channels]
    dataset, cases = dataset_cases(catalog, dataset_name, regions)
    if start is None or init is None:
        network = _network(settings, names, size)
    else:
        size, network = start.record.size, _continued(start, init, before, names, settings)
    statistics = [channel.statistics for channel in channels]
    scans = prepare_cases(cases, dataset, regions, size, statistics, annotated=True, told=say)
    schedule = settings.schedule
    folds = split_cases([s.name for s in scans], settings.folds, settings.fold, settings.fraction, schedule.seed)
    by_name = {scan.name: scan for scan in scans}
    say(
        f"{len(folds.training)} training, {len(folds.validation)} steering, {len(folds.test)} test cases"
        + ("" if folds.validation else "; too few to spare any, so the training cases themselves steer")
    )
    data = {} if start is None else dict(start.record.data)
    data |= {
        "dataset": dataset_name,
        "modalities": names,
        "training": folds.training,
        "validation": folds.validation,
        "test": folds.test,
        "init": None if start is None else start.record.stage,
        "datasets": with_dataset(data, dataset_name, dataset, "finetune", [*folds.training, *folds.validation]),
    }
    record = Record(
        stage="finetune",
        step=0,
        settings=settings.model_dump(mode="json"),
        network=network.settings.model_dump(mode="json"),
        channels=[channel.to_json() for channel in channels],
        size=size,
        data=json.loads(json.dumps(data)),
        threshold=start.record.threshold if start is not None and names[0] == before[0] else None,
    )
    training, validation = ([by_name[name] for name in names] for names in (folds.training, folds.validation))
    with joined(hardware.of(schedule, size)) as (machine, ranks):
        task = Supervised(training, validation, settings, ranks)
        outcome = loop.train(
            task, network, record, schedule, machine, out, ranks=ranks, resume=resume, report=report, say=say
        )
    return replace(outcome, left_out=len(cases) - len(scans))


def _network(settings: Finetune, modalities: Sequence[str], size: int) -> UNet:
    """Return a network from scratch."""
    if size % 2**POOLINGS:
        raise SettingsError(f"--size {size}: give a multiple of {2**POOLINGS}")
    torch.manual_seed(settings.schedule.seed)
    return UNet(with_modalities(settings.network, len(modalities)))


def _continued(start: Checkpoint, where: Path, before: Sequence[str], now: Sequence[str], settings: Finetune) -> UNet:
    """Return a network with the encoder of a checkpoint, made to take the modalities `now`."""
    torch.manual_seed(settings.schedule.seed)
    recorded_settings = recorded(Network, start.record.network, str(where))
    network = UNet(with_modalities(recorded_settings, len(now)))
    decoder = {n: t for n, t in network.state_dict().items() if not n.startswith("encoder.")}
    encoder = {n: t for n, t in start.network.items() if n.startswith("encoder.")}
    restore_network(network, {**decoder, **carry_encoder(encoder, before, now)}, where)
    return network
