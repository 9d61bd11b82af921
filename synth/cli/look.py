"""Commands that look at a corpus: info, verify, show, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from scans.durable import write_bytes
from scans.errors import UserError
from scans.hub.address import at_revision
from scans.terminal import RevisionOption, facts, out
from synth.cli.application import CorpusArgument, app, bar

if TYPE_CHECKING:
    from synth.corpus import Corpus


@app.command()
def info(corpus: CorpusArgument, revision: RevisionOption = None) -> None:
    """Say what a corpus holds: samples, sources, settings, hash.

    Example: `synth info corpus.zarr`
    """
    from synth.corpus import Corpus

    opened = Corpus(at_revision(corpus, revision), partial=True)
    sizes = opened.store.sizes()
    of_sources = sum(size for key, size in sizes.items() if key.startswith("sources/"))
    size = sum(sizes.values())
    made = sum(receipt.samples for receipt in opened.receipts.values())
    seeds = dict.fromkeys(str(generation.seed) for generation in opened.manifest.generations)
    told = {
        "samples": f"{len(opened)} of {opened.size}³ voxels",
        "shards": f"{len(opened.receipts)} of {opened.shard_count} finished, {opened.shard_size} samples each",
        "layout": opened.layout,
        "on disk": f"{size / 1e6:.1f} MB, of it {(size - of_sources) / max(made, 1) / 1e3:.0f} kB a sample",
        "region": f"{opened.region['name']} ({opened.region['modality']})",
        "seed": ", ".join(seeds),
        "identity": opened.identity,
        "content": opened.content_hash,
    }
    out.print(facts(told))
    there = [opened.manifest.indices(shard) for shard in sorted(opened.receipts)]
    samples = np.concatenate([np.arange(part.start, part.stop) for part in there]) if there else np.zeros(0, int)
    normal, donor = opened.normal[samples], opened.donor[samples]
    sources = Table("source", "voxel (z, y, x) mm", "normal in", "donor in", "licence", box=None)
    for position, source in enumerate(opened.sources):
        sources.add_row(
            source["name"],
            " × ".join(f"{side:.2f}" for side in source["spacing_mm"]),
            str(int((normal == position).sum())),
            str(int((donor == position).sum())),
            source["licence"],
        )
    out.print(sources)


@app.command()
def verify(
    corpus: CorpusArgument,
    samples: Annotated[int | None, typer.Option(help="Recompute only about so many samples; all if not given.")] = None,
    revision: RevisionOption = None,
) -> None:
    """Check structure, checksums, recipes, and Eq. 5 recomputed on the samples.

    Example: `synth verify corpus.zarr`. Names every damaged, missing or foreign piece and exits with 1.
    """
    from synth.corpus.verify import read_manifest
    from synth.corpus.verify import verify as check
    from synth.store.opening import open_store

    corpus = open_store(at_revision(corpus, revision)).where
    total = len(read_manifest(open_store(corpus))[0])
    with bar("samples") as progress:
        findings = check(corpus, samples, lambda _index: progress(1, min(samples or total, total)))
    for finding in findings:
        out.print(str(finding), style="red")
    if findings:
        raise typer.Exit(1)
    out.print(f"{corpus}: sound")


@app.command()
def show(
    corpus: CorpusArgument,
    index: Annotated[list[int] | None, typer.Option("-i", "--index", help="A sample; give several times.")] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Make a page to look into the volumes: slices, layers, opacity.")
    ] = False,
    target: Annotated[
        Path | None, typer.Option("--out", help="The PNG or, with --page, the HTML; CORPUS.png beside it, or here.")
    ] = None,
    revision: RevisionOption = None,
) -> None:
    """Draw samples: three planes of composite, normal, texture and mask contour, with the recipe's numbers.

    Example: `synth show corpus.zarr -i 0 -i 7 --out samples.png`. With `--page` a browser shows whole volumes, offline:
    `synth show corpus.zarr -i 0 -i 7 --page --out samples.html`
    """
    from synth.corpus import Corpus
    from synth.report.montage import montage_png
    from synth.report.sample_page import sample_page

    opened = Corpus(at_revision(corpus, revision))
    indices = _indices(opened, corpus, index) or list(range(min(3, len(opened))))
    name = Path(corpus.rstrip("/").rpartition("/")[2] if "://" in corpus else corpus)
    target = target or name.with_suffix(".html" if page else ".png")
    write_bytes(target, sample_page(opened, indices).encode() if page else montage_png(opened, indices))
    out.print(f"wrote {target}")


@app.command()
def export(
    corpus: CorpusArgument,
    folder: Annotated[
        Path, typer.Option("--out", help="The folder to write into; for nnunet that of raw datasets, nnUNet_raw.")
    ],
    form: Annotated[
        str, typer.Option("--format", help="`nifti`, or `nnunet`: a dataset that nnU-Net v2 trains on.")
    ] = "nifti",
    index: Annotated[list[int] | None, typer.Option("-i", "--index", help="A sample; give several times.")] = None,
    source: Annotated[str | None, typer.Option(help="Only samples whose normal is this source.")] = None,
    most: Annotated[
        int | None,
        typer.Option(help="At most so many samples, if none is given by -i; if not given, 10, and all for nnunet."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="For nifti: write normal and texture too.")] = False,
    dataset_id: Annotated[
        int | None, typer.Option(help="For nnunet: a number from 1 to 999 that no other dataset has; 500 if not given.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="For nnunet: the dataset's name; that of the region if not given.")
    ] = None,
    revision: RevisionOption = None,
) -> None:
    """Write samples for other tools: as NIfTI, to look at or to evaluate like a real case, or as nnU-Net's dataset.

    Example: `synth export corpus.zarr --out nifti -i 0 -i 7`, or
    `synth export corpus.zarr --format nnunet --out $nnUNet_raw --dataset-id 500 --name BrainTumour`.
    Stopped or killed, the same command with `--format nnunet` goes on with the cases that are missing.
    """
    from synth.convert.nifti import export_nifti
    from synth.convert.nnunet import DATASET_ID, plan_dataset, write_dataset
    from synth.corpus import Corpus

    if form not in ("nifti", "nnunet"):
        raise UserError(f"--format {form}: give nifti or nnunet")
    if form == "nifti" and (dataset_id, name) != (None, None):
        raise UserError("--dataset-id and --name belong to a dataset of nnU-Net; give --format nnunet as well")
    if form == "nnunet" and layers:
        raise UserError(
            "--layers: nnU-Net learns the mask from the composite alone; leave it off, or give --format nifti"
        )
    if most is not None and most < 1:
        raise UserError(f"--most {most}: ask for at least one sample")
    opened = Corpus(at_revision(corpus, revision))
    names = [entry["name"] for entry in opened.sources]
    if source is not None and source not in names:
        raise UserError(f"--source {source}: {corpus} has {', '.join(names)}")
    most = 10 if most is None and form == "nifti" else most
    chosen = (
        _indices(opened, corpus, index)
        or [i for i in range(len(opened)) if source is None or names[opened.normal[i]] == source][:most]
    )
    if not chosen:
        raise UserError(f"--source {source}: no sample of {corpus} has it as its normal")
    if form == "nifti":
        with bar("samples") as progress:
            export_nifti(opened, chosen, folder, layers, lambda count: progress(count, len(chosen)))
        out.print(f"wrote {len(chosen)} samples to {folder}")
        return
    number = DATASET_ID if dataset_id is None else dataset_id
    dataset = plan_dataset(opened, chosen, folder, number, name)
    with bar("samples") as progress:
        written = write_dataset(opened, dataset, lambda count: progress(count, len(dataset.cases)))
    out.print(f"{dataset.folder}: {len(dataset.cases)} samples ({written.kept} kept from before)")
    out.print(f"splits_final.json: {written.note}")
    out.print(
        f"next: nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity; "
        f"cp {dataset.folder}/splits_final.json $nnUNet_preprocessed/{dataset.folder.name}/; "
        f"nnUNetv2_train {number} 3d_fullres 0",
    )


def _indices(corpus: "Corpus", path: str, given: list[int] | None) -> list[int]:
    for index in given or []:
        if not 0 <= index < len(corpus):
            raise UserError(f"-i {index}: {path} has samples 0 to {len(corpus) - 1}")
    return given or []
