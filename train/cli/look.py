"""Commands that look at what a training left: ``report``."""

from pathlib import Path
from typing import Annotated

import typer

from scans.terminal import out
from train.cli.application import app


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder: the --out of a training.", metavar="RUN")],
) -> None:
    """Make report.html of a run: curves, pictures, data, settings. The training may still be running.

    Example: `train report runs/first`. The page is one file, to open in a browser or to send.
    """
    from train.run_report import write_run_report

    out.print(f"report: {write_run_report(run)}", markup=False)
