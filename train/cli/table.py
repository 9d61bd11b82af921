"""The command that makes the paper's tables: ``table``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import TaskID
from rich.table import Table as Shown

from scans.catalog.shipped import DEFAULT_CATALOG
from scans.durations import duration
from scans.progress import Bars
from scans.terminal import CatalogOption, err, out
from train.cli.application import DeviceOption, app

if TYPE_CHECKING:
    from train.tables.gather import Gathered
    from train.tables.steps import Step


_SHOWN = 3  # columns up to which the paper's numbers stand beside ours in the terminal


@app.command()
def table(
    number: Annotated[str, typer.Argument(help="I, II, III, IV, V or VI.", metavar="TABLE")],
    scale: Annotated[
        str, typer.Option(help="tiny (minutes, proves that it runs), small, or full (the paper's).")
    ] = "full",
    catalog: CatalogOption = DEFAULT_CATALOG,
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder of all tables; what several need is made there once.")
    ] = Path("tables"),
    preset: Annotated[
        str | None,
        typer.Option(help="Of every row: paper (default), robust or none; but for paper, masks are read as chosen."),
    ] = None,
    size: Annotated[int | None, typer.Option(help="Voxels along each side of a cube; else the scale's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of pretraining; else the scale's.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds of what is repeated over seeds (full 3, else 1).")] = None,
    device: DeviceOption = None,
) -> None:
    """Make a table of the paper: run what is missing, then write numbers beside the paper's, with a plot.

    Example: `train table V --scale tiny --catalog catalogs/dev.yaml --out tables/tiny`. Stopped or killed, the
    same command goes on where it was. OUT/V.md says what was run on what, what was not and why, and what was chosen
    where. Exits with 1 if something that was to run failed.
    """
    from train.tables.make import chosen, make_table
    from train.tables.runs import StoppedError

    wanted, large = chosen(number, scale, preset, size, steps)
    with Watching() as watch:
        try:
            made = make_table(
                wanted, large, catalog, out_folder, watch, seeds=seeds, device=device or "auto", planned=watch.planned
            )
        except StoppedError as stopped:
            err.print("stopped and saved; the same command goes on")
            raise typer.Exit(128 + stopped.number) from None
    out.print(_shown(made.gathered))
    for kind, path in made.files.items():
        out.print(f"{kind}: {path}")
    if made.failed:
        err.print(f"{len(made.failed)} reasons for failed runs, see above; the same command tries again", style="red")
        raise typer.Exit(1)


class Watching(Bars):
    """Shows how far a table is, and the training of the moment; a file gets a line a step of the table."""

    def __init__(self) -> None:
        super().__init__(moves=err.is_terminal)
        self._all: TaskID = self.add_task("table", total=None)
        self._one: TaskID = self.add_task("", total=None, visible=False)
        self._count, self._done = 0, 0

    def planned(self, steps: "list[Step]") -> None:
        """Hear what is to be made."""
        self._count = len(steps)
        self.update(self._all, total=self._count)
        counts = {kind: sum(step.kind == kind for step in steps) for kind in dict.fromkeys(s.kind for s in steps)}
        words = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        out.print(f"to be made: {words or 'nothing, all is there'}")

    def begun(self, step: "Step") -> None:
        """Show the step that is begun."""
        settings = step.settings.get("settings", step.settings)
        steps = settings["schedule"]["steps"] if "schedule" in settings else None
        self.reset(self._one, total=steps, description=f"{step.kind} {step.name}", visible=True)

    def trained(self, step: int, shown: Any) -> None:
        """Show a training's step."""
        self.update(self._one, completed=step)

    def ended(self, step: "Step", seconds: float, problem: str) -> None:
        """Count a step, and say how it ended."""
        self._done += 1
        self.update(self._all, completed=self._done)
        self.update(self._one, visible=False)
        where = f"{self._done} of {self._count}: {step.kind} {step.name}"
        if problem:
            err.print(f"failed: {where}: {problem}", style="red")
        else:
            out.print(f"{where}, {duration(seconds)}")


def _shown(gathered: "Gathered") -> Shown:
    """Return Dice where there is any, beside the paper's where that fits into a terminal."""
    from train.tables.plan import label
    from train.tables.write import number

    columns = [column for column in gathered.table.columns if column.metric == "dice"]
    names = gathered.row_names()
    columns = [c for c in columns if any(gathered.shown(name, c).ours.runs for name in names)] or columns
    few = len(columns) <= _SHOWN
    shown = Shown("", *(f"{c.task}{f' {c.part}' if c.part else ''} {label(c)}" for c in columns), box=None)
    shown.title = f"Table {gathered.table.number}: {gathered.table.title}{' (ours / the paper)' * few}"
    for name in names:
        cells = [gathered.shown(name, column) for column in columns]
        paper = [f" / {cell.paper:.2f}" if few and cell.paper is not None else "" for cell in cells]
        ours = [number(cell.ours, column) or "–" for cell, column in zip(cells, columns, strict=True)]
        shown.add_row(name, *(mine + theirs for mine, theirs in zip(ours, paper, strict=True)))
    return shown
