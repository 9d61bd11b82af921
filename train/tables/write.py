"""Write a table: Markdown for people, CSV for programs, every case's scores beside them."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scans.csv_text import csv_text
from scans.durable import write_atomically
from scans.markdown import Markdown, plain, table
from train.evaluation.scores_file import csv_number
from train.tables.gather import THRESHOLD_ROW, Cell, Gathered, MeanOverRuns
from train.tables.plan import TASKS, Column, label

CHOSEN = (
    "Checkpoint: by validation, never by a case that is scored. Zero-shot networks: by Dice on artificial tumours in "
    "normals held out of training (by the loss there, where no loss trains the mask). Fine-tuned ones: by the steering "
    "cases, every fifth of the training part; with too few to spare any, the training cases themselves.",
    "Mask: by preset paper a probability of at least 0.5, fixed, nothing cleaned up; by the others as was chosen on "
    "artificial tumours in held-out normals, see docs/presets.md; where no loss trains a mask, a level with the best "
    "Dice on training composites.",
    "Threshold row: smoothing, level and side by Dice on training composites of the corpus; no real tumour was seen.",
    "Settings: those of the scale for every row alike; none is looked for when a table is made. The cross-entropy and "
    "the initial mask bias of scales below full were once compared on the development gliomas, see docs/defaults.md.",
    "Numbers: mean over folds or seeds of the mean over cases, ± the sample standard deviation over folds or seeds "
    "(none of a single one). The CSV has more: deviations over cases, 95 % bootstrap intervals of the mean over cases, "
    "and the paired difference from the row that others are compared with, with p of Wilcoxon's signed-rank test.",
)


def write_table(gathered: Gathered, folder: Path) -> dict[str, Path]:
    """Write ``N.md``, ``N.csv``, ``N-cases.csv`` and ``N.png`` of table N; ``N-robust.md`` by another preset.

    Returns
    -------
    dict of str to Path
        By kind: ``markdown``, ``csv``, ``cases``, ``plot``.
    """
    from train.tables.chart import draw

    name = gathered.table.stem
    files = {
        "markdown": folder / f"{name}.md",
        "csv": folder / f"{name}.csv",
        "cases": folder / f"{name}-cases.csv",
        "plot": folder / f"{name}.png",
    }
    draw(gathered, files["plot"])
    write_atomically(files["csv"], numbers_csv(gathered).encode())
    write_atomically(files["cases"], cases_csv(gathered).encode())
    write_atomically(files["markdown"], markdown(gathered, files["plot"].name).encode())
    return files


def markdown(gathered: Gathered, picture: str) -> str:
    """Return the table as Markdown: ours beside the paper's, and what to know about them."""
    parts = [f"# Table {gathered.table.number}: {gathered.table.title}", f"![the numbers drawn]({picture})"]
    for task in dict.fromkeys(column.task for column in gathered.table.columns):
        columns = [column for column in gathered.table.columns if column.task == task]
        for part in dict.fromkeys(column.part for column in columns):
            chosen = [column for column in columns if column.part == part]
            title = f"{task}{f' {part}' if part else ''}: {TASKS[task].title}"
            parts += [f"## {title}", _table(gathered, chosen)]
    reasons = _reasons(gathered)
    if reasons:
        parts += ["## Not run, or not all", _list(reasons)]
    parts += ["## What was chosen where", _list(CHOSEN), "## Notes", _list([*gathered.notes, *gathered.table.notes])]
    return "\n\n".join(parts) + "\n"


def _table(gathered: Gathered, columns: list[Column]) -> Markdown:
    heads = [""]
    for column in columns:
        heads += [label(column), "paper"]
    own = len(columns) == 1 and _thresholds_differ(gathered, columns[0])
    if own:
        heads.append("threshold row of its corpus")
    rows = []
    for name in gathered.row_names():
        cells = [gathered.shown(name, column) for column in columns]
        line: list[object] = [name]
        for column, cell in zip(columns, cells, strict=True):
            line += [number(cell.ours, column), _paper(cell)]
        if own:
            line.append("" if name == THRESHOLD_ROW else number(cells[0].threshold, columns[0]))
        rows.append(line)
    return table(heads, rows)


def _thresholds_differ(gathered: Gathered, column: Column) -> bool:
    means = {gathered.cells[row.name, column].threshold.mean for row in gathered.table.rows}
    return len({mean for mean in means if not math.isnan(mean)}) > 1


def number(found: MeanOverRuns, column: Column) -> str:
    """Return mean ± deviation over runs as it is shown; empty if there is none."""
    if math.isnan(found.mean):
        return ""
    factor = 100.0 if column.percent else 1.0
    mean = f"{factor * found.mean:.2f}"
    return mean if math.isnan(found.over_runs) else f"{mean} ± {factor * found.over_runs:.2f}"


def _paper(cell: Cell) -> str:
    if cell.paper is None:
        return ""
    return f"{cell.paper:.2f}" + ("" if cell.paper_over_runs is None else f" ± {cell.paper_over_runs:.2f}")


def _reasons(gathered: Gathered) -> list[str]:
    """Say why numbers are missing: rows that lack the same columns for the same reason together."""
    by_row: dict[tuple[str, str], list[Column]] = {}
    for (row, column), cell in gathered.cells.items():
        if cell.reason:
            by_row.setdefault((row, cell.reason), []).append(column)
    found: dict[tuple[str, str], list[str]] = {}
    for (row, reason), columns in by_row.items():
        found.setdefault((_where(columns, gathered.table.columns), reason), []).append(row)
    everyone = len(gathered.table.rows)
    return [
        f"{'all rows' if len(rows) == everyone else '; '.join(rows)}{where}: {reason}."
        for (where, reason), rows in found.items()
    ]


def _where(some: list[Column], columns: tuple[Column, ...]) -> str:
    if len(some) == len(columns):
        return ""
    words = []
    for task in dict.fromkeys(column.task for column in some):
        mine = [column for column in some if column.task == task]
        all_of_task = len(mine) == sum(column.task == task for column in columns)
        which = ", ".join(f"{c.part} {label(c)}".strip() if c.fraction is None else f"{c.fraction:g}" for c in mine)
        words.append(task if all_of_task else f"{task} {'at ' * (mine[0].fraction is not None)}{which}")
    return f", on {' and '.join(words)}"


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"* {plain(sentence)}" for sentence in sentences)


def numbers_csv(gathered: Gathered) -> str:
    """One line a row and column; ours in the paper's units; an empty cell where there is no number.

    ``low`` and ``high`` are the bootstrap interval; ``minus_reference`` the mean difference from the table's reference
    row over ``pairs`` cases.
    """
    ours = ["mean", "std_over_runs", "std_over_cases", "low", "high", "runs", "cases"]
    against = ["minus_reference", "wilcoxon_p", "pairs"]
    paper = ["paper", "paper_std", "reason"]
    head = ["row", "task", "part", "metric", "unit", "fraction", *ours, "threshold", *against, *paper]
    lines: list[list[Any]] = [head]
    for name in gathered.row_names():
        for column in gathered.table.columns:
            cell = gathered.shown(name, column)
            found, factor = cell.ours, 100.0 if column.percent else 1.0
            means = (found.mean, found.over_runs, found.over_cases, found.low, found.high)
            numbers = [csv_number(factor * each) for each in means]
            pairs = gathered.compared(name, column)
            lines.append([
                name, column.task, column.part, column.metric, "percent" if column.percent else "mm",
                f"{column.share:g}", *numbers, found.runs, found.cases, csv_number(factor * cell.threshold.mean),
                csv_number(factor * pairs.difference), csv_number(pairs.p), pairs.count,
                csv_number(cell.paper), csv_number(cell.paper_over_runs), cell.reason,
            ])  # fmt: skip
    return csv_text(lines)


def cases_csv(gathered: Gathered) -> str:
    """One line a row, column, run and case; scores in [0, 1], or mm."""
    head = ["row", "task", "part", "metric", "fraction", "run", "case", "network", "threshold"]
    lines: list[list[Any]] = [head]
    for (row, column), cell in gathered.cells.items():
        for score in cell.scores:
            where = [row, column.task, column.part, column.metric, f"{column.share:g}"]
            lines.append([*where, score.run, score.case, csv_number(score.network), csv_number(score.threshold)])
    return csv_text(lines)
