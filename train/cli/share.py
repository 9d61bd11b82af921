"""The command by which labs share networks: ``export``."""

from pathlib import Path
from typing import Annotated

import typer

from scans.terminal import err, out
from train.architectures.plans import CONFIGURATION
from train.cli.application import CheckpointOption, ConfigurationOption, PlansOption, app


@app.command()
def export(
    checkpoint: CheckpointOption,
    out_folder: Annotated[Path, typer.Option("--out", help="The folder to make, e.g. shared.")],
    name: Annotated[str, typer.Option(help="Name of the files; that of the region if not given.")] = "",
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="A folder made by train evaluate, for the card; repeat for several.")
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also as ONNX, compared with torch: takes scans in the network's units.")
    ] = False,
    onnx_raw: Annotated[
        bool, typer.Option("--onnx-raw", help="Also as ONNX that takes raw intensities and an ROI, and normalises.")
    ] = False,
    nnunet: Annotated[
        bool, typer.Option("--nnunet", help="Also for nnUNetv2_train -pretrained_weights, and what its plan must say.")
    ] = False,
    plans: PlansOption = None,
    configuration: ConfigurationOption = CONFIGURATION,
    licence: Annotated[
        str, typer.Option(help="What the weights are given under, as an SPDX identifier, e.g. CC-BY-4.0.")
    ] = "",
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Number scans and cases instead of naming them.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier export left there.")] = False,
) -> None:
    """Put a network into a folder to hand on: weights with their settings in one file, a model card, checksums.

    Example: `train export --checkpoint runs/first/best.safetensors --out shared --evaluation out --onnx`. The card
    says what it was trained on and under which terms, and how well it did; nothing of this machine travels. Terms that
    may forbid to pass the weights on are named here and on top of the card.
    """
    from train.share.export import export as run

    exported = run(
        checkpoint,
        out_folder,
        name=name,
        evaluations=evaluation or (),
        onnx=onnx,
        onnx_raw=onnx_raw,
        nnunet=nnunet,
        plans=plans,
        configuration=configuration,
        licence=licence,
        anonymous=anonymous,
        force=force,
    )
    for file, difference in exported.differences.items():
        out.print(f"{file}: differs from torch by {difference:.1g} at most")
    for sentence in exported.notes:
        out.print(f"for nnU-Net: {sentence}")
    already = "" if exported.new else " (was there already)"
    out.print(f"{exported.folder}: {', '.join(exported.files)}{already}")
    for sentence in exported.unclear:
        err.print(f"before you pass it on: {sentence} See the top of README.md.", style="yellow")
    if exported.named:
        err.print(
            f"its record names {exported.named} scans and cases; --anonymous numbers them instead", style="yellow"
        )
    following = f"train segment --checkpoint {exported.weights} scan.nii.gz --out masks"
    out.print(f"next: read {exported.folder / 'README.md'}; {following}")
