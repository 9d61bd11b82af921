"""Commands by which labs share corpora: pack, unpack, rehydrate."""

from pathlib import Path
from typing import Annotated

import typer

from scans.catalog.shipped import DEFAULT_CATALOG
from scans.errors import CatalogError
from scans.terminal import CatalogOption, err, out
from synth.cli import application as shared
from synth.cli.application import app, bar, describe, make_shards, say

PackArgument = Annotated[Path, typer.Argument(help="The file made by synth pack.", metavar="PACK")]


@app.command()
def pack(
    corpus: shared.CorpusArgument,
    path: Annotated[str, typer.Option("--out", help="The file to write, e.g. corpus.zip.")],
    recipes: Annotated[
        bool, typer.Option("--recipes", help="No pixels: only what another lab needs to make it from the same scans.")
    ] = False,
) -> None:
    """Put a corpus into one file to hand on: a ZIP that holds a BagIt bag, with a checksum of every file.

    Example: `synth pack corpus.zarr --out corpus.zip`. Refused where the terms of a scan forbid it; then
    `synth pack corpus.zarr --recipes --out corpus-recipes.zip` packs recipes, settings, and names and hashes of the
    scans, but not one voxel.
    """
    from scans.durations import size_of
    from synth.share.pack import pack as pack_corpus
    from synth.share.recipe_pack import pack_recipes

    with bar("files") as progress:
        written = (pack_recipes if recipes else pack_corpus)(corpus, path, progress)
    for key in written.left_out:
        err.print(f"left out {ascii(key)[1:-1]}: no part of the corpus", style="yellow")
    what = f"the recipes of {written.samples} samples" if recipes else f"{written.samples} samples"
    size = size_of(written.bytes) if written.bytes >= 1e6 else f"{written.bytes / 1e3:.0f} kB"
    out.print(f"{path}: {what}, {size}{'' if written.new else ' (was there already)'}")
    follow = f"synth rehydrate {path} --sources sources.zarr" if recipes else f"synth unpack {path}"
    out.print(f"next, on the other machine: {follow} --out corpus.zarr")


@app.command()
def unpack(
    path: PackArgument,
    corpus: Annotated[str, typer.Option("--out", help="The corpus to make: a folder or a URL.")],
) -> None:
    """Take a corpus out of a pack, after checking every file in it.

    Example: `synth unpack corpus.zip --out corpus.zarr`. If anything in it is not as it must be, nothing is written.
    """
    from synth.share.unpack import unpack as unpack_corpus

    with bar("files") as progress:
        manifest = unpack_corpus(path, corpus, progress)
    out.print(f"{corpus}: {len(manifest)} samples, every checksum right")
    out.print(f"next: synth info {corpus}; train pretrain --corpus {corpus} --out runs/first")


@app.command()
def rehydrate(
    path: PackArgument,
    sources: Annotated[Path, typer.Option(help="The store of sources, made by synth prepare or by this command.")],
    corpus: Annotated[str, typer.Option("--out", help="The corpus to make, or to finish: a folder or a URL.")],
    layout: Annotated[str | None, typer.Option(help="`layered` or `dense`; that of the original if not given.")] = None,
    catalog: CatalogOption = DEFAULT_CATALOG,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", help="Prepare this dataset first, as the original's was; give several times."),
    ] = None,
    pseudo_labels: shared.PseudoLabelsOption = None,
    card: shared.CardOption = True,
    cluster: shared.ClusterOption = "local",
    workers: shared.WorkersOption = None,
) -> None:
    """Make a corpus again from a pack of its recipes and your own copy of the scans, and say whether it is the same.

    Example: `synth rehydrate corpus-recipes.zip --dataset OASIS --sources sources.zarr --out corpus.zarr`. Scans that
    differ or lack are named, and nothing is made. Stopped or killed, the same command goes on where it was.
    """
    from synth.generate.plan import arranged
    from synth.share.match_sources import unmatched
    from synth.share.recipe_pack import Recipes
    from synth.share.rehydrate import compare, prepare_for
    from synth.share.rehydrate import rehydrate as make
    from synth.sources.reader import SourceStore

    recipes = Recipes(path)
    manifest = arranged(recipes.manifest, layout)
    if dataset:
        from scans.catalog.catalog import load_catalog

        loaded = load_catalog(catalog)
        with bar("scans") as progress:
            report = prepare_for(recipes, loaded, dataset, sources, cluster, workers, progress, say, pseudo_labels)
        for case, sentence in report.failed:
            err.print(f"left out {case}: {sentence}", style="yellow")
    elif not sources.exists():
        raise CatalogError(
            f"{sources}: no sources here; give --dataset NAME and --catalog to prepare them as the original's were"
        )
    if missing := unmatched(manifest, SourceStore(sources, manifest.statistics)):
        for source in missing:
            err.print(f"{source.outcome}: {source.name}: {source.reason}", style="red")
        err.print(
            f"nothing is made: {len(missing)} of {len(manifest.sources)} scans do not match; put them right, then run "
            f"it again with --dataset NAME, which prepares them as the original's were",
        )
        raise typer.Exit(1)
    shards = range(manifest.shard_count)
    make_shards(
        corpus, manifest, shards,
        lambda progress, say: make(path, sources, corpus, layout, cluster, workers, progress, say)[0],
    )  # fmt: skip
    found = compare(recipes, corpus)
    if found.differing:
        named = ", ".join(map(str, found.differing[:12])) + (" and others" if len(found.differing) > 12 else "")
        err.print(f"{corpus}: {len(found.differing)} of {found.shards} shards differ from the original: {named}")
        raise typer.Exit(1)
    describe(corpus, card)
    files = "its files byte for byte" if found.same_files else "its samples, though its files are written otherwise"
    out.print(f"{corpus}: identical: all {found.shards} checksums are those of the original, {files}")
    out.print(f"next: synth verify {corpus}; train pretrain --corpus {corpus} --out runs/first")
