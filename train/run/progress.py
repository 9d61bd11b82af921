"""Progress of a training: one line that moves in a terminal, a line now and then in a file."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.progress import TaskID, TextColumn

from scans.durations import duration
from scans.progress import Bars
from scans.terminal import err, out

QUIET_SECONDS = 60.0  # between two lines of a file, such as SLURM keeps: a training of days stays readable


class StepsBar(Bars):
    """A progress line over training steps; validations leave a line of their own.

    Parameters
    ----------
    total : int
        Steps in all.
    batch : int
        Samples a step.
    clock : callable
        Returns seconds.
    """

    def __init__(self, total: int, batch: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._batch, self._clock = total, batch, clock
        self._moves = err.is_terminal and not out.quiet
        super().__init__(TextColumn("{task.fields[left]}"), moves=self._moves)
        self._task: TaskID = self.add_task("training", total=total, left="")
        self._loss = self._seconds = float("nan")
        self._best: tuple[float, int] | None = None
        self._first: tuple[int, float] | None = None
        self._told = clock()

    def __call__(self, step: int, shown: Mapping[str, Any]) -> None:
        """Show progress, for ``train.stages.loop``.

        Parameters
        ----------
        step : int
        shown : mapping
            Either ``total`` and ``seconds_per_step``, or what a validation found, each name with ``validation_``.
        """
        # A log on a full disk must not end what it is the log of.
        with contextlib.suppress(OSError):
            if "total" in shown:
                self._stepped(step, shown)
            if "validation_loss" in shown:
                self._validated(step, shown)

    def _stepped(self, step: int, shown: Mapping[str, Any]) -> None:
        now = self._clock()
        self._loss, self._seconds = shown["total"], shown.get("seconds_per_step", self._seconds)
        if self._first is None:
            self._first = step, now
        text, left = self._text(), self._left(step, now)
        self.update(self._task, completed=step, description=text, left=left)
        if not self._moves and now - self._told >= QUIET_SECONDS:
            self._told = now
            out.print(f"step {step} of {self._total}: {text}, {left}")

    def _validated(self, step: int, shown: Mapping[str, Any]) -> None:
        said = f"step {step} of {self._total}: validation loss {_number(shown['validation_loss'])}"
        dice, shifted = shown.get("validation_dice"), shown.get("validation_shifted_dice")
        if dice is not None:
            steering = dice if shifted is None else shifted
            better = self._best is None or steering > self._best[0]
            if better:
                self._best = steering, step
            assert self._best is not None
            best = ", the best so far" if better else f" (best {self._best[0]:.3f} at step {self._best[1]})"
            said += f", Dice {dice:.3f}" + ("" if shifted is None else f", another generator's {shifted:.3f}") + best
        real = shown.get("validation_real_dice", shown.get("real_dice"))
        if real is not None:
            said += f", real cases {real:.3f}"
        self._told = self._clock()
        out.print(said)

    def _text(self) -> str:
        """Return the numbers of this moment: loss, best Dice, speed."""
        parts = [f"loss {_number(self._loss)}"]
        if self._best is not None:
            parts.append(f"best Dice {self._best[0]:.3f}")
        if self._seconds > 0:
            parts += [f"{self._seconds:.3g} s/step", f"{self._batch / self._seconds:.3g} samples/s"]
        return ", ".join(parts)

    def _left(self, step: int, now: float) -> str:
        """Return the time left, from this part of the training alone, validations included."""
        assert self._first is not None
        done = step - self._first[0]
        pace = (now - self._first[1]) / done if done else self._seconds
        seconds = (self._total - step) * pace
        return f"{duration(seconds)} left" if seconds >= 0 else ""


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
