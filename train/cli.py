"""The ``train`` command: parses, calls, prints."""

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from scans.terminal import command_line, err, out
from scans.terminal import run as run_app
from train.settings import Adapt, Finetune, Loss, Pretrain, Schedule, parse_weights, validated

if TYPE_CHECKING:
    from train.evaluate import CaseResult, Evaluation
    from train.loop import Outcome
    from train.segment import Segmented

# Torch, SimpleITK and MONAI take seconds to import: each command imports what it needs, --help nothing.

app = command_line(
    "Learn to find tumours from a corpus of artificial ones, and use what was learned.\n\n"
    "The road: `train pretrain` (corpus to network), `train segment` (scans to masks), `train evaluate` "
    "(masks against annotations). `train adapt` and `train finetune` continue a network on real scans."
)

DEFAULT_CATALOG = Path("data_catalog.yaml")
CatalogOption = Annotated[Path, typer.Option("--catalog", help="The catalog of datasets and regions.")]
CheckpointOption = Annotated[Path, typer.Option("--checkpoint", help="A .safetensors file made by train.")]
CorpusOption = Annotated[str, typer.Option("--corpus", help="A corpus made by synth generate: a folder or a URL.")]
CacheOption = Annotated[Path | None, typer.Option(help="Folder that keeps what is read from a URL.")]
RecombineOption = Annotated[
    bool, typer.Option(help="Never the same sample twice: tumours and sources of the corpus in new pairs and places.")
]
DatasetOption = Annotated[str, typer.Option("--dataset", help="A dataset of the catalog.")]
RunOption = Annotated[Path, typer.Option("--out", help="Run folder, e.g. runs/first.")]
StepsOption = Annotated[int | None, typer.Option(help="Steps in all (pretrain 100000, adapt 2000, finetune 5000).")]
BatchOption = Annotated[int | None, typer.Option(help="Scans a step (2).")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of weights and order (0).")]
RateOption = Annotated[float | None, typer.Option(help="Learning rate of Adam (pretrain 1e-3, else 1e-4).")]
EveryOption = Annotated[
    int | None, typer.Option(help="Steps between validations (500); each one draws a picture and saves.")
]
ResumeOption = Annotated[bool, typer.Option(help="Continue from the last checkpoint, if there is one.")]
WeightsOption = Annotated[
    str | None, typer.Option(help="Loss weights, e.g. l3=0,cross_entropy=1; those not named stay.")
]
PrecisionOption = Annotated[str | None, typer.Option(help="auto (default), fp32 or bf16.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto (default), cpu or cuda.")]
WidthOption = Annotated[int | None, typer.Option(help="Channels after the first convolution (32).")]
NormOption = Annotated[str | None, typer.Option(help="batch (default) or instance.")]
SourcesOption = Annotated[list[str] | None, typer.Option(help="Sources kept for validation; repeat for several.")]


def main() -> None:
    """Run the command line."""
    run_app(app, "stopped")


@app.command()
def pretrain(
    corpus: CorpusOption,
    out_folder: RunOption,
    steps: StepsOption = None,
    width: WidthOption = None,
    batch: BatchOption = None,
    seed: SeedOption = None,
    learning_rate: RateOption = None,
    warmup_steps: Annotated[int | None, typer.Option(help="Steps over which the rate rises.")] = None,
    checkpoint_every: EveryOption = None,
    resume: ResumeOption = False,
    loss_weights: WeightsOption = None,
    loss_form: Annotated[str | None, typer.Option(help="emphasised (default) or plain.")] = None,
    norm: NormOption = None,
    mask_bias: Annotated[float | None, typer.Option(help="Initial bias of the mask's logit.")] = None,
    standardise: Annotated[bool, typer.Option(help="Normalise each composite by itself, as a real scan is.")] = False,
    recombine: RecombineOption = False,
    cache: CacheOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    validation_sources: SourcesOption = None,
    validation_samples: Annotated[int | None, typer.Option(help="Most samples validated on (32).")] = None,
) -> None:
    """Train a network on a corpus, from nothing.

    Example: `train pretrain --corpus corpus.zarr --out runs/first --steps 2000 --width 16`.
    Interrupt it with Ctrl-C and continue it with `--resume`.
    """
    from train.pretrain import pretrain as run

    loss = parse_weights(loss_weights, Loss())
    values = _given(
        network=_given(width=width, norm=norm, mask_bias=mask_bias),
        loss={**loss.model_dump(), **_given(form=loss_form)},
        schedule=_schedule(
            Schedule(), steps, batch, seed, learning_rate, checkpoint_every, precision, device, warmup_steps
        ),
        validation_sources=validation_sources,
        validation_samples=validation_samples,
        standardise=standardise,
        recombine=recombine,
    )
    settings = validated(Pretrain, values, "train pretrain")
    with Steps(settings.schedule.steps) as shown:
        outcome = run(corpus, out_folder, settings, cache=cache, resume=resume, report=shown, say=_say)
    _finish(outcome, out_folder, "train evaluate --checkpoint {best} --dataset NAME --out out")


@app.command()
def adapt(
    checkpoint: CheckpointOption,
    corpus: CorpusOption,
    dataset: DatasetOption,
    out_folder: RunOption,
    catalog: CatalogOption = DEFAULT_CATALOG,
    steps: StepsOption = None,
    batch: BatchOption = None,
    real_share: Annotated[float | None, typer.Option(help="Share of real scans in a batch (0.5).")] = None,
    seed: SeedOption = None,
    learning_rate: RateOption = None,
    checkpoint_every: EveryOption = None,
    resume: ResumeOption = False,
    loss_weights: WeightsOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    recombine: RecombineOption = False,
    cache: CacheOption = None,
    validation_sources: SourcesOption = None,
) -> None:
    """Continue a pretrained network on real scans, without their annotations.

    Example: `train adapt --checkpoint runs/first/best.safetensors --corpus corpus.zarr --dataset brats2018
    --out runs/adapted`. Synthetic samples keep part of each batch.
    """
    from train.adapt import adapt as run

    values = _given(
        loss=parse_weights(loss_weights, Loss()).model_dump(),
        schedule=_schedule(Adapt().schedule, steps, batch, seed, learning_rate, checkpoint_every, precision, device),
        real_share=real_share,
        recombine=recombine,
        validation_sources=validation_sources,
    )
    settings = validated(Adapt, values, "train adapt")
    with Steps(settings.schedule.steps) as shown:
        outcome = run(
            checkpoint,
            corpus,
            catalog,
            dataset,
            out_folder,
            settings,
            cache=cache,
            resume=resume,
            report=shown,
            say=_say,
        )
    _finish(outcome, out_folder, f"train evaluate --checkpoint {{best}} --dataset {dataset} --out out")


@app.command()
def finetune(
    init: Annotated[str, typer.Option(help="A pretrained checkpoint, or the word scratch.")],
    dataset: DatasetOption,
    out_folder: RunOption,
    catalog: CatalogOption = DEFAULT_CATALOG,
    folds: Annotated[int | None, typer.Option(help="Parts the cases are split into (3).")] = None,
    fold: Annotated[int | None, typer.Option(help="The part kept for evaluation (0).")] = None,
    fraction: Annotated[float | None, typer.Option(help="Share of the training cases used (1).")] = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    seed: SeedOption = None,
    learning_rate: RateOption = None,
    checkpoint_every: EveryOption = None,
    resume: ResumeOption = False,
    size: Annotated[int, typer.Option(help="Side of the cube in voxels, from scratch only.")] = 128,
    width: WidthOption = None,
    norm: NormOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
) -> None:
    """Train on annotated scans: encoder from pretraining, decoder from nothing.

    Example: `train finetune --init runs/first/best.safetensors --dataset brats2018 --folds 3 --fold 0
    --fraction 0.1 --out runs/tuned`. `train evaluate` then scores the cases of the fold left out.
    """
    from train.finetune import finetune as run

    values = _given(
        network=_given(width=width, norm=norm),
        schedule=_schedule(Finetune().schedule, steps, batch, seed, learning_rate, checkpoint_every, precision, device),
        folds=folds,
        fold=fold,
        fraction=fraction,
    )
    settings = validated(Finetune, values, "train finetune")
    start = None if init == "scratch" else Path(init)
    with Steps(settings.schedule.steps) as shown:
        outcome = run(start, catalog, dataset, out_folder, settings, size=size, resume=resume, report=shown, say=_say)
    _finish(outcome, out_folder, f"train evaluate --checkpoint {{best}} --dataset {dataset} --out out")


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


class Steps(AbstractContextManager["Steps"]):
    """A progress bar over training steps; validations leave a line."""

    def __init__(self, total: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("training", total=total)

    def __enter__(self) -> "Steps":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, step: int, shown: dict[str, float]) -> None:
        """Show progress, for ``train.loop``."""
        if "total" in shown:
            self._bar.update(self._task, completed=step, description=f"loss {shown['total']:.3f}")
        if "validation_loss" in shown:
            out.print(
                f"step {step}: validation loss {shown['validation_loss']:.3f}, Dice {shown['validation_dice']:.3f}"
            )


def _say(line: str) -> None:
    out.print(line, markup=False)


def _given(**values: Any) -> dict[str, Any]:
    """Keep what was given on the command line; the rest keeps its default."""
    return {name: value for name, value in values.items() if value is not None}


def _schedule(
    base: Schedule,
    steps: int | None,
    batch: int | None,
    seed: int | None,
    learning_rate: float | None,
    checkpoint_every: int | None,
    precision: str | None,
    device: str | None,
    warmup_steps: int | None = None,
) -> dict[str, Any]:
    given = _given(
        steps=steps,
        batch=batch,
        seed=seed,
        learning_rate=learning_rate,
        checkpoint_every=checkpoint_every,
        precision=precision,
        device=device,
        warmup_steps=warmup_steps,
    )
    return {**base.model_dump(), **given}


def _finish(outcome: "Outcome", folder: Path, following: str) -> None:
    """Say how a training ended and what to type next; exit with what that means."""
    if outcome.signal:
        err.print(f"stopped at step {outcome.step} and saved; add --resume to the same command to continue")
        raise typer.Exit(128 + outcome.signal)
    best = folder / "best.safetensors"
    dice = outcome.best.get("dice")
    scored = "" if dice is None else f", validation Dice {dice:.3f}"
    out.print(f"{outcome.step} steps done; best at step {outcome.best.get('step')}{scored}: {best}")
    out.print(f"next: {following.format(best=best)}", markup=False)
    if outcome.left_out:
        err.print(f"{outcome.left_out} cases could not be used; see above", style="red")
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
