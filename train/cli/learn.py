"""Commands that train a network: ``pretrain``, ``adapt``, ``finetune``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from scans.catalog.shipped import DEFAULT_CATALOG
from scans.terminal import CatalogOption, err, out
from train.architectures.plans import CONFIGURATION
from train.cli import application as shared
from train.cli.application import app, given, given_of, named, network_of, preset_for, say, variation_of
from train.cli.dry_run import DryRunOption, print_estimate
from train.presets import settings_of
from train.run.progress import StepsBar
from train.settings import (
    FINDS_MASK,
    LAYERS,
    Adapt,
    Finetune,
    Pretrain,
    ProxyName,
    Schedule,
    SettingsError,
    parse_weights,
    validated,
)

if TYPE_CHECKING:
    from train.run.spent import Outcome


@app.command()
def pretrain(
    corpus: shared.CorpusOption,
    out_folder: shared.RunOption,
    proxy: Annotated[
        str | None,
        typer.Option(
            help="What is learnt: layers (default), or the task of another paper: "
            f"{', '.join(name for name in get_args(ProxyName) if name != LAYERS)}."
        ),
    ] = None,
    network: shared.NetworkOption = None,
    plans: shared.PlansOption = None,
    configuration: shared.ConfigurationOption = CONFIGURATION,
    preset: shared.PresetOption = None,
    steps: shared.StepsOption = None,
    width: shared.WidthOption = None,
    batch: shared.BatchOption = None,
    seed: shared.SeedOption = None,
    learning_rate: shared.RateOption = None,
    rate_rule: shared.RuleOption = None,
    averaging: shared.AveragingOption = None,
    warmup_steps: Annotated[int | None, typer.Option(help="Steps over which the rate rises.")] = None,
    plateau_patience: Annotated[
        int | None, typer.Option(help="Validations without a better loss before the rate is halved (10).")
    ] = None,
    log_every: Annotated[int | None, typer.Option(help="Steps between lines of the log (10).")] = None,
    loader_threads: shared.ThreadsOption = None,
    compile_network: Annotated[
        str | None, typer.Option("--compile", help="auto (default: on a GPU), on or off.")
    ] = None,
    checkpoint_every: shared.EveryOption = None,
    resume: shared.ResumeOption = False,
    dry_run: DryRunOption = False,
    loss_weights: shared.WeightsOption = None,
    loss_form: Annotated[str | None, typer.Option(help="emphasised (default) or plain.")] = None,
    norm: shared.NormOption = None,
    mask_bias: Annotated[float | None, typer.Option(help="Initial bias of the mask's logit.")] = None,
    symmetry: Annotated[
        str,
        typer.Option(
            help="Whether the network sees each scan's mirror image beside it: auto (where the region is symmetric), "
            "on or off."
        ),
    ] = "auto",
    patch: Annotated[
        str,
        typer.Option(
            help="What the network is shown of each sample: patches of so many voxels a side, whole cubes, or auto "
            "(as the region says: patches of livers, whole brains)."
        ),
    ] = "auto",
    standardise: Annotated[bool, typer.Option(help="Normalise each composite by itself, as a real scan is.")] = False,
    variation: shared.VariationOption = None,
    vary: shared.VaryOption = False,
    recombine: shared.RecombineOption = False,
    cache: shared.CacheOption = None,
    catalog: CatalogOption = DEFAULT_CATALOG,
    real_cases: Annotated[
        int, typer.Option(help="Annotated cases of the catalog to show scores on, at most; they steer nothing.")
    ] = 4,
    precision: shared.PrecisionOption = None,
    device: shared.DeviceOption = None,
    validation_corpus: shared.ValidationOption = None,
    validation_sources: shared.SourcesOption = None,
    validation_samples: Annotated[int | None, typer.Option(help="Most samples validated on (32).")] = None,
) -> None:
    """Train a network on a corpus, from nothing.

    Example: `train pretrain --corpus corpus.zarr --out runs/first --steps 2000 --width 16`.
    Interrupt it with Ctrl-C and continue it with `--resume`. `--dry-run` says before what it would cost.
    """
    options = locals()
    from train.stages.pretrain import Symmetry
    from train.stages.pretrain import pretrain as run

    if symmetry not in get_args(Symmetry):
        raise SettingsError(f"--symmetry {symmetry}: give one of {', '.join(get_args(Symmetry))}")
    values = given(
        proxy=proxy,
        network=network_of(network, plans, configuration, width, norm) | given(mask_bias=mask_bias),
        loss={**parse_weights(loss_weights), **given(form=loss_form)},
        schedule=given_of(Schedule, options) | given(compile=compile_network),
        validation_sources=validation_sources,
        validation_samples=validation_samples,
        standardise=standardise or None,
        variation=variation_of(variation, vary),
        recombine=recombine or None,
    )
    settings = settings_of(Pretrain, preset_for(preset, out_folder, resume), values, "train pretrain")
    train = partial(
        run,
        corpus,
        settings=settings,
        validation_corpus=validation_corpus or (),
        cache=cache,
        catalog=catalog,
        real_cases=real_cases,
        symmetry=cast(Symmetry, symmetry),
        patch=patch,
        say=say,
    )
    following = "train evaluate --checkpoint {best}" if settings.proxy in FINDS_MASK else "train finetune --init {best}"
    _carry_out(train, out_folder, settings.schedule, resume, dry_run, f"{following} --dataset NAME --out out")


@app.command()
def adapt(
    checkpoint: shared.CheckpointOption,
    corpus: shared.CorpusOption,
    dataset: shared.DatasetOption,
    out_folder: shared.RunOption,
    catalog: CatalogOption = DEFAULT_CATALOG,
    preset: shared.PresetOption = None,
    steps: shared.StepsOption = None,
    batch: shared.BatchOption = None,
    real_share: Annotated[float | None, typer.Option(help="Share of real scans in a batch (0.5).")] = None,
    self_training: Annotated[
        float | None, typer.Option(help="Weight of the loss on voxels the first network is sure of (0: none).")
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="Least probability of what counts as sure (0.9).")] = None,
    seed: shared.SeedOption = None,
    learning_rate: shared.RateOption = None,
    rate_rule: shared.RuleOption = None,
    averaging: shared.AveragingOption = None,
    checkpoint_every: shared.EveryOption = None,
    loader_threads: shared.ThreadsOption = None,
    resume: shared.ResumeOption = False,
    dry_run: DryRunOption = False,
    loss_weights: shared.WeightsOption = None,
    precision: shared.PrecisionOption = None,
    device: shared.DeviceOption = None,
    variation: shared.VariationOption = None,
    vary: shared.VaryOption = False,
    recombine: shared.RecombineOption = False,
    cache: shared.CacheOption = None,
    validation_sources: shared.SourcesOption = None,
    revision: shared.RevisionOption = None,
) -> None:
    """Continue a pretrained network on real scans, without their annotations.

    Example: `train adapt --checkpoint runs/first/best.safetensors --corpus corpus.zarr --dataset brats2018
    --out runs/adapted`. Synthetic samples keep part of each batch.
    """
    options = locals()
    from train.inference.named_network import checkpoint_at
    from train.stages.adapt import adapt as run

    values = given(
        loss=parse_weights(loss_weights),
        schedule=given_of(Schedule, options),
        real_share=real_share,
        self_training=self_training,
        confidence=confidence,
        variation=variation_of(variation, vary),
        recombine=recombine or None,
        validation_sources=validation_sources,
    )
    settings = settings_of(Adapt, preset_for(preset, out_folder, resume), values, "train adapt")
    start = checkpoint_at(checkpoint, revision, say)
    train = partial(run, start, corpus, catalog, dataset, settings=settings, cache=cache, say=say)
    following = f"train evaluate --checkpoint {{best}} --dataset {dataset} --out out"
    _carry_out(train, out_folder, settings.schedule, resume, dry_run, following)


@app.command()
def finetune(
    init: Annotated[str, typer.Option(help="A pretrained checkpoint (a file, or hf://org/name), or the word scratch.")],
    out_folder: shared.RunOption,
    task: Annotated[str | None, typer.Option(help="A task of the catalog: WTS, LTS, BTS.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="In place of a task: a dataset, to find whatever its labels mark.")
    ] = None,
    catalog: CatalogOption = DEFAULT_CATALOG,
    folds: Annotated[
        str | None,
        typer.Option(help="A file made by train folds; for a dataset also a number of parts (3)."),
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Number of the fold, from 0 (0).")] = None,
    fraction: Annotated[float | None, typer.Option(help="Share of the training patients used (1).")] = None,
    augment: Annotated[str | None, typer.Option(help="nnunet (default), mirror or none.")] = None,
    modalities: Annotated[
        str | None,
        typer.Option(help="Of a dataset, e.g. FLAIR,T1; else the checkpoint's, or from scratch all of them."),
    ] = None,
    steps: shared.StepsOption = None,
    batch: shared.BatchOption = None,
    seed: shared.SeedOption = None,
    learning_rate: shared.RateOption = None,
    checkpoint_every: shared.EveryOption = None,
    resume: shared.ResumeOption = False,
    dry_run: DryRunOption = False,
    size: Annotated[int, typer.Option(help="Side of the cube in voxels, from scratch only.")] = 128,
    network: shared.NetworkOption = None,
    plans: shared.PlansOption = None,
    configuration: shared.ConfigurationOption = CONFIGURATION,
    width: shared.WidthOption = None,
    norm: shared.NormOption = None,
    precision: shared.PrecisionOption = None,
    device: shared.DeviceOption = None,
    revision: shared.RevisionOption = None,
) -> None:
    """Train on annotated scans: encoder from pretraining, decoder from nothing.

    Example: `train finetune --task WTS --folds folds/WTS.json --fold 0 --fraction 0.1
    --init runs/first/best.safetensors --out runs/tuned`. `train evaluate` then scores the cases of the test set.
    Folds do not depend on --seed.
    """
    options = locals()
    from train.inference.named_network import checkpoint_at
    from train.stages.finetune import finetune as run

    name = named(task, dataset)
    number = int(folds) if folds is not None and folds.isdecimal() else None
    if number is not None and task is not None:
        raise SettingsError(f"--folds {folds}: a task says its own number of folds; give a file, or leave it out")
    values = given(
        network=network_of(network, plans, configuration, width, norm),
        schedule=Finetune().schedule.model_dump() | given_of(Schedule, options),
        folds=number,
        fold=fold,
        fraction=fraction,
        augment=augment,
    )
    settings = validated(Finetune, values, "train finetune")
    if init == "scratch" and revision is not None:
        raise SettingsError(f"--revision {revision}: nothing on a hub is begun from; leave it out")
    start = None if init == "scratch" else checkpoint_at(init, revision, say)
    train = partial(
        run,
        start,
        catalog,
        name,
        settings=settings,
        size=size,
        modalities=[name.strip() for name in modalities.split(",")] if modalities else (),
        folds_file=None if folds is None or number is not None else Path(folds),
        say=say,
    )
    following = f"train evaluate --checkpoint {{best}} {'--task' if task else '--dataset'} {name} --out out"
    _carry_out(train, out_folder, settings.schedule, resume, dry_run, following)


def _carry_out(
    train: "Callable[..., Outcome]", folder: Path, schedule: Schedule, resume: bool, dry_run: bool, following: str
) -> None:
    """Train, or rehearse it; say how a training ended and what to type next, and exit with what that means."""
    if dry_run:
        print_estimate(train, folder, schedule)
        return
    with StepsBar(schedule.steps, schedule.batch) as shown:
        outcome = train(folder, resume=resume, report=shown)
    if outcome.signal:
        err.print(f"stopped at step {outcome.step} and saved; add --resume to the same command to continue")
        raise typer.Exit(128 + outcome.signal)
    best = folder / "best.safetensors"
    dice, shifted = outcome.best.get("dice"), outcome.best.get("shifted_dice")
    scored = "" if dice is None else f", validation Dice {dice:.3f}"
    scored += "" if shifted is None else f", on the validation corpus {shifted:.3f}"
    out.print(f"{outcome.step} steps done; the network of step {outcome.best.get('step')}{scored}: {best}")
    out.print(f"next: {following.format(best=best)}")
    if outcome.left_out:
        err.print(f"{outcome.left_out} cases could not be used; see above", style="red")
        raise typer.Exit(1)
