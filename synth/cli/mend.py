"""Commands that mend a corpus: repair, card."""

from pathlib import Path
from typing import Annotated

import typer

from scans.terminal import err, out
from synth.cli.application import ClusterOption, CorpusArgument, WorkersOption, app, describe, with_progress


@app.command()
def repair(
    corpus: CorpusArgument,
    sources: Annotated[
        Path | None, typer.Option(help="The store it was made from: makes damaged and missing shards again.")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Decode and recompute every sample, too.")] = False,
    remove_foreign: Annotated[
        bool, typer.Option("--remove-foreign", help="Remove files that are no part of the corpus; left if not given.")
    ] = False,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Make again what is damaged, missing or of another corpus, and nothing else; then check every file once more.

    Example: `synth repair corpus.zarr --sources sources.zarr`. Without `--sources` the manifest and the metadata are
    mended. Exits with 1 if anything is left.
    """
    from synth.generate.repair import repair as mend

    done = mend(corpus, sources, deep, remove_foreign, cluster, workers, with_progress)
    for sentence in done.mended:
        out.print(sentence)
    for sentence in done.left:
        out.print(sentence, style="red")
    if not done.left:
        out.print(f"{corpus}: {len(done.mended)} mended, now sound" if done.mended else f"{corpus}: sound")
        out.print(f"next: synth verify {corpus}, which recomputes the samples too")
        return
    err.print(f"{corpus}: {len(done.mended)} mended, {len(done.left)} left")
    if done.needs_sources:
        err.print(f"next: synth repair {corpus} --sources SOURCES, the store that it was made from")
    raise typer.Exit(1)


@app.command()
def card(corpus: CorpusArgument) -> None:
    """Write the data card (README.md), its pictures, and Croissant metadata into a finished corpus.

    Example: `synth card corpus.zarr`. Commands that make a corpus do so at their end; jobs of an array do not.
    """
    describe(corpus)
    out.print(f"wrote {corpus.rstrip('/')}/README.md, card/ and croissant.json")
    out.print(f"next: synth pack {corpus} --out corpus.zip")
