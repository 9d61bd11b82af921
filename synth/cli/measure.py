"""The command that measures corpora, to be made or finished: stats."""

from pathlib import Path
from typing import Annotated

import typer

from scans.errors import UserError
from scans.terminal import err, out
from scans.writing import no_folder_for
from synth.cli.application import ClusterOption, WorkersOption, app, bar, say

_MEASURED, _COMPARED = 10_000, 200  # samples, if not given
_MOST_PICTURES = 60  # of a column


@app.command()
def stats(
    corpora: Annotated[list[str] | None, typer.Argument(help="For --compare: corpora, folders or URLs.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure finished corpora side by side instead of one that is to be made.")
    ] = False,
    real: Annotated[
        Path | None,
        typer.Option(help="For --compare: sources with real tumours (synth prepare --tumours), as a last column."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(help="For --compare: tumours shown of each corpus; 0 for scans that may not be passed on.")
    ] = 6,
    sources: Annotated[Path | None, typer.Option(help="The sources, made by synth prepare.")] = None,
    page: Annotated[
        Path, typer.Option("--out", help="The HTML page to write; for --compare also a figure, NAME.png.")
    ] = Path("stats.html"),
    samples: Annotated[
        int | None,
        typer.Option("-n", "--samples", help="Samples to measure; 10,000 if not given, for --compare 200 of each."),
    ] = None,
    seed: Annotated[int, typer.Option(help="That of the corpus.")] = 0,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    generator: Annotated[
        str | None, typer.Option(help="What makes the tumours; that of the sources' region if not given.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting, as for synth generate; give several times.")
    ] = None,
) -> None:
    """Measure what a corpus will hold: volume, shape, contrast and position beside the laws they are drawn from.

    Example: `synth stats --sources sources.zarr --out stats.html`. No corpus is needed: a corpus of these sources,
    settings and seed holds the same recipes. Exits with 1 if two samples share a recipe, a noise seed or a mask.

    `synth stats --compare a.zarr b.zarr --real sources.zarr --out compare.html` shows tumours of finished corpora
    beside real ones: volume, visible contrast, heterogeneity, edge, foci, place, and pictures.
    """
    if compare:
        if sources is not None or settings or generator is not None:
            raise UserError(
                "--sources, --generator and --set belong to a corpus that is to be made; --compare takes finished ones"
            )
        _compare(corpora or [], real, page, _COMPARED if samples is None else samples, pictures)
        return
    if corpora or real is not None:
        raise UserError("corpora and --real belong to --compare; give it as well, or --sources alone")
    if sources is None:
        raise UserError("give --sources, of which a corpus is to be made, or --compare and finished corpora")
    samples = _MEASURED if samples is None else samples
    from synth.generate.plan import make_manifest
    from synth.generators.mixture import Mixture
    from synth.generators.registry import way_of
    from synth.report.stats import measure
    from synth.report.stats_page import told, write_page
    from synth.sources.reader import SourceStore

    if not page.parent.is_dir():
        raise UserError(f"--out {no_folder_for(page)}")
    store = SourceStore(sources)
    way = way_of(store.region, generator, settings or [])
    make_manifest(store, samples, seed, Mixture.of(way))  # refuses what no corpus could be made of
    with bar("samples") as progress:
        progress(0, samples)
        measured = measure(sources, way, seed, samples, cluster, workers, lambda count: progress(count, samples), say)
    write_page(measured, store, page)
    out.print(f"wrote {page}")
    duplicates = measured.duplicates()
    if any(duplicates.values()):
        err.print(f"duplicates: {told(duplicates)}", style="red")
        raise typer.Exit(1)
    out.print(f"no duplicates among {samples:,} recipes, noise seeds and masks")


def _compare(corpora: list[str], real: Path | None, target: Path, most: int, pictures: int) -> None:
    """Measure finished corpora, and real tumours, and write the page."""
    from synth.compare.column import check_comparable, column_of_annotated, column_of_corpus
    from synth.compare.labelled import annotated
    from synth.compare.page import write_comparison
    from synth.corpus import Corpus
    from synth.sources.reader import SourceStore

    if not corpora:
        raise UserError("--compare: name one corpus or more, e.g. synth stats --compare a.zarr b.zarr")
    if most < 1:
        raise UserError(f"--samples {most}: ask for at least one sample")
    if not 0 <= pictures <= _MOST_PICTURES:
        raise UserError(f"--pictures {pictures}: from 0 to {_MOST_PICTURES}")
    if not target.parent.is_dir():
        raise UserError(f"--out {no_folder_for(target)}")
    opened = [Corpus(corpus) for corpus in corpora]
    # In the units of the first corpus: a store of annotated scans alone has none that its sources share.
    store = SourceStore(real, opened[0].statistics) if real is not None else None
    regions = [(corpus.where, str(corpus.region["name"])) for corpus in opened]
    check_comparable([*regions, *([] if store is None else [(str(store.path), store.region.name)])])
    if store is not None:
        annotated(store)  # refuses a store without any, before all else is measured
    columns = []
    for corpus in opened:
        with bar(f"samples of {corpus.where}") as progress:
            columns.append(column_of_corpus(corpus, most, progress))
    if store is not None:
        with bar("annotated scans") as progress:
            columns.append(column_of_annotated(store, progress))
    write_comparison(columns, target, pictures)
    out.print(f"wrote {target}")
