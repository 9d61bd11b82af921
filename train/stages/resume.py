"""Going on: the last good checkpoint of a run, and whether a training may continue from it.

There are two, the last and the one before it, so that a file which a machine damaged costs minutes, not the training.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scans.catalog.settings import flat
from scans.durable import sync
from scans.errors import CheckpointError
from train.network.averaging import Average
from train.network.checkpoint import Checkpoint, load_record, save_checkpoint
from train.network.ranks import Ranks
from train.network.record import Record
from train.proxies.recorded import load_checkpoint
from train.run.folder import LAST, PREVIOUS
from train.run.settings_table import MODELS
from train.settings import PresetName, Stage, recorded


def save_last(
    folder: Path,
    record: Record,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Average | None = None,
) -> None:
    """Write ``last.safetensors`` of a run; the one before becomes ``previous.safetensors``.

    Raises
    ------
    CheckpointError
        If it cannot be written; what was there is still there.
    """
    incoming, last = folder / "incoming.safetensors", folder / LAST
    save_checkpoint(incoming, record, network, optimiser, None if average is None else average.network)
    for old, new in ((last, folder / PREVIOUS), (incoming, last)):
        for suffix in (".safetensors", ".json"):
            if old.with_suffix(suffix).exists():
                old.with_suffix(suffix).replace(new.with_suffix(suffix))
    sync(folder)


def load_last(folder: Path, say: Callable[[str], None] = lambda line: None) -> tuple[Path, Checkpoint] | None:
    """Read the last good checkpoint of a run and say so if it is not the very last; None if there never was one.

    Raises
    ------
    CheckpointError
        If there are checkpoints and none can be read.
    """
    there = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    problems = []
    for path in there:
        try:
            saved = load_checkpoint(path)
        except CheckpointError as error:
            problems.append(error)
            continue
        if problems:
            say(f"{problems[0]}; going on from {path.name}, step {saved.record.step}")
        return path, saved
    if problems:
        raise problems[0]
    return None


def check_resumable(path: Path, saved: Checkpoint, record: Record, together: int) -> None:
    """Stop at a checkpoint that was made with other settings or on other data.

    Parameters
    ----------
    path : Path
    saved : Checkpoint
    record : Record
        Of the training that is to go on.
    together : int
        Samples of a step, over all processes.

    Raises
    ------
    CheckpointError
    """
    if saved.record.stage != record.stage:
        raise CheckpointError(f"{path}: is of train {saved.record.stage}, not of train {record.stage}")
    seen, wanted = saved.record.data.get("validation_corpus"), record.data.get("validation_corpus")
    if seen != wanted:
        raise CheckpointError(
            f"{path}: was steered by {_corpus(seen)}, not by {_corpus(wanted)}; give the same --validation-corpus, "
            "or choose another --out"
        )
    # Where the first network came from decides nothing any more: a file may be called otherwise since.
    if _but_origin(saved.record.data) != _but_origin(record.data):
        raise CheckpointError(f"{path}: was trained on other data; choose another --out")
    before, now = (_compared(of.stage, of.settings, path) for of in (saved.record, record))
    # Two processes with 2 samples each see what one with 4 would.
    before["schedule.batch"] = saved.record.progress.get("samples_per_step", before["schedule.batch"])
    now["schedule.batch"] = together
    for name in sorted(set(before) | set(now)):
        if before.get(name) != now.get(name):
            raise CheckpointError(
                f"{path}: was trained with {name} = {before.get(name)}, not {now.get(name)}"
                f"{_WHY.get(name, '')}; give the same settings, or choose another --out"
            )


def check_one_folder(folder: Path, start: int, ranks: Ranks) -> None:
    """Stop all processes if they would not go on from the same step: each would wait for the others without end.

    Parameters
    ----------
    folder : Path
        The run.
    start : int
        Steps that this process's checkpoint has behind it; 0 without one.
    ranks : Ranks

    Raises
    ------
    CheckpointError
    """
    least, most = -ranks.most(-start), ranks.most(start)
    if least != most:
        raise CheckpointError(
            f"{folder}: one machine goes on from step {least} and another from step {most}; --out must be a folder "
            "that all machines see"
        )


_FREE = ("device", "precision", "compile", "loader_threads", "log_every")
_WHY = {"schedule.steps": ", and a cosine rate falls towards its last step"}


def _corpus(described: Any) -> str:
    """Name the validation corpus that a record describes."""
    if not isinstance(described, dict):
        return "held-out samples of its corpus"
    return f"{described.get('samples')} samples of corpus {str(described.get('corpus'))[:12]}"


def _compared(stage: str, settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Flatten settings, those that an older release did not record included, without those that may change."""
    kept = flat(recorded(MODELS[stage], settings, str(path)).model_dump(mode="json"))
    kept.setdefault("network.architecture", "unet")  # of which settings say nothing
    free = {f"schedule.{name}" for name in _FREE} | {"preset"}  # a preset is a name for what the others say
    if kept["schedule.rate_rule"] == "plateau":
        free.add("schedule.steps")
    return {name: value for name, value in kept.items() if name not in free}


def preset_of(folder: Path) -> PresetName | None:
    """Return the preset of the training in a run folder; None where there is none to go on with."""
    for path in (folder / LAST, folder / PREVIOUS):
        if path.exists():
            with contextlib.suppress(CheckpointError):
                record = load_record(path)
                return recorded(Stage, {"preset": record.settings.get("preset", "none")}, str(path)).preset
    return None


def _but_origin(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "began_from"}
