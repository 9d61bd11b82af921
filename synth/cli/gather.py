"""Commands that make a corpus out of others: convert, merge, subset."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scans.hub.address import at_revision
from scans.terminal import RevisionOption, err, out
from synth.cli.application import CardOption, ClusterOption, CorpusArgument, WorkersOption, app, describe, make_shards

if TYPE_CHECKING:
    from synth.corpus import Corpus
    from synth.corpus.manifest import Manifest


OutOption = Annotated[str, typer.Option("--out", help="The corpus to make, or to finish: a folder or a URL.")]
ShardSizeOption = Annotated[
    int | None, typer.Option(help="Samples a shard of the new corpus; as it is in the first if not given.")
]


@app.command()
def convert(
    corpus: CorpusArgument,
    target: OutOption,
    layout: Annotated[str, typer.Option(help="`layered` or `dense`; that of CORPUS makes a copy.")],
    sources: Annotated[
        Path | None,
        typer.Option(
            help="The store of sources: draws the samples again, and so brings back what a dense corpus lost, the "
            "parts of tumours that the ROI cut off. Recombination profits; `corpus[i]` is the same without."
        ),
    ] = None,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    card: CardOption = True,
    revision: RevisionOption = None,
) -> None:
    """Write a corpus in the other layout: the same samples, bit for bit, and the same identity.

    Example: `synth convert corpus.zarr --out dense.zarr --layout dense`. A dense corpus made with `mask.soft_mm` or
    `texture_target=composite` becomes layered only with `--sources`. Stopped or killed, the same command goes on.
    """
    from synth.corpus import Corpus
    from synth.generate.plan import arranged

    opened = Corpus(at_revision(corpus, revision))
    _gather(arranged(opened.manifest, layout), [opened], target, sources, cluster, workers, card)


@app.command()
def merge(
    corpora: Annotated[list[str], typer.Argument(help="Finished corpora: folders or URLs.", metavar="CORPUS...")],
    target: OutOption,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Keep a sample once that several hold; refused if not given.")
    ] = False,
    shard_size: ShardSizeOption = None,
    layout: Annotated[str | None, typer.Option(help="`layered` or `dense`; that of the first if not given.")] = None,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    card: CardOption = True,
) -> None:
    """Make one corpus of several, one behind the other.

    Example: `synth merge a.zarr b.zarr --out both.zarr`. A source that several have is kept once, under all their
    terms. Corpora of another size, region or normalisation are refused. Stopped or killed, the same command goes on.
    """
    from synth.convert.merge import merged
    from synth.corpus import Corpus

    opened = [Corpus(corpus) for corpus in corpora]
    _gather(merged(opened, shard_size, layout, drop_duplicates), opened, target, None, cluster, workers, card)


@app.command()
def subset(
    corpus: CorpusArgument,
    target: OutOption,
    samples: Annotated[
        list[str] | None, typer.Option(help="These samples, as `0:1000`, `::2` or `7`; give several times.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Of these, samples whose normal is this source; give several times.")
    ] = None,
    donors_too: Annotated[
        bool, typer.Option("--donors-too", help="Their donors are to be of the sources given, too.")
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Of these, samples whose recipe fits, as `kept>0.9`; give several times, all must hold."),
    ] = None,
    every: Annotated[int, typer.Option(help="Of these, every k-th.")] = 1,
    first: Annotated[int | None, typer.Option(help="Of these, so many at the most.")] = None,
    shard_size: ShardSizeOption = None,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    card: CardOption = True,
    revision: RevisionOption = None,
) -> None:
    """Make a corpus of some samples of another.

    Example: `synth subset corpus.zarr --out large.zarr --where 'volume_mm3>50000' --where 'kept>0.9' --first 1000`.
    All sources that the samples were drawn among stay, and their terms, also those that none of them shows:
    without the whole list the samples could not be made again. Stopped or killed, the same command goes on.
    """
    from synth.convert.subset import choose
    from synth.convert.subset import subset as part
    from synth.corpus import Corpus

    opened = Corpus(at_revision(corpus, revision))
    indices = choose(opened, samples or [], source or [], donors_too, where or [], every, first)
    manifest = part(opened, indices, shard_size)
    names = {entry["name"] for entry in manifest.sources}
    dropped = [entry["name"] for entry in opened.sources if entry["name"] not in names]
    if dropped:
        err.print(f"left out {len(dropped)} sources that no sample was drawn among: {', '.join(dropped)}")
    _gather(manifest, [opened], target, None, cluster, workers, card)


def _gather(
    manifest: "Manifest",
    corpora: "Sequence[Corpus]",
    target: str,
    sources: Path | None,
    cluster: str,
    workers: int | None,
    card: bool,
) -> None:
    from synth.convert.assemble import gather

    outcome = make_shards(
        target, manifest, range(manifest.shard_count),
        lambda progress, say: gather(manifest, corpora, target, sources, cluster, workers, progress, say),
    )  # fmt: skip
    describe(target, card)
    out.print(
        f"{target}: {len(manifest)} samples of {len(manifest.sources)} sources, {manifest.layout}, "
        f"in {manifest.shard_count} shards ({outcome.kept} kept from before)",
    )
    out.print(f"next: synth verify {target}; synth info {target}")
