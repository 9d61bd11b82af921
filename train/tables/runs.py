"""Make what is missing: each step by the function behind its command, a corpus by ``synth`` itself.

A step is done when its folder holds ``made.json``, written last, with the hash of what decided it. A folder without one
is gone on with: trainings from their last checkpoint, a corpus from its last shard.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scans.durable import write_text
from scans.errors import StoreError, UserError
from scans.image.cases import source_name
from scans.writing import make_folder
from train.settings import Adapt, Finetune, Pretrain, SettingsError, recorded
from train.tables.steps import Step

MADE = "made.json"
FOLDS = "folds.json"
_BEST = "best.safetensors"


class Observer(Protocol):
    """Is told of progress."""

    def begun(self, step: Step) -> None:
        """Note that a step is begun."""

    def ended(self, step: Step, seconds: float, problem: str) -> None:
        """Note that a step is made, or why it is not."""

    def trained(self, step: int, shown: Any) -> None:
        """Hear of a training step, as ``train.stages.loop`` reports it."""


class StoppedError(Exception):
    """A training was told by a signal to stop, and has saved."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@dataclass
class Runs:
    """The steps under one folder.

    Attributes
    ----------
    out : Path
    catalog : Path
    watch : Observer
    workers : int or None
        Processes of ``synth``; 0: none besides, None: one a core.
    device : str
    problems : dict of str to str
        Why a step could not be made, by its key.
    said : list of str
        What the steps told of cases left out, once each.
    """

    out: Path
    catalog: Path
    watch: Observer
    workers: int | None = None
    device: str = "auto"
    problems: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def folder(self, step: Step) -> Path:
        """Return where a step lies."""
        return self.out / step.folder

    def made(self, step: Step) -> bool:
        """Whether a step is done, with just these settings."""
        try:
            return bool(json.loads((self.folder(step) / MADE).read_text(encoding="utf-8"))["key"] == step.key)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def missing(self, steps: Iterable[Step]) -> list[Step]:
        """Return what is still to be made for some steps, in order, each once."""
        wanted: dict[str, Step] = {}
        for step in steps:
            if not self.made(step):
                wanted |= {each.key: each for each in step.chain() if not self.made(each)}
        return list(wanted.values())

    def make(self, steps: Iterable[Step]) -> None:
        """Make some steps, those they need first; a step that fails is told of and the rest goes on.

        Raises
        ------
        StoppedError
        """
        for step in self.missing(steps):
            before = next((self.problems[each.key] for each in step.after if each.key in self.problems), None)
            if before is not None:
                self.problems[step.key] = before
                continue
            if self.made(step):
                continue
            self.watch.begun(step)
            began = time.monotonic()
            try:
                self._make(step, began)
            except UserError as error:
                self.problems[step.key] = str(error)
            self.watch.ended(step, time.monotonic() - began, self.problems.get(step.key, ""))

    def _make(self, step: Step, began: float) -> None:
        folder = self.folder(step)
        make_folder(folder, SettingsError)
        if signal := _MAKERS[step.kind](self, step, folder):
            raise StoppedError(signal)
        receipt = {
            "key": step.key,
            "kind": step.kind,
            "settings": step.settings,
            "after": [str(each.folder) for each in step.after],
            "seconds": round(time.monotonic() - began, 1),
        }
        write_text(folder / MADE, json.dumps(receipt, indent=1) + "\n")

    def say(self, sentence: str) -> None:
        """Keep what a step told of a case that it could not use."""
        if sentence.startswith("left out") and sentence not in self.said:
            self.said.append(sentence)

    def checkpoint(self, step: Step) -> Path:
        """Return the checkpoint of a training step that its validation chose."""
        return self.folder(step) / _BEST

    def corpus(self, step: Step) -> Path:
        """Return the corpus that a training step, or one before it, was made from."""
        found = next(each for each in step.chain() if each.kind == "corpus")
        return self.folder(found) / "corpus.zarr"

    def scheduled(self, settings: Any) -> Any:
        """Return settings of a training for this machine's device."""
        schedule = settings.schedule.model_copy(update={"device": self.device})
        return settings.model_copy(update={"schedule": schedule})


def _sources(runs: Runs, step: Step, folder: Path) -> None:
    datasets = [word for name in step.settings["normals"] for word in ("--dataset", name)]
    datasets += [word for name in step.settings.get("tumours", ()) for word in ("--tumours", name)]
    size = str(step.settings["size"])
    # Exit code 1: some scans were left out, the rest is prepared.
    output = _synth(
        runs, folder, (0, 1), "prepare", "--catalog", str(runs.catalog), *datasets, "--size", size,
        "--out", str(folder / "sources.zarr"),
    )  # fmt: skip
    for line in output.splitlines():
        runs.say(line)


def _corpus(runs: Runs, step: Step, folder: Path) -> None:
    sources = runs.folder(step.after[0]) / "sources.zarr"
    overridden = [word for assignment in step.settings["set"] for word in ("--set", assignment)]
    if "tumours_of_fold" in step.settings:
        lending = _lending(runs.folder(step.after[1]) / FOLDS, step.settings["tumours_of_fold"], sources)
        overridden += ["--set", f"donor.tumours={json.dumps(lending)}"]
    _synth(
        runs, folder, (0,), "generate", "--sources", str(sources), "--out", str(folder / "corpus.zarr"),
        "-n", str(step.settings["samples"]), "--seed", str(step.settings["seed"]), "--generator", "layers", *overridden,
    )  # fmt: skip


def _lending(folds_file: Path, fold: int, sources: Path) -> list[str]:
    """Return the sources whose tumours are those of a fold's training cases, as far as they could be prepared."""
    from train.cases.folds import read_folds

    folds = read_folds(folds_file)
    parts = folds.parts(fold)
    names = [source_name(folds.dataset, case) for case in (*parts.training, *parts.validation)]
    there = [name for name in names if (sources / name).is_dir()]
    if not there:
        raise StoreError(f"none of the {len(names)} training cases of fold {fold} has a tumour that can be cut")
    return sorted(there)


def _synth(runs: Runs, folder: Path, good: tuple[int, ...], *words: str) -> str:
    """Run a command of ``synth`` in a process of its own, as this half imports none of its code."""
    workers = () if runs.workers is None else ("--workers", str(runs.workers))
    command = [sys.executable, "-m", "synth.cli", *words, *workers]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False
    )
    write_text(folder / "synth.log", done.stdout)
    if done.returncode not in good:
        lines = done.stdout.strip().splitlines() or ["no output"]
        told = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[-1])
        raise StoreError(f"synth {words[0]} failed: {told}")
    return done.stdout


def _folds(runs: Runs, step: Step, folder: Path) -> None:
    from train.cases.folds import write_folds
    from train.cases.tasks import task_folds

    write_folds(task_folds(runs.catalog, step.settings["task"], say=runs.say), folder / FOLDS)


def _pretrain(runs: Runs, step: Step, folder: Path) -> int:
    from train.stages.pretrain import pretrain

    settings = runs.scheduled(recorded(Pretrain, step.settings, str(folder)))
    # Without the catalog: real cases are not even looked at.
    return pretrain(
        runs.corpus(step), folder, settings, patch="auto", resume=True, report=runs.watch.trained, say=runs.say
    ).signal


def _adapt(runs: Runs, step: Step, folder: Path) -> int:
    from train.stages.adapt import adapt

    settings = runs.scheduled(recorded(Adapt, step.settings["settings"], str(folder)))
    return adapt(
        runs.checkpoint(step.after[0]), runs.corpus(step), runs.catalog, step.settings["dataset"], folder, settings,
        resume=True, report=runs.watch.trained, say=runs.say,
    ).signal  # fmt: skip


def _finetune(runs: Runs, step: Step, folder: Path) -> int:
    from train.stages.finetune import finetune

    settings = runs.scheduled(recorded(Finetune, step.settings["settings"], str(folder)))
    folds, *before = step.after
    start = runs.checkpoint(before[0]) if before else None
    return finetune(
        start, runs.catalog, step.settings["task"], folder, settings,
        size=step.settings["size"], folds_file=runs.folder(folds) / FOLDS, resume=True,
        report=runs.watch.trained, say=runs.say,
    ).signal  # fmt: skip


def _scores(runs: Runs, step: Step, folder: Path) -> None:
    from train.evaluation.evaluate import evaluate
    from train.inference.reading import Asked
    from train.tables.error_mask import evaluate_by_error

    checkpoint, dataset = runs.checkpoint(step.after[0]), step.settings["dataset"]
    if "mask_from" in step.settings:
        corpus = runs.corpus(step)
        evaluate_by_error(checkpoint, corpus, step.settings["mask_from"], runs.catalog, dataset, folder, runs.device)
    else:
        asked = Asked() if "read" in step.settings else Asked(read="plain")  # as the paper's numbers are
        evaluate(checkpoint, runs.catalog, dataset, folder, device=runs.device, asked=asked)


_MAKERS: dict[str, Callable[[Runs, Step, Path], int | None]] = {  # of a training, the signal that stopped it
    "sources": _sources,
    "corpus": _corpus,
    "folds": _folds,
    "pretrain": _pretrain,
    "adapt": _adapt,
    "finetune": _finetune,
    "scores": _scores,
}
