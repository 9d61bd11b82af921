"""Commands that make a corpus: scan, prepare, generate."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scans.catalog.shipped import DEFAULT_CATALOG
from scans.errors import CatalogError
from scans.terminal import BrainMasksOption, BrainMaskWithOption, CatalogOption, DerivativesOption, err, facts, out
from synth.cli import application as shared
from synth.cli.application import app, bar, describe, make_shards, say

if TYPE_CHECKING:
    from synth.corpus.manifest import Manifest


GeneratorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--generator",
        help="What makes the tumours: `layers` (the paper's), `compound`, `smooth`, or one that a package brings; that "
        "of the sources' region if not given. A mixture: `--generator layers:0.3 --generator compound:0.7`.",
    ),
]


@app.command()
def scan(
    catalog: CatalogOption = DEFAULT_CATALOG,
    deep: Annotated[bool, typer.Option(help="Read every voxel, not only headers.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Say of every dataset that is not here how to obtain it.")
    ] = False,
) -> None:
    """List the datasets: what is here and which files are bad; with --all, what is not and how to get it.

    Example: `synth scan`, or `synth scan --catalog mine.yaml`. Exits with 1 if a file is bad.
    """
    from scans.catalog.catalog import load_catalog
    from synth.sources.inventory import print_report, scan_catalog

    rows = scan_catalog(load_catalog(catalog), deep=deep)
    given = "" if catalog == DEFAULT_CATALOG else f" --catalog {shlex.quote(str(catalog))}"
    raise typer.Exit(print_report(rows, out, everything=everything, catalog=given))


@app.command()
def prepare(
    store: Annotated[Path, typer.Option("--out", help="The sources store to make or to add to.")],
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="A dataset of the catalog; give several times.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Instead: every dataset of normals of this region that is on this machine.")
    ] = None,
    tumours: Annotated[
        list[str] | None,
        typer.Option(help="An annotated dataset whose tumours are lent (`donor.tumours`); give several times."),
    ] = None,
    pseudo_labels: shared.PseudoLabelsOption = None,
    modality: Annotated[
        str | None, typer.Option(help="Of a dataset with several: a corpus has one (its region's own, if not given).")
    ] = None,
    catalog: CatalogOption = DEFAULT_CATALOG,
    bids: Annotated[
        Path | None,
        typer.Option(help="A BIDS dataset of healthy scans, of its modality's region or --region (docs/bids.md)."),
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(help="For --bids: how the scans are called, e.g. acq-3D_FLAIR; FLAIR if not given.")
    ] = None,
    derivatives: DerivativesOption = None,
    size: Annotated[
        int | None, typer.Option(help="Voxels along each side of the prepared cube (128; livers 192).")
    ] = None,
    brain_mask_with: BrainMaskWithOption = None,
    brain_masks: BrainMasksOption = None,
    cluster: shared.ClusterOption = "local",
    workers: shared.WorkersOption = None,
) -> None:
    """Bring healthy scans into the network's space: orient, resample, crop, measure.

    Example: `synth prepare --dataset OASIS --out sources.zarr`. A bad scan is named and left out, the rest goes
    on; the exit code is then 1. Finished scans are kept when the command is run again.
    """
    say(f"looking for the scans of {catalog}")
    from scans.catalog.bids_dataset import with_bids
    from scans.catalog.catalog import load_catalog
    from scans.image.cases import find_cases
    from synth.sources.format import finished_sources
    from synth.sources.prepare import prepare_datasets
    from synth.tumour.source import lends_tumour

    loaded = load_catalog(catalog)
    if bids is None and (suffix or derivatives):
        raise CatalogError("--suffix and --derivatives belong to --bids; give that as well, or leave them out")
    if bids is not None:
        loaded, name = with_bids(loaded, bids, suffix or "FLAIR", region, derivatives or ())
        dataset = [*(dataset or []), name]
    loaded = loaded.with_brain_masks(brain_mask_with, brain_masks)
    if region and bids is None:
        loaded.region(region)
        normals = [
            name
            for name, entry in loaded.datasets.items()
            if entry.role == "normal"
            and any(entry.region_of(m) == region for m in entry.modalities if modality in (None, m))
        ]
        dataset = [*(dataset or []), *(name for name in normals if find_cases(loaded.dataset(name), name))]
        if not dataset:
            raise CatalogError(
                f"{catalog}: no normal scan of region {region} is on this machine "
                f"({', '.join(normals) or 'no dataset'}); synth scan tells how to get and place them"
            )
    if not (dataset or tumours):
        raise CatalogError("give --dataset NAME (synth scan lists them), --region NAME, or --bids FOLDER")
    with bar("scans") as progress:
        report = prepare_datasets(
            loaded,
            dataset or [],
            store,
            size,
            cluster,
            workers,
            progress,
            say,
            modality,
            region,
            tumours or (),
            pseudo_labels,
        )
    for case, sentence in report.failed:
        err.print(f"left out {case}: {sentence}", style="yellow")
    out.print(f"{store}: {len(report.done)} prepared, {len(report.kept)} kept, {len(report.failed)} left out")
    if report.done or report.kept:
        if all(lends_tumour(source) for source in finished_sources(store).values()):
            out.print(f"next: synth stats --compare corpus.zarr --real {store}")
        else:
            out.print(f"next: synth generate --sources {store} --out corpus.zarr -n 500")
    if report.failed:
        raise typer.Exit(1)


@app.command()
def generate(
    sources: Annotated[Path, typer.Option(help="The sources, made by synth prepare.")],
    corpus: Annotated[str, typer.Option("--out", help="The corpus to make, or to finish: a folder or a URL.")],
    samples: Annotated[int, typer.Option("-n", "--samples", help="Samples in the corpus, in the end.")],
    seed: Annotated[int | None, typer.Option(help="Two corpora of one seed are the same, byte for byte; 0.")] = None,
    cluster: shared.ClusterOption = "local",
    workers: shared.WorkersOption = None,
    shards: Annotated[
        str | None,
        typer.Option(help="Make only these, beside others that make the rest: `3::100` is shard 3, 103, 203, ..."),
    ] = None,
    shard_size: Annotated[int, typer.Option(help="Samples a shard; part of what makes the bytes.")] = 64,
    layout: Annotated[
        str, typer.Option(help="`layered`: sources once, tumours apart; `dense`: five arrays, 30 times the bytes.")
    ] = "layered",
    generator: GeneratorOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting, e.g. `shape.volume_mm3=[500,9000]`; give several times."),
    ] = None,
    lend: Annotated[
        list[str] | None,
        typer.Option(
            help="A dataset whose real tumours are laid over the normals, all that were prepared with "
            "--tumours: by `layers`, so `--generator compound:0.7 --generator layers:0.3`. Give several times."
        ),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Let the corpus grow to -n samples; seed and settings go on, or are given.")
    ] = False,
    card: shared.CardOption = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and make nothing.")] = False,
) -> None:
    """Blend artificial tumours into the sources: the corpus.

    Example: `synth generate --sources sources.zarr --out corpus.zarr -n 500 --seed 1 --set alpha=[0.3,0.9]`.
    Stopped or killed, the same command goes on with the shards that are missing.
    """
    from synth.corpus.manifest import load_manifest
    from synth.generate.plan import grown, make_manifest, parse_shards, regrown
    from synth.generate.run import generate as make
    from synth.generators.mixture import parse_mixture, with_donors
    from synth.sources.reader import SourceStore
    from synth.store.opening import open_store

    store = SourceStore(sources)
    if append:
        there = load_manifest(open_store(corpus))
        mixture = regrown(there, store.region, generator or [], settings or [])
    else:
        mixture = parse_mixture(store.region, generator or [], settings or [])
    if lend:
        mixture = with_donors(mixture, sorted({name for dataset in lend for name in store.lending(dataset)}))
    if append:
        manifest = grown(there, store, samples, seed, mixture)
    else:
        manifest = make_manifest(store, samples, seed or 0, mixture, shard_size, layout)
    only = None if shards is None else parse_shards(shards)
    if dry_run:
        _print_estimate(manifest, sources, cluster, workers)
        return
    asked = range(manifest.shard_count)[only or slice(None)]
    if only is not None and cluster == "local" and workers is None:
        workers = 0  # a job of an array has its one core, and many beside it
    outcome = make_shards(
        corpus, manifest, asked,
        lambda progress, say: make(manifest, sources, corpus, cluster, workers, only, progress, say),
    )  # fmt: skip
    if only is not None:
        out.print(f"{corpus}: {len(asked)} of {manifest.shard_count} shards are done ({outcome.kept} kept from before)")
        out.print(f"next: synth info {corpus}, which counts the shards; without --shards the command makes the rest")
        return
    describe(corpus, card)
    out.print(f"{corpus}: {len(manifest)} samples in {manifest.shard_count} shards ({outcome.kept} kept from before)")
    out.print(f"next: synth verify {corpus}; synth show {corpus}; train pretrain --corpus {corpus} --out runs/first")


def _print_estimate(manifest: "Manifest", sources: Path, cluster: str, workers: int | None) -> None:
    from scans.durations import duration, size_of
    from synth.cluster import expected_workers
    from synth.generate.dry_run import estimate

    cost = estimate(manifest, sources, expected_workers(cluster, workers))
    told = {
        "samples": f"{cost.samples} of {manifest.size}³ voxels",
        "shards": f"{cost.shards}, {manifest.shard_size} samples each",
        "on disk": size_of(cost.bytes),
        "work": f"{cost.core_seconds / 3600:.3g} core-hours ({cost.core_seconds / cost.samples * 1e3:.1f} ms a sample)",
        "time": f"{duration(cost.wall_seconds)} on {cost.workers} worker{'s' * (cost.workers > 1)}, plus their start",
    }
    out.print(facts(told))
    out.print(f"reckoned from {cost.measured} samples made and encoded here, in a temporary folder; nothing is kept")
