"""How a training ended."""

from dataclasses import dataclass, field
from typing import Any

from train.run.spent import Spent


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes
    ----------
    step : int
        Steps taken in all.
    best : dict
        Step and scores of the validation that ``best.safetensors`` is of; empty if there was none yet.
    signal : int
        0, or the number of the signal that stopped it early.
    left_out : int
        Cases of a dataset that could not be used.
    finished : bool
        Whether all steps were taken: neither stopped nor a rehearsal.
    spent : Spent
        Where the time went.
    """

    step: int
    best: dict[str, Any]
    signal: int = 0
    left_out: int = 0
    finished: bool = True
    spent: Spent = field(default_factory=Spent, compare=False)
