"""A second network, which learns also from real tumours that a first one marked: no annotation is needed.

Runs the commands a user would type, prints each. Stopped or killed, the same command goes on where it was.
`make second-network` calls it; docs/pseudo-labels.md says when it helps.
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import commands

MIXTURE = ("compound:0.7", "layers:0.3")  # artificial tumours; real ones, by the generator that lays them as they are
# Real tumours are laid as opaquely as compound's, and their edges blurred: a mask of a network is a guess there, and a
# sharp seam is what a second network would learn to find.
AS_LAID = ("layers:alpha=[0.6,1.0]", "layers:mask.soft_mm=2")


run = functools.partial(commands.run, without="the same command goes on from here")


def road(
    *, scans: str, normals: Sequence[str], catalog: str, out: Path, checkpoint: str | None, size: int, samples: int,
    steps: int, seed: int = 0, rule: Sequence[str] = (), leave_out: Sequence[str] = (), more: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Go from unlabelled scans to a second network, and return its checkpoint.

    Parameters
    ----------
    scans : str
        Dataset of scans with tumours; its labels, if it has any, are not opened.
    normals : sequence of str
        Datasets of healthy scans.
    catalog : str
    out : Path
        Folder of all that is made on the way.
    checkpoint : str or None
        The first network; None: that which comes with the software.
    size, samples, steps, seed : int
        Of the second corpus and its training.
    rule : sequence of str
        Changes of what counts as confident.
    leave_out : sequence of str
        Cases that neither network may see.
    more : sequence of str
        Options of the training.
    """
    pseudo, sources, corpus, trained = (str(out / n) for n in ("pseudo", "sources.zarr", "corpus.zarr", "run"))
    out.mkdir(parents=True, exist_ok=True)
    first = ["--checkpoint", checkpoint] if checkpoint else []
    asked = [*each("--set", rule), *each("--leave-out", leave_out)]
    # 1: a scan could not be read. It was named, and lends nothing.
    run("train", "pseudo-label", *first, "--catalog", catalog, "--dataset", scans, "--out", pseudo, *asked,
        unless=(0, 1))  # fmt: skip
    run("synth", "prepare", "--catalog", catalog, *each("--dataset", normals), "--tumours", scans,
        "--pseudo-labels", pseudo, "--out", sources, "--size", str(size), unless=(0, 1))  # fmt: skip
    run("synth", "generate", "--sources", sources, "--out", corpus, "-n", str(samples), "--seed", "1",
        *each("--generator", MIXTURE), "--lend", scans, *each("--set", AS_LAID))  # fmt: skip
    run("train", "pretrain", "--corpus", corpus, "--out", trained, "--steps", str(steps), "--seed", str(seed),
        "--resume", *more)  # fmt: skip
    return Path(trained) / "best.safetensors"


def each(option: str, values: Sequence[str]) -> list[str]:
    """Return an option once for each value."""
    return [part for value in values for part in (option, value)]


def parser_of(description: str | None, out: Path, size: int, samples: int, steps: int) -> argparse.ArgumentParser:
    """Return a parser of what the road needs, with these defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--scans", required=True, help="dataset of scans with tumours, annotated or not")
    parser.add_argument("--normals", required=True, action="append", help="dataset of healthy scans")
    parser.add_argument("--catalog", default="data_catalog.yaml")
    parser.add_argument("--checkpoint", help="the first network; that which comes with the software, if not given")
    parser.add_argument("--out", type=Path, default=out, help="folder of all that is made on the way")
    parser.add_argument("--size", type=int, default=size, help="voxels along each side of the cube")
    parser.add_argument("--samples", type=int, default=samples)
    parser.add_argument("--steps", type=int, default=steps)
    return parser


def main() -> None:
    """Make it."""
    parser = parser_of(__doc__, Path("out/second"), size=128, samples=10_000, steps=20_000)
    parser.add_argument("--set", action="append", default=[], help="change a bound of what counts as confident")
    parser.add_argument("--leave-out", action="append", default=[], help="a case to score on: nothing sees it")
    asked, more = parser.parse_known_args()  # what is left goes to the training: --width 16, say
    made = road(
        scans=asked.scans, normals=asked.normals, catalog=asked.catalog, out=asked.out, checkpoint=asked.checkpoint,
        size=asked.size, samples=asked.samples, steps=asked.steps, rule=asked.set, leave_out=asked.leave_out, more=more,
    )  # fmt: skip
    print(f"\nthe second network: {made}")
    print(f"next: train segment --checkpoint {made} scan.nii.gz; with annotated scans, train evaluate both networks")


if __name__ == "__main__":
    main()
