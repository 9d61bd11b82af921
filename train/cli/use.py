"""Commands that use a trained network: ``segment``, ``evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from scans.terminal import err, out
from train.cli.application import (
    DEFAULT_CATALOG,
    CatalogOption,
    CheckpointOption,
    DatasetOption,
    DeviceOption,
    PrecisionOption,
    app,
)

if TYPE_CHECKING:
    from train.evaluate import CaseResult, Evaluation
    from train.segment import Segmented


@app.command()
def segment(
    scans: Annotated[list[Path], typer.Argument(help="Scans, or folders with a DICOM series.", metavar="SCAN...")],
    checkpoint: CheckpointOption,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the masks.")],
    roi: Annotated[
        list[Path] | None, typer.Option(help="Region-of-interest mask; one for each scan, in their order.")
    ] = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
) -> None:
    """Segment scans; each mask comes in its scan's own grid and affine.

    Example: `train segment --checkpoint runs/first/best.safetensors a.nii.gz b.nii.gz --out masks`.
    Exits with 1 if a scan could not be segmented.
    """
    from train.segment import segment as run

    def told(result: "Segmented") -> None:
        if result.problem:
            err.print(f"failed: {result.problem}", style="red", markup=False)
        else:
            out.print(f"{result.scan}: {result.volume_ml:.1f} ml -> {result.mask}", markup=False)

    results = run(
        checkpoint, scans, out_folder, rois=roi or (), device=device or "auto", precision=precision or "auto", told=told
    )
    failed = sum(bool(result.problem) for result in results)
    if failed:
        err.print(f"{failed} of {len(results)} scans could not be segmented", style="red")
        raise typer.Exit(1)
    out.print("next: look at a mask over its scan in your viewer; with annotations, train evaluate")


@app.command()
def evaluate(
    checkpoint: CheckpointOption,
    dataset: DatasetOption,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for scores, masks and the report.")],
    catalog: CatalogOption = DEFAULT_CATALOG,
    all_cases: Annotated[
        bool, typer.Option(help="Score a fine-tuned network also on the cases it was trained on.")
    ] = False,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
) -> None:
    """Score a network on annotated scans beside the threshold row, and write a report with pictures.

    Example: `train evaluate --checkpoint runs/first/best.safetensors --dataset brats2018 --out out`.
    Exits with 1 if a case could not be scored.
    """
    from train.evaluate import evaluate as run

    def told(result: "CaseResult") -> None:
        if result.problem:
            err.print(f"failed: {result.name}: {result.problem}", style="red", markup=False)

    evaluation = run(
        checkpoint,
        catalog,
        dataset,
        out_folder,
        all_cases=all_cases,
        device=device or "auto",
        precision=precision or "auto",
        told=told,
    )
    out.print(_dice_table(evaluation))
    out.print(evaluation.verdict())
    out.print(f"report: {out_folder / 'report.html'}", markup=False)
    if evaluation.failed:
        err.print(f"{len(evaluation.failed)} of {len(evaluation.cases)} cases could not be scored", style="red")
        raise typer.Exit(1)


def _dice_table(evaluation: "Evaluation") -> Table:
    table = Table("case", "Dice network", "Dice threshold", "HD95 network", "HD95 threshold", title="Dice per case")
    for case in evaluation.scored:
        cells = [
            "" if scores is None else f"{getattr(scores, metric):.{digits}f}"
            for metric, digits in (("dice", 3), ("hd95_mm", 1))
            for scores in (case.model, case.threshold)
        ]
        table.add_row(case.name, *cells)
    return table
