"""What the commands that train print for ``--dry-run``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scans.durations import duration, size_of
from scans.terminal import facts, out
from train.settings import Schedule

if TYPE_CHECKING:
    from train.run.spent import Outcome

DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Say how long it would take, and its memory and disk, from two seconds of it."),
]


def print_estimate(train: "Callable[..., Outcome]", folder: Path, schedule: Schedule) -> None:
    """Rehearse a training and print what it would cost.

    Parameters
    ----------
    train : callable
        Takes a folder and ``rehearsed``, and trains there.
    folder : Path
        The ``--out`` of the training, which is not touched.
    schedule : Schedule
    """
    from train.run.dry_run import enough, estimate

    out.print("a dry run: some steps, one validation, its checkpoints; then all is deleted")
    cost = estimate(lambda run: train(run, rehearsed=enough), folder, schedule)
    every = f"{cost.validations} times {duration(cost.validation_seconds)}, every {schedule.checkpoint_every} steps"
    device = f"; {size_of(cost.device_bytes)} of the GPU's" if cost.device_bytes else ""
    rows = {
        "time here": f"{duration(cost.seconds)} for {cost.steps} steps of {schedule.batch} samples",
        "a step": f"{cost.step_seconds:.3g} s, of which {cost.waited:.0%} waiting for samples",
        "validating": f"{every}; writing takes {cost.writing_seconds:.2g} s each",
        "memory": f"{size_of(cost.host_bytes)} of this machine's{device}, at the most",
        "checkpoints": f"{size_of(cost.best_bytes)} to use, {size_of(cost.last_bytes)} to go on from; "
        f"{size_of(cost.disk_bytes)} on disk at the most",
    }
    least = "about" if cost.gpu else "at best"
    for count, seconds in cost.on_gpus.items():
        each = f", each with {schedule.batch} a step: --steps {-(-cost.steps // count)}" if count > 1 else ""
        rows[f"{count} GPU{'s' * (count > 1)}"] = f"{least} {duration(seconds)} for as many samples{each}"
    out.print(facts(rows))
    out.print(f"reckoned from {cost.measured} steps taken here; nothing is kept")
    of = "this GPU's step" if cost.gpu else "work as fast as the full network's on an H100 (docs/speed.md)"
    out.print(f"the lines of GPUs are an estimate: {of}, gradients exchanged at 10 GB/s, one GPU validating for all")
