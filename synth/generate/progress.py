"""Progress of `synth generate`: a live line on a terminal, a plain line now and then in a log."""

import threading
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress import Task as Bar
from rich.text import Text

from scans.durations import duration, size_of

if TYPE_CHECKING:
    from synth.generate.shards import ShardDone


_RATE_OVER_S = 600.0  # long enough for workers that end shards in step, short enough to see that jobs came
_LOG_EVERY_S = 30.0


class ShardProgress:
    """Show shards, samples a second, time left, bytes and failures.

    Parameters
    ----------
    console : Console
        A terminal gets a bar, anything else a line every 30 seconds.
    shards, samples : int
        In all.
    """

    def __init__(self, console: Console, shards: int, samples: int) -> None:
        self._console, self._shards, self._samples = console, shards, samples
        self._done = self._kept = self._failed = self._left_out = self._made = self._bytes = 0
        self._began = self._logged = time.monotonic()
        self._marks = deque([(self._began, 0)])  # (time, samples made so far), one a second at most
        self._bar = Progress(BarColumn(), _Line(self), console=console, refresh_per_second=2, transient=True)
        self._lock = threading.Lock()

    def __enter__(self) -> "ShardProgress":
        self._bar.add_task("shards", total=self._shards)
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()
        self.say(self.line())

    def step(self, step: "ShardDone") -> None:
        """Count one shard."""
        now = time.monotonic()
        with self._lock:
            self._done += step.outcome != "failed"
            self._kept += step.samples * (step.outcome == "kept")
            self._failed += step.outcome == "failed"
            self._left_out += step.samples * (step.outcome == "failed")
            self._made += step.samples * (step.outcome == "made")
            self._bytes += step.bytes
            if now - self._marks[-1][0] >= 1:
                self._marks.append((now, self._made))
                while now - self._marks[0][0] > _RATE_OVER_S and len(self._marks) > 2:
                    self._marks.popleft()
        self._bar.update(self._bar.task_ids[0], completed=self._done)
        if not self._console.is_terminal and step.outcome != "kept" and now - self._logged >= _LOG_EVERY_S:
            self._logged = now
            self.say(self.line())

    def say(self, sentence: str) -> None:
        """Print a line, above the bar if there is one."""
        self._console.print(sentence, markup=False)

    def line(self) -> str:
        """Return where the run stands, in one line."""
        with self._lock:
            (then, before), now = self._marks[0], time.monotonic()
            rate = (self._made - before) / max(now - then, 1e-6)
            left = self._samples - self._kept - self._left_out - self._made
            words = [f"{self._done}/{self._shards} shards"]
            if self._made:
                words.append(f"{rate:.{1 if rate < 100 else 0}f} samples/s")
                words.append(f"{size_of(self._bytes)} written")
            if left and rate:
                words.append(f"{duration(left / rate)} left")
            elif not left:
                words.append(duration(now - self._began))
            if self._failed:
                words.append(f"{self._failed} failed")
        return " · ".join(words)


class _Line(TextColumn):
    """The line beside the bar, computed when the bar is drawn."""

    def __init__(self, progress: ShardProgress) -> None:
        super().__init__("{task.description}", markup=False)
        self._progress = progress

    def render(self, task: Bar) -> Text:
        return Text(self._progress.line())
