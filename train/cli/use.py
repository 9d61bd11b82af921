"""Commands that use a trained network: ``segment``, ``evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TimeRemainingColumn
from rich.table import Table

from scans.catalog.shipped import DEFAULT_CATALOG
from scans.errors import printable
from scans.progress import Bars
from scans.terminal import (
    BrainMasksOption,
    BrainMaskWithOption,
    CatalogOption,
    DerivativesOption,
    SuffixOption,
    err,
    out,
)
from train.cli.application import (
    DeviceOption,
    PrecisionOption,
    RevisionOption,
    ShippedOption,
    app,
    named,
    ready_for_many_scans,
    tell,
)
from train.settings import SettingsError

if TYPE_CHECKING:
    from train.evaluation.metrics import Scores
    from train.evaluation.result import CaseResult, Evaluation
    from train.segmentation.segment import Segmented


ReadOption = Annotated[
    str | None,
    typer.Option(
        help="How a mask is made of what the network found, in place of what its training chose: mask, residual "
        "(the distance of the scan from its predicted normal) or both; plain: the mask at 0.5, nothing cleaned up."
    ),
]
LevelOption = Annotated[
    str | None,
    typer.Option(
        help="Least share, between 0 and 1, that counts as tumour; scan: each scan's own (Otsu); else as recorded."
    ),
]
CleanOption = Annotated[
    str | None,
    typer.Option(
        help="large: keep connected parts of at least a quarter of the largest; largest: that one alone; none: all."
    ),
]
LeastOption = Annotated[float | None, typer.Option(help="Leave out connected parts smaller than this, in ml.")]


@app.command()
def segment(
    scans: Annotated[
        list[str] | None,
        typer.Argument(
            help="Scans (.nii.gz, .nii, .nrrd, .mha, .mhd, or a folder with a DICOM series), the modalities of one "
            "scan joined by commas in the network's order; or folders of scans, searched with all folders in "
            "them; labels, masks and earlier results are told from scans and counted.",
            metavar="SCAN...",
        ),
    ] = None,
    checkpoint: ShippedOption = None,
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for the masks and summary.csv; `masks`, of --bids derivatives/layered-tumors in it."
        ),
    ] = None,
    bids: Annotated[
        Path | None,
        typer.Option(help="Instead of scans: a BIDS dataset; --out becomes one of its derivatives (docs/bids.md)."),
    ] = None,
    suffix: SuffixOption = None,
    derivatives: DerivativesOption = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            help="How scans are named in a folder, e.g. {case}_flair.nii.gz or {case}/t1.nii.gz; "
            "one for each modality, in the network's order."
        ),
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            help="Region-of-interest mask on the scan's grid: one for each scan, in their order; or one pattern "
            "from the scan's folder on, e.g. {case}_brain.nii.gz, where {case} is the scan's name without suffix."
        ),
    ] = None,
    brain_mask_with: BrainMaskWithOption = None,
    brain_masks: BrainMasksOption = None,
    window: Annotated[
        str | None,
        typer.Option(
            help="Slide the network's cube over the region of interest, half overlapping, with Gaussian weights. "
            "native: in the scan's own voxels; tumours then look larger or smaller to the network than in its "
            "training, by the ratio of the two spacings. trained: in the training's voxels; reaches all of an organ "
            "that is larger than the cube."
        ),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Average over the eight mirrorings of the scan; takes eight times as long.")
    ] = False,
    read: ReadOption = None,
    level: LevelOption = None,
    clean: CleanOption = None,
    least_ml: LeastOption = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Also write NAME_probability: the share, 0 to 1, that the mask was cut from; one a class.",
        ),
    ] = False,
    normal: Annotated[
        bool,
        typer.Option(
            "--normal",
            help="Also write NAME_normal: the scan as the network believes it was without the tumour, in the scan's "
            "intensities; outside the region of interest the scan itself.",
        ),
    ] = False,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="nii.gz, nii, nrrd or mha; dicom-seg: of a DICOM series, a segmentation on its slices, for archives.",
        ),
    ] = "nii.gz",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results in --out that something else made.")
    ] = False,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    revision: RevisionOption = None,
) -> None:
    """Segment scans; each mask comes in its scan's own grid and affine, as OUT/NAME_mask.nii.gz.

    Example: `train segment --checkpoint runs/first/best.safetensors a.nii.gz b.nrrd --out masks`.
    Without --checkpoint the network that comes with the software is used: skull-stripped FLAIR of brains.
    A network on a hub: `train segment --checkpoint hf://org/name --revision v1 a.nii.gz`; it is fetched once.
    A folder, two modalities: `train segment --checkpoint runs/first/best.safetensors scans --out masks
    --pattern '{case}_flair.nii.gz' --pattern '{case}_t1.nii.gz' --roi '{case}_brain.nii.gz'`.
    A BIDS dataset: `train segment --bids study --out study/derivatives/layered-tumors`.

    A network of several classes writes one label map, with the labels that it was fine-tuned on.
    OUT/summary.csv has a row for each scan. The same command goes on where it stopped; masks that were made by
    another network or with other options are not touched without --overwrite.
    Exits with 1 if a scan could not be segmented.
    """
    ready_for_many_scans()
    from train.inference.named_network import checkpoint_or_shipped

    if not scans and bids is None:
        raise SettingsError("name scans or folders of scans, or give --bids DATASET")
    if bids is None and (suffix or derivatives):
        raise SettingsError("--suffix and --derivatives belong to --bids; give that as well, or --pattern instead")
    out_folder = out_folder or (Path("masks") if bids is None else bids / "derivatives" / "layered-tumors")
    network = checkpoint_or_shipped(checkpoint, revision, tell)
    tell(f"loading the network from {network}")  # the imports alone take seconds
    from scans.catalog.mask_command import checked_command
    from train.segmentation.outputs import Options
    from train.segmentation.segment import segment as run
    from train.settings import validated

    values = {
        **{"window": window, "flips": flips, "read": read, "level": level, "clean": clean, "least_ml": least_ml},
        **{"probabilities": probabilities, "normal": normal, "format": format_},
        **{"brain_mask_with": checked_command(brain_mask_with), "brain_masks": brain_masks or Path("brain_masks")},
    }
    # A file gets its lines, whatever the terminal shows.
    bar = Bars(TimeRemainingColumn(), moves=err.is_terminal, redirect_stdout=out.is_terminal, transient=True)
    task = bar.add_task("scans", total=None)

    def told(result: "Segmented") -> None:
        bar.advance(task)
        if result.problem:
            err.print(f"failed: {result.problem}", style="red")
            return
        kept = " (was there)" if result.kept else ""
        out.print(f"{result.scan}: {result.volume_ml:.1f} ml -> {printable(result.mask)}{kept}")
        if result.note:
            err.print(f"note: {result.scan}: {result.note}", style="yellow")

    with bar:
        results = run(
            network,
            scans or (),
            out_folder,
            patterns=pattern or (),
            rois=roi or (),
            bids=bids,
            suffixes=suffix or (),
            pipelines=derivatives or (),
            options=validated(Options, values, "train segment"),
            overwrite=overwrite,
            device=device or "auto",
            precision=precision or "auto",
            say=tell,
            progress=lambda count: bar.update(task, total=count),
            told=told,
        )
    failed = sum(bool(result.problem) for result in results)
    if failed:
        err.print(f"{failed} of {len(results)} scans could not be segmented", style="red")
        raise typer.Exit(1)
    out.print(f"summary: {out_folder / 'summary.csv'}")
    out.print("next: look at a mask over its scan in your viewer; with annotations, train evaluate")


@app.command()
def evaluate(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for scores, masks and the report.")],
    checkpoint: ShippedOption = None,
    task: Annotated[str | None, typer.Option(help="A task of the catalog: WTS, LTS, BTS.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="In place of a task: a dataset, scored on what its labels mark.")
    ] = None,
    catalog: CatalogOption = DEFAULT_CATALOG,
    all_cases: Annotated[
        bool, typer.Option(help="Score also the annotated cases that the network was trained on.")
    ] = False,
    read: ReadOption = None,
    level: LevelOption = None,
    clean: CleanOption = None,
    least_ml: LeastOption = None,
    brain_mask_with: BrainMaskWithOption = None,
    brain_masks: BrainMasksOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    revision: RevisionOption = None,
) -> None:
    """Score a network on annotated scans beside the threshold row, and write a report with pictures.

    Example: `train evaluate --checkpoint runs/first/best.safetensors --task WTS --out out`.
    A network of several classes is scored on each of them; the threshold row on the whole tumour alone.
    Exits with 1 if a case could not be scored.
    """
    ready_for_many_scans()
    from train.evaluation.evaluate import evaluate as run
    from train.inference.named_network import checkpoint_or_shipped
    from train.inference.reading import Asked
    from train.settings import validated

    network = checkpoint_or_shipped(checkpoint, revision, tell)
    asked = {"read": read, "level": level, "clean": clean, "least_ml": least_ml}

    def told(result: "CaseResult") -> None:
        if result.problem:
            err.print(f"failed: {result.name}: {result.problem}", style="red")

    evaluation = run(
        network,
        catalog,
        named(task, dataset),
        out_folder,
        all_cases=all_cases,
        device=device or "auto",
        precision=precision or "auto",
        asked=validated(Asked, asked, "train evaluate"),
        brain_mask_with=brain_mask_with,
        brain_masks=brain_masks,
        told=told,
    )
    out.print(f"a mask is: {evaluation.model.reading.words()}")
    out.print(_dice_table(evaluation))
    lesions = [f"{row}: {all_sizes.said()}" for row, (all_sizes, *_) in evaluation.lesions.items()]
    for sentence in (evaluation.verdict(), *lesions, *evaluation.tumour_free()):
        out.print(sentence)
    out.print(f"report: {out_folder / 'report.html'}")
    if evaluation.failed:
        err.print(f"{len(evaluation.failed)} of {len(evaluation.cases)} cases could not be scored", style="red")
        raise typer.Exit(1)


def _dice_table(evaluation: "Evaluation") -> Table:
    numbers = [("Dice", "dice", 3), ("HD95", "hd95_mm", 1)][: 1 if evaluation.several else 2]
    rows = list(evaluation.rows())
    heads = [f"{heading} {row}" for heading, *_ in numbers for row in rows]
    table = Table("case", *heads, title="Dice per case")
    for case in evaluation.scored:
        scores = evaluation.rows_of(case)
        cells = [_cell(scores[row], metric, digits) for _, metric, digits in numbers for row in rows]
        table.add_row(case.name, *cells)
    return table


def _cell(scores: "Scores", metric: str, digits: int) -> str:
    """Return a score, or where there is no tumour to find what is falsely found."""
    from train.evaluation.metrics import ml

    if scores.tumour_free:
        return f"none: {ml(scores.false_ml)} ml false" if metric == "dice" else ""
    return f"{getattr(scores, metric):.{digits}f}"
