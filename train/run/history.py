"""A run as its folder tells it: settings, what was logged, what the checkpoints record, and how it stands."""

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scans.durable import in_use
from scans.errors import CheckpointError
from train.network.checkpoint import load_record
from train.network.losses import MEANINGS
from train.network.record import Record
from train.run.log import read_log

Entry = dict[str, Any]
VALIDATION = "validation_"
_NOT_TERMS = {"step", "learning_rate", "seconds_per_step"}


@dataclass(frozen=True)
class State:
    """How a run stands: ``running``, ``finished``, ``stopped``, ``failed`` or ``unfinished``, and why."""

    kind: str
    step: int
    reason: str = ""


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes
    ----------
    folder : Path
    settings : dict
        As in ``settings.json``.
    entries : list of dict
        The log.
    last, best : Record or None
        What the checkpoints record; None where there is none yet.
    problems : list of str
        Sentences about files that cannot be read.
    held : bool
        Whether a training has the folder open now, as far as this machine can see.
    """

    folder: Path
    settings: dict[str, Any]
    entries: list[Entry]
    last: Record | None
    best: Record | None
    problems: list[str]
    held: bool

    @property
    def record(self) -> Record | None:
        """Whichever record there is; what is asked of it is the same in both."""
        return self.last or self.best

    @property
    def steps(self) -> int:
        """Steps the training is to take in all."""
        return int(self.settings.get("schedule", {}).get("steps", 0))

    @property
    def batch(self) -> int:
        """Samples a step."""
        return int(self.settings.get("schedule", {}).get("batch", 1))

    @cached_property
    def trained(self) -> list[Entry]:
        """Entries with a training loss."""
        return [entry for entry in self.entries if "total" in entry]

    @cached_property
    def validated(self) -> list[Entry]:
        """Scores of each validation with its step, without the ``validation_`` before each name."""
        scored: dict[int, Entry] = {}
        for entry in self.entries:
            found = {n.removeprefix(VALIDATION): v for n, v in entry.items() if n.startswith((VALIDATION, "real_dice"))}
            if found:
                scored.setdefault(entry["step"], {"step": entry["step"]}).update(found)
        return [scored[step] for step in sorted(scored)]

    @cached_property
    def chosen(self) -> Entry | None:
        """Step and scores of the network to use: that in ``best.safetensors``, else the best, or last, of the log."""
        if self.best is not None and self.best.validation:
            return {"step": self.best.step, **self.best.validation}
        if self.uses_last:
            return self.validated[-1] if self.validated else None
        scored = [entry for entry in self.validated if is_number(entry.get("score"))]
        return max(scored, key=lambda entry: (entry["score"], -(number(steering_loss(entry)) or 0.0)), default=None)

    @property
    def uses_last(self) -> bool:
        """Whether the network to use is the last one, whatever its score."""
        schedule = self.settings.get("schedule")
        return isinstance(schedule, dict) and schedule.get("chosen") == "last"

    @property
    def state(self) -> State:
        """How the run stands: what it said when it ended, else what its lock and its steps say."""
        step = max((entry["step"] for entry in self.entries), default=0)
        told = [entry for entry in self.entries if "ended" in entry or "started_on" in entry]
        if told and "ended" in told[-1]:
            kinds = {"finished": "finished", "signal": "stopped", "error": "failed"}
            return State(kinds.get(str(told[-1]["ended"]), "stopped"), step, str(told[-1].get("reason", "")))
        if self.held:
            return State("running", step)
        return State("finished" if 0 < self.steps <= step else "unfinished", step)

    def terms(self) -> list[str]:
        """Names of the loss terms, those of the training first, without the total."""
        seen = dict.fromkeys(name for entry in self.trained[-1:] + self.trained[:1] for name in entry)
        known = {*MEANINGS, *(name for entry in self.validated[-1:] for name in entry)}
        return [name for name in seen if name in known - _NOT_TERMS - {"total"}]

    def others(self) -> list[str]:
        """Names of further numbers that the training logs."""
        seen = dict.fromkeys(name for entry in self.trained[-1:] for name, value in entry.items() if is_number(value))
        return [name for name in seen if name not in _NOT_TERMS | {"total"} | set(self.terms())]

    def real_cases(self) -> list[str]:
        """Names of the real cases scored in validations."""
        seen = dict.fromkeys(name for entry in self.validated for name in entry)
        return [name.removeprefix("real_dice.") for name in seen if name.startswith("real_dice.")]

    def pictures(self) -> dict[str, list[tuple[int, Path]]]:
        """Pictures by kind, each with its step, in the order of steps."""
        kinds: dict[str, list[tuple[int, Path]]] = {}
        for path in (self.folder / "pictures").glob("*.png"):
            if match := re.fullmatch(r"([a-z]+)-(\d+)\.png", path.name):
                kinds.setdefault(match[1], []).append((int(match[2]), path))
        return {kind: sorted(kinds[kind]) for kind in sorted(kinds)}


def read_run(folder: Path) -> Run:
    """Read a run folder, of a training that runs, has ended or was killed.

    Raises
    ------
    CheckpointError
        If `folder` is no run folder.
    """
    try:
        settings = json.loads((folder / "settings.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{folder}: no run folder (no settings.json); give the --out of a training") from error
    except ValueError as error:
        raise CheckpointError(
            f"{folder / 'settings.json'}: is damaged; --resume the training to write it anew"
        ) from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{folder / 'settings.json'}: holds no settings; --resume the training to write it anew")
    problems: list[str] = []
    records: list[Record | None] = []
    for name in ("last", "best"):
        path = folder / f"{name}.safetensors"
        try:
            records.append(load_record(path) if path.exists() else None)
        except CheckpointError as error:
            problems.append(str(error))
            records.append(None)
    return Run(folder, settings, read_log(folder / "log.jsonl"), records[0], records[1], problems, in_use(folder))


def steering_loss(scores: Entry) -> Any:
    """Return the loss of a validation that steers: that on another generator's tumours, where there are such."""
    return scores.get("shifted_loss", scores.get("loss"))


def is_number(value: Any) -> bool:
    """Whether a logged value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any) -> float | None:
    """Return a logged value as a finite number, or None."""
    return float(value) if is_number(value) else None
