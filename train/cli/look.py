"""Commands that look at what a training left: ``report``, ``replay``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from scans.terminal import out
from train.cli.application import DeviceOption, app


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder: the --out of a training.", metavar="RUN")],
) -> None:
    """Make report.html of a run: curves, pictures, data, settings. The training may still be running.

    Example: `train report runs/first`. The page is one file, to open in a browser or to send.
    """
    from train.run.report import write_run_report

    out.print(f"report: {write_run_report(run)}")


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(help="Run folder of a training that ended with a loss that is not finite.")],
    device: DeviceOption = None,
) -> None:
    """Do the step again that ended a training, and say where its numbers went.

    Example: `train replay runs/first`. Prints the recipe of each sample of the batch, each loss term in the
    training's precision and in fp32, and the first layer whose output is not finite.
    """
    from train.stages.replay import replay as run_again

    for found in run_again(run, device or "auto"):
        out.print(f"step {found.step}, process {found.rank}")
        for sample in found.samples:
            out.print(", ".join(f"{name} {value}" for name, value in sample.items()))
        names = list(found.attempts[0].terms)
        table = Table("precision", *names, "first layer not finite", "gradients not finite", title="the step again")
        for attempt in found.attempts:
            terms = [f"{attempt.terms[name]:.4g}" for name in names]
            table.add_row(attempt.precision, *terms, attempt.layer or "none", str(len(attempt.gradients)))
        out.print(table)
        out.print(found.verdict())
