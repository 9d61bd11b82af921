"""Make a table: find its scans, run what is missing, gather, write."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

from scans.durable import only_writer
from scans.errors import UserError
from scans.writing import make_folder
from train.settings import PresetName, SettingsError
from train.tables.gather import Cell, Gathered, gather_cell
from train.tables.plan import SCALES, TABLES, TASKS, Column, Row, Scale, Table
from train.tables.runs import Observer, Runs
from train.tables.steps import Step, reason_not_to_run, scores_of
from train.tables.targets import Target, find_targets
from train.tables.write import write_table


@dataclass(frozen=True)
class Planned:
    """What a cell needs: the scores it is a mean of, by fold or seed, or the reason why there are none."""

    scores: dict[str, Step] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Made:
    """A table that was made.

    Attributes
    ----------
    gathered : Gathered
    files : dict of str to Path
    failed : list of str
        Why steps failed that were to be run.
    """

    gathered: Gathered
    files: dict[str, Path]
    failed: list[str]


def chosen(
    number: str, scale: str, preset: str | None = None, size: int | None = None, steps: int | None = None
) -> tuple[Table, Scale]:
    """Return a table and a scale by name, its rows by another preset, with other voxels or steps where given.

    Raises
    ------
    SettingsError
        If there is none of that name, or a number is none for a network.
    """
    if number.upper() not in TABLES:
        raise SettingsError(f"no table {number}; there are {', '.join(TABLES)}")
    if scale not in SCALES:
        raise SettingsError(f"--scale {scale}: give {', '.join(SCALES)}")
    if preset not in (None, *get_args(PresetName)):
        raise SettingsError(f"--preset {preset}: give {', '.join(get_args(PresetName))}")
    if size is not None and (size < 16 or size % 16):
        raise SettingsError(f"--size {size}: give a multiple of 16")
    if steps is not None and steps < 1:
        raise SettingsError(f"--steps {steps}: give 1 or more")
    table, whole = TABLES[number.upper()], SCALES[scale]
    if preset is not None:
        table = replace(table, rows=tuple(replace(row, preset=cast(PresetName, preset)) for row in table.rows))
    return table, replace(whole, size=size or whole.size, pretrain_steps=steps or whole.pretrain_steps)


def plan_cells(table: Table, scale: Scale, targets: dict[str, Target], seeds: int) -> dict[tuple[str, Column], Planned]:
    """Return what each cell needs, by row and column."""
    return {
        (row.name, column): _planned(row, column, targets, scale, seeds)
        for row in table.rows
        for column in table.columns
    }


def _planned(row: Row, column: Column, targets: dict[str, Target], scale: Scale, seeds: int) -> Planned:
    task, target = TASKS[column.task], targets[column.task]
    reason = reason_not_to_run(row, column, task, target)
    if reason:
        return Planned(reason=reason)
    try:
        return Planned(scores_of(row, column, task, target, scale, seeds))
    except SettingsError as error:
        return Planned(reason=f"this release has no settings for it ({error})")


def make_table(
    table: Table,
    scale: Scale,
    catalog: Path,
    out: Path,
    watch: Observer,
    *,
    seeds: int | None = None,
    device: str = "auto",
    planned: Callable[[list[Step]], None] = lambda steps: None,
) -> Made:
    """Run what a table still lacks, and write it.

    Parameters
    ----------
    table : Table
    scale : Scale
    catalog : Path
    out : Path
        Its folder; sources, corpora and networks lie there too and are shared by all tables.
    watch : Observer
    seeds : int, optional
        Seeds of what is repeated over seeds; else those of the scale.
    device : str
    planned : callable
        Told what is to be made.

    Raises
    ------
    CatalogError
        If the catalog cannot be read, or has no scans here for any task of the table.
    StoreError
        If another table is being made in `out`.
    StoppedError
        If a signal stopped a training.
    """
    if seeds is not None and seeds < 1:
        raise SettingsError(f"--seeds {seeds}: give 1 or more")
    tasks = [TASKS[name] for name in dict.fromkeys(column.task for column in table.columns)]
    targets = find_targets(catalog, tasks)
    cells = plan_cells(table, scale, targets, seeds or scale.seeds)
    make_folder(out, SettingsError)
    runs = Runs(out, catalog, watch, scale.workers, device)
    with only_writer(out):
        wanted = [step for cell in cells.values() for step in cell.scores.values()]
        planned(runs.missing(wanted))
        runs.make(wanted)
        gathered = Gathered(
            table, _gathered(table, cells, runs), _notes(table, scale, targets, seeds or scale.seeds, runs)
        )
        files = write_table(gathered, out)
    return Made(gathered, files, list(dict.fromkeys(runs.problems.values())))


def _gathered(table: Table, cells: dict[tuple[str, Column], Planned], runs: Runs) -> dict[tuple[str, Column], Cell]:
    found = {}
    for row in table.rows:
        for position, column in enumerate(table.columns):
            cell = cells[row.name, column]
            there = {run: runs.folder(step) for run, step in cell.scores.items() if runs.made(step)}
            task = TASKS[column.task]
            try:
                reason = cell.reason or _lacking(list(cell.scores.values()), runs)
                found[row.name, column] = gather_cell(row, column, position, task, there, reason)
            except UserError as error:
                found[row.name, column] = gather_cell(row, column, position, task, {}, str(error))
    return found


def _lacking(scores: list[Step], runs: Runs) -> str:
    problems = [runs.problems[step.key] for step in scores if step.key in runs.problems]
    if not problems:
        return ""
    return f"{len(problems)} of {len(scores)} runs failed: {'; '.join(dict.fromkeys(problems))}"


def _notes(table: Table, scale: Scale, targets: dict[str, Target], seeds: int, runs: Runs) -> list[str]:
    steps = (
        f"{scale.pretrain_steps} of pretraining, {scale.adapt_steps} of adaptation, {scale.finetune_steps} of tuning"
    )
    repeated = f"folds {', '.join(map(str, scale.folds))}, seeds {', '.join(map(str, range(seeds)))}"
    size = (
        f"Scale {scale.name}: cubes of {scale.size}³, corpora of {scale.samples} artificial tumours, "
        f"width {scale.width}; steps: {steps}; {repeated}; weight of the cross-entropy beside L2 "
        f"{scale.cross_entropy:g}, initial mask bias {scale.mask_bias:g}; preset {table.preset}."
    )
    found = [target.note for target in targets.values() if target.note]
    return [scale.said, size, *found, *(f"A scan was {sentence}" for sentence in runs.said)]
