"""The log of a run, ``log.jsonl``: one JSON object a line, with the step and what was measured there."""

import contextlib
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

Say = Callable[[str], None]


def warn(line: str) -> None:
    """Tell a sentence where nobody gave a better way to."""
    warnings.warn(line, stacklevel=3)


class AppendedFile:
    """A file that grows; what cannot be written now is kept and written later.

    A disk that is full for an hour must not end a training of days for the sake of its curves: it is told of once,
    and every later write tries again, from the very byte where the last one stopped.

    Parameters
    ----------
    path : Path
        Made, with its folder, at the first write.
    say : callable
        Told of trouble, once.
    """

    def __init__(self, path: Path, say: Say = warn) -> None:
        self.path = path
        self._say = say
        self._told = False
        self._file: IO[bytes] | None = None
        self._waiting = b""

    def write(self, content: bytes) -> None:
        """Append `content`, after whatever is still waiting."""
        self._waiting += content
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if not self._told:
                self._told = True
                self._tell(f"{self.path}: cannot be written ({error.strerror}); the training goes on and tries again")

    def close(self) -> None:
        """Try a last time; what is lost is told."""
        if self._waiting:
            self.write(b"")
        if self._waiting:
            self._tell(f"{self.path}: the last {len(self._waiting)} bytes are lost, it could not be written")
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def _tell(self, line: str) -> None:
        # What is printed may go to the same full disk.
        with contextlib.suppress(OSError):
            self._say(line)


def line(step: int, entry: dict[str, Any]) -> bytes:
    """Return a line of the log, strict JSON: a number that is not finite becomes null."""
    strict = {name: _strict(value) for name, value in entry.items()}
    return (json.dumps({"step": step, **strict}) + "\n").encode()


def _strict(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a log; a killed training may leave half a line.

    Returns
    -------
    list of dict
        Each with an integer ``step``; empty where there is no log.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    entries = []
    for text in content.split(b"\n"):
        try:
            entry = json.loads(text)
        except ValueError:
            continue
        if isinstance(entry, dict) and type(entry.get("step")) is int:
            entries.append(entry)
    return entries
