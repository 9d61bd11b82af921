"""The command that marks scans nobody annotated: ``pseudo-label``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scans.catalog.shipped import DEFAULT_CATALOG
from scans.terminal import CatalogOption, err, out
from train.cli.application import (
    DatasetOption,
    DeviceOption,
    PrecisionOption,
    RevisionOption,
    ShippedOption,
    app,
    ready_for_many_scans,
    tell,
)

if TYPE_CHECKING:
    from scans.formats.pseudo_labels import PseudoLabel


@app.command("pseudo-label")
def pseudo_label(
    dataset: DatasetOption,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the masks and pseudo_labels.csv.")],
    checkpoint: ShippedOption = None,
    catalog: CatalogOption = DEFAULT_CATALOG,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a bound of what counts as confident, e.g. agreement=0.9 or of_organ=[0.01,0.2]; the others "
            "are probability and largest. Give several times.",
        ),
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="A case that is not looked at, e.g. one to score on; give several times.")
    ] = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    revision: RevisionOption = None,
) -> None:
    """Segment the scans of a dataset, and say which masks can be trusted enough to lend their tumours.

    Example: `train pseudo-label --checkpoint runs/first/best.safetensors --dataset BraTS2018 --out pseudo`, then
    `synth prepare --dataset OASIS --tumours BraTS2018 --pseudo-labels pseudo --out sources.zarr`.
    Labels are not opened, if there are any. Stopped or killed, the same command goes on; with another --set it judges
    the masks that are there. Exits with 1 if a scan could not be segmented; that is no reason not to go on.
    """
    ready_for_many_scans()
    from train.inference.named_network import checkpoint_or_shipped

    network = checkpoint_or_shipped(checkpoint, revision, tell)
    tell(f"loading the network from {network}")  # the imports alone take seconds
    from scans.catalog.synthesis import override
    from scans.progress import Bars
    from train.inference.confidence import Rule
    from train.segmentation.pseudo_labels import pseudo_label as run

    bars = Bars(moves=err.is_terminal)
    task = bars.add_task("scans", total=None)

    def told(row: "PseudoLabel", kept: bool) -> None:
        bars.advance(task)
        there = " (was there)" if kept else ""
        if row.confident:
            out.print(f"{row.case}: {row.volume_ml:.1f} ml, confident{there}")
        else:
            err.print(f"left out {row.case}: {row.why_not}{there}", style="yellow")

    with bars:
        rows = run(
            network,
            catalog,
            dataset,
            out_folder,
            rule=override(Rule(), rule or []),
            leave_out=leave_out or (),
            device=device or "auto",
            precision=precision or "auto",
            say=tell,
            progress=lambda count: bars.update(task, total=count),
            told=told,
        )
    confident = sum(row.confident for row in rows)
    out.print(f"{out_folder}: {confident} of {len(rows)} masks are confident, see pseudo_labels.csv")
    if confident:
        out.print(
            f"next: synth prepare --dataset NORMALS --tumours {dataset} --pseudo-labels {out_folder} "
            "--out sources.zarr",
        )
    if any(not row.mask for row in rows):
        raise typer.Exit(1)
