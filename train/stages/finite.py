"""Numbers stay finite: a step whose loss or gradient is not changes nothing, and is kept to be looked at.

The watch waits for no GPU. It hands its finding to the fused Adam, which then leaves weights and moments as they
were, at that step and all later ones; the loop asks for the number of the step when it reads the loss anyway.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from scans.durable import write_atomically
from train.network.checkpoint import save_checkpoint
from train.network.record import Record
from train.settings import SettingsError

FOLDER = "nonfinite"


class FiniteWatch:
    """Remembers the first step whose loss or gradient is not finite.

    Parameters
    ----------
    network : Module
    optimiser : Adam
        Fused: it is the one that can be told on the device to leave out a step.
    device : torch.device
    """

    def __init__(self, network: nn.Module, optimiser: torch.optim.Adam, device: torch.device) -> None:
        self._parameters = list(network.parameters())
        self._optimiser = optimiser
        self._first = torch.zeros((), dtype=torch.int64, device=device)
        self.gradient_norm = torch.zeros((), device=device)

    def look(self, step: int, loss: torch.Tensor) -> None:
        """Look at a step between its backward pass and its update."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.gradient_norm = nn.utils.get_total_norm(gradients)
        bad = ~(loss.detach().isfinite() & self.gradient_norm.isfinite())
        self._first = torch.where(bad & (self._first == 0), step, self._first)
        self._optimiser.found_inf = (self._first != 0).float()  # type: ignore[attr-defined]  # as GradScaler does

    def first(self) -> int:
        """Return the first such step, 0 if there was none; waits for a GPU."""
        return int(self._first)


def keep_network(folder: Path, record: Record, network: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write the weights from before `step`, to ``nonfinite/network.safetensors`` of a run folder."""
    (folder / FOLDER).mkdir(exist_ok=True)
    save_checkpoint(folder / FOLDER / "network.safetensors", replace(record, step=step - 1), network, optimiser)


def keep_batch(folder: Path, batch: Any, recipe: list[dict[str, Any]], step: int, rank: int) -> None:
    """Write what one process gave its network at `step`: the volumes, and the recipes they were made by."""
    (folder / FOLDER).mkdir(exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(batch)}
    write_atomically(folder / FOLDER / f"batch-{rank}.safetensors", to_bytes(tensors))
    text = json.dumps({"step": step, "rank": rank, "samples": recipe}, indent=2)
    write_atomically(folder / FOLDER / f"batch-{rank}.json", text.encode())


def _tensors(batch: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a batch, those of a part named PART.NAME."""
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor):
            yield prefix + field.name, value
        elif is_dataclass(value):
            yield from _tensors(value, f"{prefix}{field.name}.")


def check_networks(networks: Iterable[nn.Module], step: int) -> None:
    """Stop where a running statistic has overflowed, which neither loss nor gradient shows.

    Raises
    ------
    SettingsError
    """
    for name, value in chain.from_iterable(network.state_dict().items() for network in networks):
        if not bool(value.isfinite().all()):
            raise SettingsError(
                f"{name} of the network is not finite at step {step}; the last checkpoint is from before; start again "
                "in another --out with a lower --learning-rate or with --precision fp32"
            )


def diverged(folder: Path, step: int) -> SettingsError:
    """Say that a step went wrong, and what there is to look at."""
    return SettingsError(
        f"the loss or its gradient is not finite at step {step}; the batch and the weights before it are in "
        f"{folder / FOLDER}: look at them with train replay {folder}; then go on with --resume and --precision fp32, "
        "or start again in another --out with a lower --learning-rate"
    )
