"""A run folder: what a training leaves on disk.

``settings.json``, ``log.jsonl`` (one line every few steps and at each validation), ``events/`` (TensorBoard),
``pictures/validation-STEP.png``, ``scenes/validation.json``, ``last.safetensors`` and ``best.safetensors``.
``train report`` makes ``report.html`` of it.
"""

import json
import signal as signals
import time
from pathlib import Path
from typing import Any

import numpy as np

from scans.durable import locked, write_atomically
from scans.errors import CheckpointError, UserError
from scans.writing import writing
from train.run.events import Events
from train.run.log import AppendedFile, Say, line, read_log, warn
from train.run.pictures import Views, validation_picture
from train.run.scenes import write_scenes

REPORT_SECONDS = 600.0  # between two reports of a training: each takes seconds


def check_run_folder(path: Path, resume: bool) -> None:
    """Stop where a training in `path` would overwrite another.

    Raises
    ------
    CheckpointError
        If `path` holds a training already and it is not to be resumed.
    """
    if not resume and any((path / name).exists() for name in (LAST, PREVIOUS)):
        raise CheckpointError(f"{path}: holds a training already; add --resume to continue it, or choose another --out")


class RunFolder:
    """Open a run folder for one training; a second one on the same folder is refused.

    Parameters
    ----------
    path : Path
        Made where it does not exist.
    resume : bool
        Continue what is there. Otherwise a folder that holds a training is refused, never overwritten.
    say : callable
        Told in a sentence of what can be done without: a log that cannot be written now, no TensorBoard.
    """

    def __init__(self, path: Path, *, resume: bool = False, say: Say = warn) -> None:
        self.path = path
        self.best = path / "best.safetensors"
        self.pictures = path / "pictures"
        self._say = _once(say)
        with writing(path, CheckpointError):
            self.pictures.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = locked(path / ".lock", "w")
            except BlockingIOError as error:
                raise CheckpointError(f"{path}: another training is writing here; choose another --out") from error
        try:
            check_run_folder(path, resume)
        except CheckpointError:
            self._lock.close()
            raise
        self._events: Events | None = None
        self._log: AppendedFile | None = None
        self._step = 0
        self._reported = time.monotonic()

    def start(self, settings: dict[str, Any], step: int) -> None:
        """Record the settings and drop what an interrupted training logged after `step`."""
        text = json.dumps(settings, indent=2)
        write_atomically(self.path / "settings.json", f"{text}\n".encode())
        log = self.path / "log.jsonl"
        kept = [entry for entry in read_log(log) if step and entry["step"] <= step]
        write_atomically(log, b"".join(line(entry.pop("step"), entry) for entry in kept))
        self._log = AppendedFile(log, self._say)
        self._events = Events(self.path / "events", step, self._say)
        self._events.text(step, "settings", "".join(f"    {row}\n" for row in text.splitlines()))
        self._step = step

    def write(self, step: int, entry: dict[str, Any]) -> None:
        """Add a line to the log, and its numbers to TensorBoard."""
        assert self._log is not None
        assert self._events is not None
        self._step = step
        self._log.write(line(step, entry))
        self._events.numbers(step, entry)

    def picture(self, step: int, image: np.ndarray, name: str = "validation") -> None:
        """Show a picture, uint8 (height, width, 3), in TensorBoard."""
        assert self._events is not None
        self._events.picture(step, image, name)

    def draw(self, step: int, views: dict[str, list[Views]], orientation: str) -> None:
        """Draw pictures into ``pictures/NAME-STEP.png``, show them in TensorBoard, and keep what can be looked into.

        `orientation` says where the axes x, y, z of the volumes point. Without matplotlib, or with a full disk, it is
        told why there are none.
        """
        for name, rows in views.items():
            try:
                self.picture(step, validation_picture(rows, self.pictures / f"{name}-{step:07d}.png"), name)
            except ImportError as error:
                self._say(f"no pictures: {error.name} is not installed; pip install 'layered-tumors[train]'")
            except CheckpointError as error:
                self._say(str(error))
            try:
                write_scenes(self.path / "scenes", name, step, rows, orientation)
            except (CheckpointError, OSError) as error:
                self._say(str(error))

    def report(self, *, now: bool) -> None:
        """Write ``report.html`` as far as the training has come: `now`, or if the last is a while ago."""
        if not now and time.monotonic() - self._reported < REPORT_SECONDS:
            return
        from train.run.report import leave_report

        self._reported = time.monotonic()
        leave_report(self.path, self._say)

    def end(self, step: int, signal: int = 0) -> None:
        """Note in the log that the training ended of itself, or that `signal` stopped it at `step`.

        An exception that leaves the ``with`` block is noted without this.
        """
        entry = {"ended": "signal", "reason": signals.Signals(signal).name} if signal else {"ended": "finished"}
        self.write(step, entry)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> None:
        if self._log is not None:
            if value is not None:
                self._log.write(line(self._step, _ending(value)))
            self._log.close()
        if self._events is not None:
            self._events.close()
        self._lock.close()


def _once(say: Say) -> Say:
    """Return a `say` that tells each sentence once: what is missing, say, at the first validation and not at each."""
    told: set[str] = set()

    def new(line: str) -> None:
        if line not in told:
            told.add(line)
            say(line)

    return new


def _ending(error: BaseException) -> dict[str, str]:
    if isinstance(error, KeyboardInterrupt):
        return {"ended": "signal", "reason": "SIGINT"}
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return {"ended": "error", "reason": text}


LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
