"""The plot of a table: curves over fractions (Fig. 1) for Table III, else a dot a row beside the paper's."""

import io
import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scans.durable import write_atomically
from train.tables.gather import THRESHOLD_ROW, Gathered
from train.tables.plan import METRICS, Column, label

OURS, PAPER, THRESHOLD = "#1f6fb4", "#e08214", "#6c6c6c"  # distinct for colour-blind readers
_LINES = ("#1f6fb4", "#e08214", "#1b9e77", "#c23b8b", "#7a5fb5", "#8c6d31", "#444444")


def draw(gathered: Gathered, path: Path) -> None:
    """Draw a table into a PNG, written whole or not at all."""
    figure = _curves(gathered) if gathered.table.curves else _dots(gathered)
    figure.suptitle(f"Table {gathered.table.number}: {gathered.table.title}", fontsize=11)
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", dpi=130)
    write_atomically(path, content.getvalue())


def _curves(gathered: Gathered) -> Figure:
    """Draw a panel a task: Dice over the fraction of annotations, ours solid, the paper's dashed."""
    tasks = list(dict.fromkeys(column.task for column in gathered.table.columns))
    figure = Figure(figsize=(5.4 * len(tasks), 4.4), layout="constrained")
    for number, task in enumerate(tasks):
        axes = figure.add_subplot(1, len(tasks), number + 1)
        columns = [column for column in gathered.table.columns if column.task == task]
        for row, colour in zip(gathered.table.rows, _LINES, strict=False):
            cells = [gathered.cells[row.name, column] for column in columns]
            fractions = [column.share for column in columns]
            ours = [100 * cell.ours.mean for cell in cells]
            paper = [math.nan if cell.paper is None else cell.paper for cell in cells]
            axes.plot(fractions, paper, "--", color=colour, linewidth=1, marker=".", markersize=4, alpha=0.7)
            axes.plot(fractions, ours, color=colour, linewidth=1.8, marker="o", markersize=4, label=row.name)
        threshold = gathered.shown(THRESHOLD_ROW, columns[0]).ours.mean
        if not math.isnan(threshold):
            axes.axhline(100 * threshold, color=THRESHOLD, linewidth=1, linestyle=":", label=THRESHOLD_ROW)
        axes.set_title(task, fontsize=10)
        axes.set_xlabel("fraction of the annotations")
        axes.set_ylabel(METRICS["dice"])
        axes.set_ylim(0, 100)
        if all(math.isnan(gathered.cells[row.name, c].ours.mean) for row in gathered.table.rows for c in columns):
            axes.text(0.5, 0.93, "not run here", transform=axes.transAxes, ha="center", color=THRESHOLD)
    axes.plot([], [], "--", color=THRESHOLD, linewidth=1, marker=".", label="dashed: the paper")
    figure.axes[0].legend(*axes.get_legend_handles_labels(), fontsize=7.5, loc="lower right")
    return figure


def _dots(gathered: Gathered) -> Figure:
    """Draw a panel a column: a row's mean with its deviation, hollow the paper's, dotted the threshold row."""
    columns = gathered.table.columns
    wide = min(len(columns), 4)
    high = math.ceil(len(columns) / wide)
    rows = gathered.table.rows
    figure = Figure(figsize=(3.2 * wide + 2.0, (0.32 * len(rows) + 1.5) * high + 0.4), layout="constrained")
    for number, column in enumerate(columns):
        axes = figure.add_subplot(high, wide, number + 1)
        _dots_of(axes, gathered, column)
        axes.set_yticks(range(len(rows)), [row.name for row in rows] if number % wide == 0 else [""] * len(rows))
        axes.tick_params(labelsize=8)
    marks = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(list(marks.values()), list(marks), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _dots_of(axes: Axes, gathered: Gathered, column: Column) -> None:
    factor = 100.0 if column.percent else 1.0
    rows = gathered.table.rows
    for place, row in enumerate(rows):
        cell = gathered.cells[row.name, column]
        missing = math.isnan(cell.ours.mean)
        spread = 0.0 if math.isnan(cell.ours.over_runs) else factor * cell.ours.over_runs
        if not missing:
            axes.errorbar(factor * cell.ours.mean, place, xerr=spread or None, color=OURS, fmt="none", linewidth=1.2)
        if cell.paper is not None:
            axes.plot(cell.paper, place, "o", markerfacecolor="none", color=PAPER, markersize=6)
        if missing:
            axes.text(
                0.98,
                place,
                "not run",
                transform=axes.get_yaxis_transform(),
                va="center",
                ha="right",
                fontsize=7,
                color=THRESHOLD,
            )
        else:
            axes.plot(factor * cell.ours.mean, place, "o", color=OURS, markersize=5)
    axes.plot([], [], "o", color=OURS, markersize=5, label="ours")
    axes.plot([], [], "o", markerfacecolor="none", color=PAPER, markersize=6, label="paper")
    threshold = gathered.shown(THRESHOLD_ROW, column).ours.mean
    level = math.nan if math.isnan(threshold) else factor * threshold
    axes.axvline(level, color=THRESHOLD, linewidth=1, linestyle=":", label=THRESHOLD_ROW)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if column.metric == "dice":
        axes.set_xlim(0, 100)
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.set_title(f"{column.task}{f' {column.part}' if column.part else ''}: {label(column)}", fontsize=9)
