"""The ``synth`` command: parses, calls, prints."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from scans.errors import CatalogError, UserError
from scans.terminal import command_line, err, out, run

if TYPE_CHECKING:
    from synth.corpus import Corpus
    from synth.shards import Plan

app = command_line(
    "Make a corpus of artificial tumours from healthy 3D scans.\n\n"
    "The road: `synth scan` (what do I have?), `synth prepare` (scans to sources), `synth generate` "
    "(sources to corpus), `synth verify` and `synth show` (is it right?). Then `train pretrain`."
)

CatalogOption = Annotated[Path, typer.Option("--catalog", help="The catalog of datasets and regions.")]
CorpusArgument = Annotated[Path, typer.Argument(help="The corpus.", metavar="CORPUS")]
ClusterOption = Annotated[
    str, typer.Option(help="`local`, `tcp://host:8786`, or a YAML file for a job queue (docs/cluster.md).")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Worker processes of `local`; all cores if not given, this process alone if 0.")
]
DEFAULT_CATALOG = Path("data_catalog.yaml")


def main() -> None:
    """Run the command line."""
    run(app, "stopped; run the same command again to go on where it was")


@app.command()
def scan(
    catalog: CatalogOption = DEFAULT_CATALOG,
    deep: Annotated[bool, typer.Option(help="Read every voxel, not only headers.")] = False,
) -> None:
    """List the datasets: what is there, what is missing and how to get it, which files are bad.

    Example: `synth scan --catalog data_catalog.yaml`. Exits with 1 if a file is bad.
    """
    from scans.catalog import load_catalog
    from synth.scan import print_report, scan_catalog

    rows = scan_catalog(load_catalog(catalog), deep=deep)
    raise typer.Exit(print_report(rows, out))


@app.command()
def prepare(
    store: Annotated[Path, typer.Option("--out", help="The sources store to make or to add to.")],
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="A dataset of the catalog; give several times.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Instead: every dataset of normals of this region that is on this machine.")
    ] = None,
    catalog: CatalogOption = DEFAULT_CATALOG,
    size: Annotated[int, typer.Option(help="Voxels along each side of the network's cube.")] = 128,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Bring healthy scans into the network's space: orient, resample, crop, measure.

    Example: `synth prepare --dataset OASIS --out sources.zarr`. A bad scan is named and left out, the rest goes
    on; the exit code is then 1. Finished scans are kept when the command is run again.
    """
    from scans.catalog import find_cases, load_catalog
    from synth.prepare import prepare_datasets

    loaded = load_catalog(catalog)
    if region:
        loaded.region(region)
        normals = [name for name, entry in loaded.datasets.items() if (entry.role, entry.region) == ("normal", region)]
        dataset = [*(dataset or []), *(name for name in normals if find_cases(loaded.dataset(name), name))]
        if not dataset:
            raise CatalogError(
                f"{catalog}: no normal scan of region {region} is on this machine "
                f"({', '.join(normals) or 'no dataset'}); synth scan tells how to get and place them"
            )
    if not dataset:
        raise CatalogError("give --dataset NAME (synth scan lists them), or --region NAME")
    with _bar("scans") as advance:
        report = prepare_datasets(loaded, dataset, store, size, cluster, workers, advance, _say)
    for case, sentence in report.failed:
        err.print(f"left out {case}: {sentence}", style="yellow", markup=False)
    out.print(f"{store}: {len(report.done)} prepared, {len(report.kept)} kept, {len(report.failed)} left out")
    if report.done or report.kept:
        out.print(f"next: synth generate --sources {store} --out corpus.zarr -n 500", markup=False)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def generate(
    sources: Annotated[Path, typer.Option(help="The sources, made by synth prepare.")],
    corpus: Annotated[Path, typer.Option("--out", help="The corpus to make, or to finish.")],
    samples: Annotated[int, typer.Option("-n", "--samples", help="Samples in the corpus.")],
    seed: Annotated[int, typer.Option(help="Two corpora of one seed are the same, byte for byte.")] = 0,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    shards: Annotated[
        str | None,
        typer.Option(help="Make only these, beside others that make the rest: `3::100` is shard 3, 103, 203, ..."),
    ] = None,
    shard_size: Annotated[int, typer.Option(help="Samples a shard; part of what makes the bytes.")] = 64,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting, e.g. `shape.volume_mm3=[500,9000]`; give several times."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and make nothing.")] = False,
) -> None:
    """Blend artificial tumours into the sources: the corpus.

    Example: `synth generate --sources sources.zarr --out corpus.zarr -n 500 --seed 1 --set alpha=[0.3,0.9]`.
    Stopped or killed, the same command goes on with the shards that are missing.
    """
    from scans.region import override
    from synth.generate import generate as make
    from synth.generate import make_plan, parse_shards
    from synth.progress import ShardProgress
    from synth.sources import SourceStore

    store = SourceStore(sources)
    plan = make_plan(store, samples, seed, override(store.region.synthesis, settings or []), shard_size)
    only = None if shards is None else parse_shards(shards)
    if dry_run:
        _print_estimate(plan, sources, cluster, workers)
        return
    asked = range(plan.shard_count)[only or slice(None)]
    if only is not None and cluster == "local" and workers is None:
        workers = 0  # a job of an array has its one core, and many beside it
    with ShardProgress(err, len(asked), sum(len(plan.indices(shard)) for shard in asked)) as progress:
        outcome = make(plan, sources, corpus, cluster, workers, only, progress.step, progress.say)
    for reason in dict.fromkeys(outcome.failed.values()):
        numbers = [str(shard) for shard, why in sorted(outcome.failed.items()) if why == reason]
        named = ", ".join(numbers[:12]) + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")
        err.print(f"failed: shard {named}: {reason}", style="red", markup=False)
    if outcome.failed:
        err.print(f"{corpus}: {len(outcome.failed)} of {len(asked)} shards are missing; run the command again")
        raise typer.Exit(1)
    if only is not None:
        out.print(f"{corpus}: {len(asked)} of {plan.shard_count} shards are done ({outcome.kept} kept from before)")
        out.print(f"next: synth info {corpus}, which counts the shards; without --shards the command makes the rest")
        return
    out.print(f"{corpus}: {plan.samples} samples in {plan.shard_count} shards ({outcome.kept} kept from before)")
    out.print(f"next: synth verify {corpus}; synth show {corpus}; train pretrain --corpus {corpus} --out runs/first")


def _print_estimate(plan: "Plan", sources: Path, cluster: str, workers: int | None) -> None:
    from synth.cluster import expected_workers
    from synth.dry_run import estimate
    from synth.progress import size_of, time_of

    cost = estimate(plan, sources, expected_workers(cluster, workers))
    table = Table(show_header=False, box=None)
    for name, value in {
        "samples": f"{cost.samples} of {plan.size}³ voxels",
        "shards": f"{cost.shards}, {plan.shard_size} samples each",
        "on disk": size_of(cost.bytes),
        "work": f"{cost.core_seconds / 3600:.3g} core-hours ({cost.core_seconds / cost.samples * 1e3:.1f} ms a sample)",
        "time": f"{time_of(cost.wall_seconds)} on {cost.workers} worker{'s' * (cost.workers > 1)}, plus their start",
    }.items():
        table.add_row(name, value)
    out.print(table)
    out.print(f"reckoned from {cost.measured} samples made and encoded here, in a temporary folder; nothing is kept")


@app.command()
def info(corpus: CorpusArgument) -> None:
    """Say what a corpus holds: samples, sources, settings, hash.

    Example: `synth info corpus.zarr`
    """
    from synth.corpus import Corpus

    opened = Corpus(corpus, partial=True)
    size = sum(entry["bytes"] for receipt in opened.receipts.values() for entry in receipt.files.values())
    table = Table(show_header=False, box=None)
    for name, value in {
        "samples": f"{len(opened)} of {opened.size}³ voxels",
        "shards": f"{len(opened.receipts)} of {opened.shard_count} finished, {opened.shard_size} samples each",
        "on disk": f"{size / 1e6:.1f} MB",
        "region": f"{opened.region['name']} ({opened.region['modality']})",
        "seed": str(opened.seed),
        "identity": opened.identity,
        "content": opened.content_hash,
    }.items():
        table.add_row(name, value)
    out.print(table)
    sources = Table("source", "voxel (z, y, x) mm", "normal in", "donor in", "licence", box=None)
    for position, source in enumerate(opened.sources):
        sources.add_row(
            source["name"],
            " × ".join(f"{side:.2f}" for side in source["spacing_mm"]),
            str(int((opened.normal == position).sum())),
            str(int((opened.donor == position).sum())),
            source["licence"],
        )
    out.print(sources)


@app.command()
def verify(
    corpus: CorpusArgument,
    samples: Annotated[int | None, typer.Option(help="Recompute only about so many samples; all if not given.")] = None,
) -> None:
    """Check structure, checksums, recipes, and Eq. 5 recomputed on the samples.

    Example: `synth verify corpus.zarr`. Names every damaged, missing or foreign piece and exits with 1.
    """
    from synth.corpus import attributes
    from synth.verify import verify as check

    total = attributes(corpus)["samples"]
    with _bar("samples") as advance:
        findings = check(corpus, samples, lambda _index: advance(1, min(samples or total, total)))
    for finding in findings:
        out.print(finding, style="red", markup=False)
    if findings:
        raise typer.Exit(1)
    out.print(f"{corpus}: sound")


@app.command()
def show(
    corpus: CorpusArgument,
    index: Annotated[list[int] | None, typer.Option("-i", "--index", help="A sample; give several times.")] = None,
    picture: Annotated[Path | None, typer.Option("--out", help="The PNG; CORPUS.png beside it if not given.")] = None,
) -> None:
    """Draw samples: three planes of composite, normal, texture and mask contour, with the recipe's numbers.

    Example: `synth show corpus.zarr -i 0 -i 7 --out samples.png`
    """
    from synth.corpus import Corpus
    from synth.show import montage

    opened = Corpus(corpus)
    indices = _indices(opened, corpus, index) or list(range(min(3, len(opened))))
    target = picture or corpus.with_suffix(".png")
    montage(opened, indices, target)
    out.print(f"wrote {target}")


@app.command()
def stats(
    sources: Annotated[Path, typer.Option(help="The sources, made by synth prepare.")],
    page: Annotated[Path, typer.Option("--out", help="The HTML page to write.")] = Path("stats.html"),
    samples: Annotated[int, typer.Option("-n", "--samples", help="Samples to draw and to measure.")] = 10_000,
    seed: Annotated[int, typer.Option(help="That of the corpus.")] = 0,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting, as for synth generate; give several times.")
    ] = None,
) -> None:
    """Measure what a corpus will hold: volume, shape, contrast and position beside the laws they are drawn from.

    Example: `synth stats --sources sources.zarr --out stats.html`. No corpus is needed: a corpus of these sources,
    settings and seed holds the same recipes. Exits with 1 if two samples share a recipe, a noise seed or a mask.
    """
    from scans.region import override
    from synth.generate import make_plan
    from synth.sources import SourceStore
    from synth.stats import measure
    from synth.stats_page import told, write_page

    if not page.parent.is_dir():
        raise UserError(f"--out {page}: there is no folder {page.parent}")
    store = SourceStore(sources)
    plan = make_plan(store, samples, seed, override(store.region.synthesis, settings or []))
    with _bar("samples") as advance:
        advance(0, samples)
        measured = measure(
            sources, plan.settings, seed, samples, cluster, workers, lambda count: advance(count, samples), _say
        )
    write_page(measured, store, page)
    out.print(f"wrote {page}", markup=False)
    duplicates = measured.duplicates()
    if any(duplicates.values()):
        err.print(f"duplicates: {told(duplicates)}", style="red", markup=False)
        raise typer.Exit(1)
    out.print(f"no duplicates among {samples:,} recipes, noise seeds and masks")


@app.command()
def export(
    corpus: CorpusArgument,
    folder: Annotated[Path, typer.Option("--out", help="The folder to write into.")],
    index: Annotated[list[int] | None, typer.Option("-i", "--index", help="A sample; give several times.")] = None,
    source: Annotated[str | None, typer.Option(help="Only samples whose normal is this source.")] = None,
    most: Annotated[int, typer.Option(help="At most so many samples, if none is given by -i.")] = 10,
) -> None:
    """Write samples as NIfTI: composite, mask and organ, to look at or to evaluate like a real case.

    Example: `synth export corpus.zarr --out nifti -i 0 -i 7`
    """
    from synth.corpus import Corpus
    from synth.export import export_nifti

    opened = Corpus(corpus)
    names = [entry["name"] for entry in opened.sources]
    if source is not None and source not in names:
        raise UserError(f"--source {source}: {corpus} has {', '.join(names)}")
    chosen = (
        _indices(opened, corpus, index)
        or [i for i in range(len(opened)) if source is None or names[opened.normal[i]] == source][:most]
    )
    written = export_nifti(opened, chosen, folder)
    out.print(f"wrote {len(written)} samples to {folder}")


def _indices(corpus: "Corpus", path: Path, given: list[int] | None) -> list[int]:
    for index in given or []:
        if not 0 <= index < len(corpus):
            raise UserError(f"-i {index}: {path} has samples 0 to {len(corpus) - 1}")
    return given or []


@contextlib.contextmanager
def _bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr; yields ``advance(steps, total)``."""
    with Progress(
        TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=err
    ) as progress:
        task = progress.add_task(unit, total=None)
        yield lambda steps, total: progress.update(task, advance=steps, total=total)


def _say(sentence: str) -> None:
    err.print(sentence, markup=False)


if __name__ == "__main__":
    main()
