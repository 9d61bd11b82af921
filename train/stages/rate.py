"""The learning rate of each step: a warm-up, then a plateau rule that follows validations, or half a cosine."""

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from train.network.record import plain
from train.settings import Schedule

LEAST = 0.01  # share of the rate that a cosine ends at


class Rate:
    """Sets an optimiser's rate.

    Parameters
    ----------
    optimiser : Optimizer
        Of one group of parameters.
    schedule : Schedule
    """

    def __init__(self, optimiser: torch.optim.Optimizer, schedule: Schedule) -> None:
        self._group, self._schedule = optimiser.param_groups[0], schedule
        self._rate = schedule.learning_rate
        self._plateau = ReduceLROnPlateau(optimiser, factor=schedule.plateau_factor, patience=schedule.plateau_patience)

    @property
    def now(self) -> float:
        """The rate of the step last begun."""
        return float(self._group["lr"])

    def begin(self, step: int) -> None:
        """Set the rate of a step, from 1."""
        schedule = self._schedule
        share = min(1.0, step / max(1, schedule.warmup_steps))
        if schedule.rate_rule == "cosine":
            share *= cosine(step - schedule.warmup_steps, schedule.steps - schedule.warmup_steps)
        self._group["lr"] = self._rate * share

    @property
    def follows_validations(self) -> bool:
        """Whether the rate depends on the loss of a validation."""
        return self._schedule.rate_rule == "plateau"

    def validated(self, loss: float) -> None:
        """Lower the rate for good where validations no longer have a better loss."""
        self._group["lr"] = self._rate
        self._plateau.step(loss)
        self._rate = self.now

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must know of it, as JSON values."""
        state = self._plateau.state_dict()
        return {
            "rate": self._rate,
            "plateau_best": plain(state["best"]),
            "plateau_waited": int(state["num_bad_epochs"]),
            "plateau_seen": int(state["last_epoch"]),
        }

    def restore(self, progress: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        self._rate = progress["rate"]
        best = progress["plateau_best"]
        self._plateau.load_state_dict(
            {
                "best": math.inf if best is None else best,
                "num_bad_epochs": progress["plateau_waited"],
                "last_epoch": progress["plateau_seen"],
            }
        )


def cosine(step: int, steps: int) -> float:
    """Return the share of the rate at a step of so many: 1 up to the first, then half a cosine down to `LEAST`."""
    done = min(1.0, max(0, step) / max(1, steps))
    return LEAST + (1 - LEAST) * (1 + math.cos(math.pi * done)) / 2
