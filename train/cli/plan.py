"""Commands that say what is to be trained on: ``folds``."""

from pathlib import Path
from typing import Annotated

import typer

from scans.catalog.shipped import DEFAULT_CATALOG
from scans.terminal import CatalogOption, out
from train.cli.application import app, say


@app.command()
def folds(
    task: Annotated[str, typer.Option(help="A task of the catalog, or a dataset.")],
    out_file: Annotated[Path, typer.Option("--out", help="The file to write, e.g. folds/WTS.json.")],
    catalog: CatalogOption = DEFAULT_CATALOG,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds (0).")] = 0,
) -> None:
    """Part the patients of a task into folds, and write them to a file for every training on it.

    Example: `train folds --task WTS --out folds/WTS.json`. The same cases and seed give the same file on any machine.
    """
    from train.cases.folds import write_folds
    from train.cases.tasks import task_folds

    drawn = task_folds(catalog, task, seed=seed, say=say)
    write_folds(drawn, out_file)
    for number, fold in enumerate(drawn.folds):
        say(f"fold {number}: {len(fold.training)} patients to train on, {len(fold.test)} for the test")
    say(f"{len(drawn.cases)} cases of {drawn.dataset}: {out_file}")
    out.print(f"next: train finetune --task {task} --folds {out_file} --fold 0 --init scratch --out runs/tuned")
