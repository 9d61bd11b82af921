"""The training loop, read from top to bottom; pretraining, adaptation and fine-tuning differ in their task.

Everything random is a function of (seed, step), and a checkpoint holds weights, their average, moments, the state of
the learning rate and the step: a training that was killed and resumed ends with the weights of one that was not, bit
for bit on a CPU with the same number of threads.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypedDict

import torch
from torch import nn

from scans.errors import CheckpointError
from train.network.averaging import Average
from train.network.batch_norm import BATCHES, has_running_statistics, renew
from train.network.checkpoint import save_checkpoint
from train.network.hardware import Hardware
from train.network.ranks import ALONE, Ranks
from train.network.record import Record, plain
from train.network.weights import restore_network, restore_optimiser
from train.run.folder import RunFolder
from train.run.history import steering_loss
from train.run.pictures import Views
from train.run.spent import Outcome, Spent
from train.settings import Schedule
from train.stages.finite import FiniteWatch, check_networks, diverged, keep_batch, keep_network
from train.stages.rate import Rate
from train.stages.resume import check_one_folder, check_resumable, load_last, save_last

Report = Callable[[int, dict[str, float]], None]  # called every few steps with the step and what to show
Enough = Callable[[Spent], bool]  # whether a rehearsal has seen enough steps; it then validates, saves and ends
Say = Callable[[str], None]


class Course(TypedDict, total=False):
    """What may be said of the course of a training, of any stage: each hands it on to `train`.

    Attributes
    ----------
    resume : bool
        Continue from the last good checkpoint of the run folder, if there is one.
    rehearsed : callable or None
        Ends the training early, with a validation and its checkpoints, to know what they cost; of one process alone.
    report : callable
        Told of progress, every few steps.
    say : callable
        Told in sentences what was decided, what went wrong without ending the training, and in the end where the time
        went.
    """

    resume: bool
    rehearsed: Enough | None
    report: Report
    say: Say


def silent(line: str) -> None:
    """Say nothing."""


class Objective(Protocol):
    """What a stage of training adds to the loop: batches, their loss, and how a network is judged."""

    def batches(self, steps: range) -> Iterator[Any]:
        """Yield the batch of each step, a pure function of the step."""

    def recipe(self, step: int) -> list[dict[str, Any]]:
        """Return what makes each scan of the batch of a step, as plain JSON values."""

    def loss(self, output: Any, batch: Any) -> dict[str, torch.Tensor]:
        """Return the loss terms by name, and their sum as ``total``, of what the network gave for a batch."""

    def validate(self, network: nn.Module, hardware: Hardware) -> dict[str, float]:
        """Score a network in evaluation mode: `steering_loss` a plateau rule, ``score`` (high is good) the best."""

    def views(self, network: nn.Module, hardware: Hardware) -> dict[str, list[Views]]:
        """Return the rows of each validation picture, by its name; the network is in evaluation mode."""


class Interruption:
    """Catches SIGINT and SIGTERM so that the loop can stop between two steps; a later one ends at once.

    One within `PATIENCE` seconds of the first does not: torchrun passes on what a job queue has sent to every process
    already.
    """

    PATIENCE = 2.0

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > self.PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def train(
    task: Objective,
    network: nn.Module,
    record: Record,
    schedule: Schedule,
    hardware: Hardware,
    folder: Path,
    *,
    ranks: Ranks = ALONE,
    resume: bool = False,
    rehearsed: Enough | None = None,
    report: Report = lambda step, shown: None,
    say: Say = silent,
) -> Outcome:
    """Train `network` on `task` and leave ``last``, ``previous`` and ``best`` checkpoints in `folder`.

    Parameters
    ----------
    task : Objective
    network : Module
        Already initialised; resuming replaces its weights.
    record : Record
        Everything a checkpoint records but steps and scores.
    schedule : Schedule
    hardware : Hardware
    folder : Path
    ranks : Ranks
        The processes that train together; the first writes and validates.
    resume, rehearsed, report, say
        As of `Course`.

    Raises
    ------
    CheckpointError
        If `folder` holds something that cannot be continued, or its last checkpoint cannot be written.
    SettingsError
        If a loss or a gradient stops being finite; the last checkpoint is from before.
    """
    spent = Spent(hardware.device)
    network = hardware.place(network)
    optimiser = torch.optim.Adam(
        network.parameters(), lr=schedule.learning_rate, betas=schedule.betas, eps=schedule.epsilon, fused=True
    )
    rate, start, best = Rate(optimiser, schedule), 0, {}
    average = Average(network, schedule.averaging) if schedule.averaging else None
    used = network if average is None else average.network  # what is validated, and given to others
    together = schedule.batch * ranks.count
    writes = RunFolder(folder, resume=resume, say=say) if ranks.first else nullcontext()

    with writes as run, Interruption() as interruption:
        if resume and (found := load_last(folder, say)) is not None:
            path, saved = found
            check_resumable(path, saved, record, together)
            restore_network(network, saved.trained, path)
            if average is not None:
                restore_network(average.network, saved.network, path)
            restore_optimiser(optimiser, network, saved.optimiser)
            start, best = saved.record.step, saved.record.progress["best"]
            record = replace(record, validation=saved.record.validation)
            rate.restore(saved.record.progress)
        check_one_folder(folder, start, ranks)
        if run is not None:
            run.start({"stage": record.stage, **record.settings, "hardware": str(hardware)}, start)
            run.write(start, {"started_on": str(hardware), "split": record.data.get("split")})
        trained = ranks.wrap(hardware.compile(network))
        watch = FiniteWatch(network, optimiser, hardware.device)
        clock, logged, step, stopped = time.monotonic(), start, start, 0
        for step, batch in enumerate(task.batches(range(start, schedule.steps)), start + 1):
            spent.on("steps")
            network.train()
            rate.begin(step)
            batch = batch.to(hardware.device)
            with hardware.autocast():
                output = trained(batch.composite)
            terms = task.loss(output, batch)
            optimiser.zero_grad(set_to_none=True)
            terms["total"].backward()
            watch.look(step, terms["total"])
            optimiser.step()
            if average is not None:
                average.update(step)

            ends = validates = step == schedule.steps
            validates |= step % schedule.checkpoint_every == 0
            logs = validates or step % schedule.log_every == 0
            if logs or ranks.count == 1:
                stopped = ranks.most(interruption.number)
                ends |= stopped != 0
            if rehearsed is not None and rehearsed(spent):
                ends = validates = logs = True
            # To read a number waits for a GPU, hence not at every step.
            if (logs or ends or hardware.device.type == "cpu") and (bad := watch.first()):
                _keep(task, folder, record, network, optimiser, bad, ranks)
                raise diverged(folder, bad)
            if logs or ends:
                shown = ranks.mean({name: float(term.detach()) for name, term in terms.items()})
                shown |= {"gradient_norm": float(watch.gradient_norm), "learning_rate": rate.now}
                shown["seconds_per_step"] = (time.monotonic() - clock) / max(1, step - logged)
                clock, logged = time.monotonic(), step
                if run is not None:
                    spent.on("writing")
                    run.write(step, shown)
                    report(step, shown)

            if validates:
                spent.on("validating")
                if has_running_statistics(used):
                    renew(used, task.batches(range(step, step + BATCHES)), hardware)
                used.eval()  # what is trained is back in training mode at the next step
                scores = {"loss": 0.0}
                if run is not None:
                    with torch.no_grad():
                        scores = task.validate(used, hardware)
                        views = task.views(used, hardware)
                    record = replace(record, validation={name: plain(value) for name, value in scores.items()})
                    run.write(step, {f"validation_{name}": value for name, value in record.validation.items()})
                    run.draw(step, views, record.region.get("orientation", "LPS"))
                    report(step, {f"validation_{name}": value for name, value in scores.items()})
                if rate.follows_validations:
                    rate.validated(*ranks.from_first([float(steering_loss(scores))]))
                spent.on("writing")
                chosen = schedule.chosen == "last" or not best or _merit(scores) > _merit(best)
                if run is not None and chosen:
                    save_best = partial(save_checkpoint, run.best, replace(record, step=step), used)
                    best = {"step": step, **record.validation} if _saved(save_best, ends, say) else best
                clock, logged = time.monotonic(), step
            if run is not None and (validates or ends):
                spent.on("writing")
                check_networks({network, used}, step)
                now = replace(record, step=step, progress={"best": best, "samples_per_step": together, **rate.state()})
                _saved(partial(save_last, folder, now, network, optimiser, average), ends, say)
                if ends:
                    run.write(step, {"spent": spent.seconds})
                    run.end(step, stopped if step < schedule.steps else 0)
                run.report(now=ends and rehearsed is None)
            spent.stepped()
            if ends:
                break
    if rehearsed is None and step > start:
        say(f"where the time went, {spent.told(record.stage, schedule)}")
    finished = step == schedule.steps
    return Outcome(step, best, 0 if finished else stopped, finished=finished, spent=spent)


def _saved(save: Callable[[], None], must: bool, say: Say) -> bool:
    """Save a checkpoint and return whether it worked; a full disk ends a training only at its end."""
    try:
        save()
    except CheckpointError as error:
        if must:
            raise
        say(f"{error}; training goes on and tries again, the checkpoint before it is still there")
        return False
    return True


def _merit(scores: dict[str, Any]) -> tuple[float, float]:
    """Order validations: by score, then by loss, so that an empty mask at the start is not the best for ever."""
    return scores["score"], -steering_loss(scores)


def _keep(
    task: Objective,
    folder: Path,
    record: Record,
    network: nn.Module,
    optimiser: torch.optim.Adam,
    step: int,
    ranks: Ranks,
) -> None:
    """Keep what is needed to look at a step that went wrong; its batch is drawn once more."""
    if ranks.first:
        keep_network(folder, record, network, optimiser, step)
    ranks.wait()
    batch = next(iter(task.batches(range(step - 1, step))))
    keep_batch(folder, batch, task.recipe(step - 1), step, ranks.rank)
