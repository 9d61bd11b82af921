"""Replay: do a step once more whose loss or gradient was not finite, and say where the numbers went.

The training left the weights from before that step, its batch, and the recipe of each sample (`train.stages.finite`).
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from scans.errors import CheckpointError
from train.data.batch import Batch
from train.network import hardware
from train.network.losses import decomposition_loss
from train.network.record import Record
from train.proxies.recorded import load_network, recorded_proxy
from train.proxies.task import Pairs
from train.settings import Adapt, Pretrain, recorded
from train.stages.finite import FOLDER

Terms = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Attempt:
    """The step once more, in one precision.

    Attributes
    ----------
    precision : str
    terms : dict of float
        Each loss term.
    layer : str
        The first part of the network whose output is not finite; empty if all are.
    gradients : list of str
        Parameters whose gradient is not finite.
    """

    precision: str
    terms: dict[str, float]
    layer: str
    gradients: list[str]

    @property
    def finite(self) -> bool:
        """Whether all went well."""
        return not self.layer and not self.gradients and all(abs(value) < float("inf") for value in self.terms.values())


@dataclass(frozen=True)
class Replayed:
    """What was found of one process's batch.

    Attributes
    ----------
    step, rank : int
    samples : list of dict
        The recipe of each sample, and ``input``: what its volume looks like.
    attempts : list of Attempt
        In the training's precision, then in fp32.
    """

    step: int
    rank: int
    samples: list[dict[str, Any]]
    attempts: list[Attempt]

    def verdict(self) -> str:
        """Say in a sentence what to do."""
        first, plain = self.attempts[0], self.attempts[-1]
        if first.finite:
            return f"the step is finite here in {first.precision}: it went wrong on other hardware; go on with --resume"
        if plain.finite:
            return "in fp32 the step is finite: go on with --resume --precision fp32"
        if any("NaN" in sample["input"] for sample in self.samples):
            return "a sample itself is not finite: run synth verify on the corpus"
        return "in fp32 it is not finite either: start again in another --out with a lower --learning-rate"


def replay(run: Path, device: str = "auto") -> list[Replayed]:
    """Do the step again that ended a training.

    Parameters
    ----------
    run : Path
        The run folder.
    device : str

    Returns
    -------
    list of Replayed
        One for each process of the training.

    Raises
    ------
    CheckpointError
        If nothing was kept there, or it cannot be read.
    """
    folder = run / FOLDER
    batches = sorted(folder.glob("batch-*.json"))
    if not batches:
        raise CheckpointError(
            f"{run}: no step to replay; a training leaves one in {FOLDER}/ when its loss is not finite"
        )
    record, before = load_network(folder / "network.safetensors", finite=False)
    machine = hardware.choose(device, record.settings["schedule"]["precision"])
    found = []
    for path in batches:
        kept, batch = _kept(path, record)
        attempts = []
        for precision in dict.fromkeys((machine.precision, "fp32")):
            network = copy.deepcopy(before)  # a step changes what BatchNorm has seen
            attempts.append(_attempt(network, batch, record, replace(machine, precision=precision)))
        volumes = batch.composite
        samples = [{**s, "input": _looks(v)} for s, v in zip(kept["samples"], volumes, strict=True)]
        found.append(Replayed(kept["step"], kept["rank"], samples, attempts))
    return found


def _attempt(network: nn.Module, batch: Any, record: Record, machine: hardware.Hardware) -> Attempt:
    network = machine.place(network).train()
    broken: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def note(module: nn.Module, given: Any, output: Any) -> None:
            parts = output if isinstance(output, list) else [output]
            if not all(bool(part.isfinite().all()) for part in parts):
                broken.append(name)

        return note

    for name, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(watch(name))
    batch = batch.to(machine.device)
    with machine.autocast():
        output = network(batch.composite)
    terms = _loss(record)(output, batch)
    terms["total"].backward()
    gradients = [n for n, p in network.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    numbers = {name: float(term.detach()) for name, term in terms.items()}
    return Attempt(machine.precision, numbers, broken[0] if broken else "", gradients)


def _loss(record: Record) -> Callable[[Any, Any], Terms]:
    """Return the loss of a stage, a function of the network's output and the batch."""
    if (proxy := recorded_proxy(record.stage, record.settings, record.size, "nonfinite")) is not None:
        return lambda output, batch: proxy.terms(output.float(), batch.wanted)
    if record.stage == "pretrain":
        weights = recorded(Pretrain, record.settings, "nonfinite").loss
        return lambda layers, batch: decomposition_loss(layers, batch, weights)
    if record.stage == "adapt":
        from train.stages.adapt import mixed_loss

        settings = recorded(Adapt, record.settings, "nonfinite")
        return lambda layers, batch: mixed_loss(layers, batch, settings)
    from train.stages.supervised import supervised_loss

    return supervised_loss


def _kept(path: Path, record: Record) -> tuple[dict[str, Any], Any]:
    """Return what was written of a batch, and the batch."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(path.with_suffix(".safetensors"))
        return kept, _batch(tensors, record.stage)
    except (OSError, ValueError, SafetensorError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: what was kept of the batch is damaged ({error})") from error


def _batch(tensors: dict[str, torch.Tensor], stage: str) -> Any:
    if "wanted" in tensors:
        return Pairs(**tensors)
    if stage == "pretrain":
        return Batch(**tensors)
    if stage == "adapt":
        from train.stages.adapt import Mixed

        inner = {n.removeprefix("synthetic."): t for n, t in tensors.items() if n.startswith("synthetic.")}
        return Mixed(Batch(**inner) if inner else None, tensors["real"], tensors.get("sure"))
    from train.stages.supervised import Annotated

    return Annotated(**tensors)


def _looks(volume: torch.Tensor) -> str:
    """Say what a volume holds."""
    finite = volume[volume.isfinite()]
    broken = volume.numel() - finite.numel()
    spread = f"from {float(finite.min()):.3g} to {float(finite.max()):.3g}" if finite.numel() else "nothing"
    return f"{spread}, {broken} voxels that are NaN or infinite" if broken else f"finite, {spread}"
