"""Dry run: what a training would cost, from about two seconds of its own steps, one validation and its checkpoints."""

import os
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from scans.writing import WriteError, writing
from train.network.checkpoint import load_record
from train.run.folder import LAST
from train.run.spent import Outcome, Spent
from train.settings import Schedule, SettingsError

GPUS = (1, 2, 4)
_SECONDS = 2.0  # of steps
_FEWEST = 2  # steps
_EXCHANGE = 1e10  # bytes a second between GPUs, of PCIe 4; NVLink has ten times as many
# docs/speed.md: a step of the full network (width 32) on two cubes of 128³ on one H100. Work grows with the cube's
# voxels, the batch, and the square of the width, if it fills the GPU as the full network does.
_H100_STEP = 0.072 / (2 * 128**3 * 32**2)


@dataclass(frozen=True)
class Estimate:
    """What a training would cost.

    Attributes
    ----------
    steps, validations : int
        In all.
    step_seconds, waited : float
        Of a step, and which share of it is waiting for samples.
    validation_seconds, writing_seconds : float
        Of one validation, and of writing its checkpoints.
    starting_seconds : float
        Before the first measured step.
    host_bytes, device_bytes : int
        Most memory that this process took, and of its GPU; 0 without one.
    best_bytes, last_bytes : int
        Of the checkpoint to use, and of one to go on from.
    on_gpus : dict of int to float
        Seconds for the same number of samples on so many GPUs; an estimate.
    gpu : bool
        Whether that is reckoned from this machine's GPU; else from what was measured on an H100.
    measured : int
        Steps that were taken to know.
    """

    steps: int
    validations: int
    step_seconds: float
    waited: float
    validation_seconds: float
    writing_seconds: float
    starting_seconds: float
    host_bytes: int
    device_bytes: int
    best_bytes: int
    last_bytes: int
    on_gpus: dict[int, float]
    gpu: bool
    measured: int

    @property
    def seconds(self) -> float:
        """Of the whole training, here."""
        each = self.validation_seconds + self.writing_seconds
        return self.starting_seconds + self.steps * self.step_seconds + self.validations * each

    @property
    def disk_bytes(self) -> int:
        """Most that checkpoints take: the best, the last, the one before it, and one that is being written."""
        return self.best_bytes + 3 * self.last_bytes


def enough(spent: Spent) -> bool:
    """Tell whether a rehearsal has seen enough steps to know what one takes."""
    return spent.steps >= _FEWEST and spent.seconds["steps"] + spent.seconds["waiting"] >= _SECONDS


def estimate(train: Callable[[Path], Outcome], out: Path, schedule: Schedule) -> Estimate:
    """Rehearse a training in a temporary folder on the disk of `out`, and reckon.

    Parameters
    ----------
    train : callable
        Trains in a folder until `enough`.
    out : Path
        Where the training would write; need not exist.
    schedule : Schedule
        Of the training.

    Raises
    ------
    SettingsError
        If several processes were started, it was stopped, or the training is too short to measure a step of it.
    WriteError
        If nothing can be written where `out` would lie.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError("--dry-run measures one process; start it without torchrun")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    above = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    with writing(above, WriteError):
        folder = tempfile.TemporaryDirectory(dir=above, prefix=".dry-run-")
    with folder as name:
        run = Path(name) / "run"
        outcome = train(run)
        if outcome.signal:
            raise SettingsError("--dry-run was stopped; nothing is kept")
        spent = outcome.spent
        if not spent.steps or not spent.validations:
            raise SettingsError(f"--dry-run: {schedule.steps} steps are too few to measure; take them")
        record = load_record(run / LAST)
        best, last = ((run / file).stat().st_size for file in ("best.safetensors", LAST))
    gpu = torch.cuda.is_available() and torch.cuda.max_memory_reserved() > 0
    validation = spent.seconds["validating"] / spent.validations
    writing_each = spent.seconds["writing"] / spent.validations
    step = spent.a_step if gpu else _H100_STEP * schedule.batch * record.size**3 * int(record.network["width"]) ** 2
    scale = step / spent.a_step

    def on(count: int) -> float:
        """Return the seconds that so many GPUs take for as many samples, each with a batch of its own."""
        steps = -(-schedule.steps // count)
        exchange = 2 * (count - 1) / count * best / _EXCHANGE  # a gradient is as large as the weights
        each = validation * scale + writing_each  # the first validates and writes, the others wait
        return steps * (step + exchange) + _validations(steps, schedule.checkpoint_every) * each

    return Estimate(
        steps=schedule.steps,
        validations=_validations(schedule.steps, schedule.checkpoint_every),
        step_seconds=spent.a_step,
        waited=spent.seconds["waiting"] / (spent.a_step * spent.steps),
        validation_seconds=validation,
        writing_seconds=writing_each,
        starting_seconds=spent.seconds["starting"],
        host_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        device_bytes=torch.cuda.max_memory_reserved() if gpu else 0,
        best_bytes=best,
        last_bytes=last,
        on_gpus={count: on(count) for count in GPUS},
        gpu=gpu,
        measured=spent.steps,
    )


def _validations(steps: int, every: int) -> int:
    """Return how many validations a training has: the last step has one too."""
    return -(-steps // every)
