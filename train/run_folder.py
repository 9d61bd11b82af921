"""A run folder: what a training leaves on disk.

``settings.json``, ``log.jsonl`` (one line every few steps and at each validation), ``events/`` (TensorBoard),
``pictures/validation-STEP.png``, ``last.safetensors`` and ``best.safetensors``.
"""

import fcntl
import json
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from scans.errors import CheckpointError
from train.checkpoint import LAST, PREVIOUS, write_atomically


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
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.best = path / "best.safetensors"
        self.pictures = path / "pictures"
        try:
            self.pictures.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] = open(path / ".lock", "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be used as a run folder ({error.strerror})") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise CheckpointError(f"{path}: another training is writing here; choose another --out") from error
        try:
            check_run_folder(path, resume)
        except CheckpointError:
            self._lock.close()
            raise
        self._events: SummaryWriter | None = None
        self._log: IO[str] | None = None

    def start(self, settings: dict[str, Any], step: int) -> None:
        """Record the settings and drop what an interrupted training logged after `step`."""
        write_atomically(self.path / "settings.json", (json.dumps(settings, indent=2) + "\n").encode())
        log = self.path / "log.jsonl"
        kept = [line for line in _whole_lines(log) if step and json.loads(line)["step"] <= step]
        write_atomically(log, "".join(f"{line}\n" for line in kept).encode())
        self._log = open(log, "a", encoding="utf-8")  # noqa: SIM115
        self._events = SummaryWriter(str(self.path / "events"), purge_step=step + 1)

    def write(self, step: int, entry: dict[str, Any]) -> None:
        """Add a line to the log, and its numbers to TensorBoard."""
        assert self._log is not None
        assert self._events is not None
        self._log.write(json.dumps({"step": step, **entry}) + "\n")
        self._log.flush()
        for name, value in entry.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, step)

    def picture(self, step: int, image: np.ndarray) -> None:
        """Show a picture, uint8 (height, width, 3), in TensorBoard."""
        assert self._events is not None
        self._events.add_image("validation", image, step, dataformats="HWC")

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()
        if self._log is not None:
            self._log.close()
        self._lock.close()


def _whole_lines(path: Path) -> list[str]:
    """Lines of a log that are whole JSON; a killed training may leave half a line."""
    if not path.exists():
        return []
    whole = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            json.loads(line)
        except ValueError:
            continue
        whole.append(line)
    return whole
