"""Commands by which corpora and packs go to a hub and come from it: push, pull."""

from pathlib import Path
from typing import Annotated

import typer

from scans.terminal import BranchOption, PrivateOption, PushMessageOption, RevisionOption, err, out
from synth.cli.application import app, bar, say


@app.command()
def push(
    what: Annotated[
        str, typer.Argument(help="A corpus in a folder, or a file made by synth pack.", metavar="CORPUS|PACK")
    ],
    url: Annotated[str, typer.Argument(help="Where to: hf://datasets/org/name.", metavar="URL")],
    private: PrivateOption = False,
    revision: BranchOption = None,
    message: PushMessageOption = "",
) -> None:
    """Send a corpus or a pack to a hub, with its card; what is there already is not sent again.

    Example: `synth push corpus.zarr hf://datasets/org/name --private`. Refused where the terms of a scan forbid it.
    Log in before, with `hf auth login` or HF_TOKEN. Stopped or killed, the same command goes on; it ends by comparing
    every file on the hub with the one here.
    """
    from synth.share.push import push as run

    with bar("files") as progress:
        pushed = run(what, url, revision=revision, private=private, message=message, progress=progress)
    there = pushed.files - pushed.sent
    out.print(f"{pushed.address}: {pushed.files} files, all as here ({there} were there already)")
    out.print(f"next: read its page; elsewhere: synth pull {pushed.address} {Path(what).name}")


@app.command()
def pull(
    url: Annotated[str, typer.Argument(help="hf://datasets/org/name, or one pack in it.", metavar="URL")],
    place: Annotated[str, typer.Argument(help="The folder to make of a corpus, or the file of a pack.", metavar="OUT")],
    revision: RevisionOption = None,
) -> None:
    """Fetch a corpus or a pack from a hub, and check every file in it.

    Example: `synth pull hf://datasets/org/name corpus.zarr --revision v1`. It appears under its name only when all of
    it is there and right. Stopped or killed, the same command goes on.
    """
    from synth.share.pull import pull as run

    say(f"fetching {url}")
    pulled = run(url, place, revision)
    for path in pulled.left_out:
        err.print(f"left out {ascii(path)[1:-1]}: no part of the corpus", style="yellow")
    what = "the recipes of " if pulled.kind == "recipes" else ""
    out.print(f"{place}: {what}{len(pulled.manifest)} samples, every checksum right; {pulled.address}")
    follow = {
        "corpus": f"synth info {place}; train pretrain --corpus {place} --out runs/first",
        "pack": f"synth unpack {place} --out corpus.zarr",
        "recipes": f"synth rehydrate {place} --sources sources.zarr --out corpus.zarr",
    }
    out.print(f"next: {follow[pulled.kind]}")
