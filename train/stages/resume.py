"""Going on: the last good checkpoint of a run, and whether a training may continue from it.

There are two, the last and the one before it, so that a file which a machine damaged costs minutes, not the training.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from scans.catalog.settings import flat
from scans.durable import sync
from scans.errors import CheckpointError
from train.network.checkpoint import Checkpoint, save_checkpoint
from train.network.record import Record, plain
from train.proxies.recorded import load_checkpoint
from train.run.folder import LAST, PREVIOUS


def save_last(folder: Path, record: Record, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write ``last.safetensors`` of a run; the one before becomes ``previous.safetensors``.

    Raises
    ------
    CheckpointError
        If it cannot be written; what was there is still there.
    """
    incoming, last = folder / "incoming.safetensors", folder / LAST
    save_checkpoint(incoming, record, network, optimiser)
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
    if saved.record.data != record.data:
        raise CheckpointError(f"{path}: was trained on other data; choose another --out")
    before, now = _compared(saved.record.settings), _compared(record.settings)
    # Two processes with 2 samples each see what one with 4 would.
    before["schedule.batch"] = saved.record.progress.get("samples_per_step", before["schedule.batch"])
    now["schedule.batch"] = together
    for name in sorted(set(before) | set(now)):
        if before.get(name) != now.get(name):
            raise CheckpointError(
                f"{path}: was trained with {name} = {before.get(name)}, not {now.get(name)}; "
                "give the same settings, or choose another --out"
            )


def _corpus(described: Any) -> str:
    """Name the validation corpus that a record describes."""
    if not isinstance(described, dict):
        return "held-out samples of its corpus"
    return f"{described.get('samples')} samples of corpus {str(described.get('corpus'))[:12]}"


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    """Flatten settings, without those that may change between two parts of one training."""
    names = ("steps", "device", "precision", "compile", "loader_threads", "log_every")
    free = {f"schedule.{name}" for name in names}
    kept = {name: value for name, value in flat(settings).items() if name not in free}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def plateau_state(plateau: ReduceLROnPlateau) -> dict[str, Any]:
    """Return a plateau rule's state as JSON values."""
    state = plateau.state_dict()
    return {
        "plateau_best": plain(state["best"]),
        "plateau_waited": int(state["num_bad_epochs"]),
        "plateau_seen": int(state["last_epoch"]),
    }


def restore_plateau(plateau: ReduceLROnPlateau, progress: dict[str, Any]) -> None:
    """Put back what `plateau_state` returned."""
    best = progress["plateau_best"]
    plateau.load_state_dict(
        {
            "best": math.inf if best is None else best,
            "num_bad_epochs": progress["plateau_waited"],
            "last_epoch": progress["plateau_seen"],
        }
    )
