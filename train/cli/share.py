"""Commands by which labs share networks: ``export``, ``push``."""

from pathlib import Path
from typing import Annotated

import typer

from scans.terminal import BranchOption, PrivateOption, PushMessageOption, err, out
from train.architectures.plans import CONFIGURATION
from train.cli.application import CheckpointOption, ConfigurationOption, PlansOption, RevisionOption, app, tell

NameOption = Annotated[str, typer.Option(help="Name of the files; that of the region if not given.")]
EvaluationOption = Annotated[
    list[Path] | None, typer.Option(help="A folder made by train evaluate, for the card; repeat for several.")
]
LicenceOption = Annotated[
    str, typer.Option(help="What the weights are given under, as an SPDX identifier, e.g. CC-BY-4.0.")
]
AnonymousOption = Annotated[bool, typer.Option("--anonymous", help="Number scans and cases instead of naming them.")]


@app.command()
def export(
    checkpoint: CheckpointOption,
    out_folder: Annotated[Path, typer.Option("--out", help="The folder to make, e.g. shared.")],
    name: NameOption = "",
    evaluation: EvaluationOption = None,
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
    licence: LicenceOption = "",
    anonymous: AnonymousOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier export left there.")] = False,
    revision: RevisionOption = None,
) -> None:
    """Put a network into a folder to hand on: weights with their settings in one file, a model card, checksums.

    Example: `train export --checkpoint runs/first/best.safetensors --out shared --evaluation out --onnx`. The card
    says what it was trained on and under which terms, and how well it did; nothing of this machine travels. Terms that
    may forbid to pass the weights on are named here and on top of the card.
    """
    from train.inference.named_network import checkpoint_at
    from train.share.export import export as run

    exported = run(
        checkpoint_at(checkpoint, revision, tell),
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
    onto = f"train push {exported.folder} hf://org/name"
    out.print(f"next: read {exported.folder / 'README.md'}; {following}; {onto}")


@app.command()
def push(
    what: Annotated[
        str, typer.Argument(help="A checkpoint, or a folder made by train export.", metavar="CHECKPOINT|FOLDER")
    ],
    url: Annotated[str, typer.Argument(help="Where to: hf://org/name.", metavar="URL")],
    name: NameOption = "",
    evaluation: EvaluationOption = None,
    licence: LicenceOption = "",
    anonymous: AnonymousOption = False,
    terms_read: Annotated[
        bool,
        typer.Option(
            "--terms-read", help="You have read the terms that may forbid to pass the weights on: they do not."
        ),
    ] = False,
    private: PrivateOption = False,
    revision: BranchOption = None,
    message: PushMessageOption = "",
) -> None:
    """Send a network to a hub, as train export makes it: weights, model card, checksums.

    Example: `train push runs/first/best.safetensors hf://org/name --licence CC-BY-4.0 --evaluation out`. Log in before,
    with `hf auth login` or HF_TOKEN. Where terms of its data may forbid it, it is pushed with --private or --terms-read
    alone. Stopped or killed, the same command goes on; it ends by comparing every file on the hub with the one here.
    """
    from train.share.push import push as run

    pushed = run(
        what,
        url,
        name=name,
        evaluations=evaluation or (),
        licence=licence,
        anonymous=anonymous,
        terms_read=terms_read,
        private=private,
        revision=revision,
        message=message,
        warn=lambda sentence: err.print(sentence, style="yellow"),
    )
    there = pushed.files - pushed.sent
    out.print(f"{pushed.address}: {pushed.files} files, all as here ({there} were there already)")
    out.print(f"next: read its page; train segment --checkpoint {pushed.address} scan.nii.gz --out masks")
