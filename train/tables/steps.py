"""How a cell of a table becomes steps: sources, corpus, trainings, scores.

A step is known by everything that decides its result, the steps before it included. So two rows, or two tables, that
need the same corpus or network share it, and what was made with other settings is never taken for it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scans.catalog.region import REFERENCE_SIZE
from train.presets import settings_of
from train.settings import Adapt, Finetune, Pretrain, validated
from train.tables.plan import Column, Row, Scale, TableTask
from train.tables.targets import Target

Kind = Literal["sources", "corpus", "folds", "pretrain", "adapt", "finetune", "scores"]
CORPUS_SEED = 1


@dataclass(frozen=True)
class Step:
    """One thing to make, in a folder of its own.

    Attributes
    ----------
    kind : str
    name : str
        For people.
    settings : mapping
        Plain JSON values: all that decides the result beside what was made before.
    after : tuple of Step
        What it is made from.
    """

    kind: Kind
    name: str
    settings: Mapping[str, Any]
    after: "tuple[Step, ...]" = ()

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the result, as hexadecimal digits."""
        decides = [self.kind, self.settings, [step.key for step in self.after]]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """Where it lies under the folder of the tables."""
        return Path(self.kind) / f"{self.name}-{self.key[:10]}"

    def chain(self) -> "Iterator[Step]":
        """Yield what must be made, in order, itself last; a step that several need may come more than once."""
        for step in self.after:
            yield from step.chain()
        yield self


def reason_not_to_run(row: Row, column: Column, task: TableTask, target: Target) -> str:
    """Return in a sentence why a cell has no number by plan; empty if it is to be run."""
    if row.missing:
        return row.missing
    if target.problem:
        return target.problem
    if row.finetuned and column.share == 0 and row.proxy != "layers":
        return "a network that was shown no mask, neither artificial nor real, finds none"
    return ""


def scores_of(row: Row, column: Column, task: TableTask, target: Target, scale: Scale, seeds: int) -> dict[str, Step]:
    """Return the scores that a cell is the mean of, by the name of their fold or seed.

    Raises
    ------
    SettingsError
        If a network of this row cannot be described in this release's settings.
    """
    zero_shot = not row.finetuned or column.share == 0
    repeated = "folds" if row.real else "seeds" if zero_shot else task.repeated
    numbers = range(seeds) if repeated == "seeds" else scale.folds
    return {
        f"{repeated.removesuffix('s')} {number}": _scores(row, column, task, target, scale, repeated, number, zero_shot)
        for number in numbers
    }


def _scores(
    row: Row, column: Column, task: TableTask, target: Target, scale: Scale, repeated: str, number: int, zero_shot: bool
) -> Step:
    seed = number if repeated == "seeds" else 0
    corpus = _corpus(row, task, target, scale, number)
    network = None if row.proxy is None else _pretrained(row, task, scale, seed, corpus)
    if row.adapted and network is not None:
        network = _adapted(row, task, target, scale, seed, network, corpus)
    if not zero_shot:
        network = _finetuned(row, column, task, target, scale, seed, number if repeated == "folds" else 0, network)
    assert network is not None  # a row that is neither pretrained nor fine-tuned has a reason not to run
    settings = {"dataset": target.dataset, "cases": target.cases}
    if row.mask_from != "mask":
        return Step("scores", network.name, {**settings, "mask_from": row.mask_from}, (network, corpus))
    if row.preset != "paper":
        settings["read"] = "chosen"
    return Step("scores", network.name, settings, (network,))


def _cube(target: Target, scale: Scale) -> int:
    """Return the voxels a side that scans are prepared with: more where networks are shown patches of them."""
    cube = (target.region.get("patches") or {}).get("cube", REFERENCE_SIZE)
    return scale.size if cube == REFERENCE_SIZE else max(8, round(scale.size * cube / REFERENCE_SIZE / 8) * 8)


def _corpus(row: Row, task: TableTask, target: Target, scale: Scale, fold: int) -> Step:
    size = _cube(target, scale)
    name = f"{task.region}-{size}"
    prepared = {"region": target.region, "normals": target.normals, "size": size}
    drawn = {"samples": scale.samples, "seed": CORPUS_SEED, "set": list(row.synthesis)}
    if row.real:
        sources = Step("sources", f"{name}-real", {**prepared, "tumours": {target.dataset: target.cases}})
        return Step("corpus", f"{name}-real-fold{fold}", {**drawn, "tumours_of_fold": fold}, (sources, _folds(target)))
    sources = Step("sources", name, prepared)
    off = "".join(f"-no-{setting.partition('.')[0]}" for setting in row.synthesis)
    return Step("corpus", f"{name}{off}", drawn, (sources,))


def _pretrained(row: Row, task: TableTask, scale: Scale, seed: int, corpus: Step) -> Step:
    values: dict[str, Any] = {
        "network": {"width": scale.width, "mask_bias": scale.mask_bias},
        "schedule": _schedule(scale.pretrain_steps, scale, seed),
        "validation_samples": scale.validation_samples,
    }
    if row.proxy == "layers":
        on = {name: float(name in row.losses) for name in ("l0", "l1", "l2", "l3")}
        values["loss"] = {**on, "cross_entropy": scale.cross_entropy if "l2" in row.losses else 0.0}
        name: str = "".join(row.losses) + corpus.name.removeprefix(f"{task.region}-{corpus.after[0].settings['size']}")
    else:
        values["proxy"] = name = row.proxy or ""
    settings = settings_of(Pretrain, row.preset, values, f"{row.name}: train pretrain").model_dump(mode="json")
    return Step("pretrain", f"{task.region}-{name}-seed{seed}", settings, (corpus,))


def _adapted(row: Row, task: TableTask, target: Target, scale: Scale, seed: int, network: Step, corpus: Step) -> Step:
    values = {
        "loss": network.settings["loss"],
        "schedule": _schedule(scale.adapt_steps, scale, seed),
        "validation_samples": scale.validation_samples,
    }
    settings = settings_of(Adapt, row.preset, values, f"{row.name}: train adapt").model_dump(mode="json")
    where = {"dataset": target.dataset, "cases": target.cases}
    return Step("adapt", f"{network.name}-adapted", {**where, "settings": settings}, (network, corpus))


def _finetuned(
    row: Row, column: Column, task: TableTask, target: Target, scale: Scale, seed: int, fold: int, network: Step | None
) -> Step:
    values: dict[str, Any] = {
        "schedule": {
            **Finetune().schedule.model_dump(),
            **_schedule(scale.finetune_steps, scale, seed),
            "learning_rate": scale.finetune_rate,
        },
        "fold": fold,
        "fraction": column.share,
    }
    if network is None:
        values["network"] = {"width": scale.width}
    if row.augment is not None:
        values["augment"] = row.augment
    settings = validated(Finetune, values, f"{row.name}: train finetune").model_dump(mode="json")
    where = {"task": target.finetuned_as, "size": _cube(target, scale)}
    folds = _folds(target)
    begun = f"{task.name}-scratch" if network is None else network.name
    augmented = "" if row.augment is None else f"-augment-{row.augment}"
    name = f"{begun}{augmented}-fraction{column.share:g}-fold{fold}"
    return Step("finetune", name, {**where, "settings": settings}, (folds,) if network is None else (folds, network))


def _folds(target: Target) -> Step:
    return Step("folds", target.finetuned_as, {"cases": target.cases, "task": target.finetuned_as})


def _schedule(steps: int, scale: Scale, seed: int) -> dict[str, Any]:
    return {"steps": steps, "checkpoint_every": min(scale.checkpoint_every, steps), "seed": seed}
