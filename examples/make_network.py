"""Make the network that comes with the software, of scans whose licences let weights be passed on.

Runs the commands a user would type, prints each, and leaves weights and card in `train/shipped`. One thread from the
first to the last: the same scans then give the same weights. `make network` calls it; docs/network.md has the scans.
"""

import argparse
import functools
import os
import shutil
import sys
from pathlib import Path

import commands

SHIPPED = Path("train/shipped")
CATALOG, DATASET, HELD_OUT = "catalogs/network.yaml", "open-flair", "open-flair--ms26"
SIZE, SAMPLES, STEPS, WIDTH = 48, 1024, 800, 8
# Every ingredient of `compound` is on, as when this network was made; a FLAIR brain's default has its contrast alone.
INGREDIENTS = (
    "parts.core=0.15", "parts.cavity=0.2", "parts.ring=0.15", "parts.border_mm=2", "edge.width_mm=[1.5,5]",
    "edge.diffuse=0.35", "tissue.own=0.5", "tissue.grain_mm=1.5", "foci.several=0.1", "distractors.spots=0.33",
    "distractors.caps=0.2", "empty=0.05",
)  # fmt: skip
DEVELOPMENT = ("catalogs/dev.yaml", "dev-flair-tumour")  # scored for the card where it is at hand


run = functools.partial(commands.run, without="no network was made", OMP_NUM_THREADS="1")


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/network"), help="folder of all that is made on the way")
    out = parser.parse_args().out
    if not os.environ.get("NETWORK_DATA"):
        sys.exit(
            "error: set NETWORK_DATA to the folder of the scans; docs/network.md says which, and where they are from"
        )
    sources, corpus, other, trained = (str(out / n) for n in ("sources.zarr", "corpus.zarr", "other.zarr", "run"))
    shared, evaluation = out / "shared", out / "evaluation"
    run("synth", "prepare", "--catalog", CATALOG, "--dataset", DATASET, "--out", sources, "--size", str(SIZE))
    on = [part for setting in INGREDIENTS for part in ("--set", setting)]
    run("synth", "generate", "--sources", sources, "--out", corpus, "-n", str(SAMPLES), "--seed", "1", *on)
    run("synth", "generate", "--sources", sources, "--out", other, "-n", "128", "--seed", "2", "--generator", "smooth")
    run("train", "pretrain", "--corpus", corpus, "--validation-corpus", other, "--out", trained, "--steps", str(STEPS),
        "--width", str(WIDTH), "--validation-sources", HELD_OUT, "--checkpoint-every", "200", "--precision", "fp32",
        "--device", "cpu", "--resume")  # fmt: skip
    scored = []
    if os.environ.get("DEV_DATA"):
        catalog, dataset = DEVELOPMENT
        run("train", "evaluate", "--checkpoint", f"{trained}/best.safetensors", "--catalog", catalog,
            "--dataset", dataset, "--out", str(evaluation))  # fmt: skip
        scored = ["--evaluation", str(evaluation)]
    run("train", "export", "--checkpoint", f"{trained}/best.safetensors", "--out", str(shared), "--name", "flair",
        "--licence", "CC-BY-4.0", "--force", *scored)  # fmt: skip
    shutil.rmtree(SHIPPED, ignore_errors=True)
    shutil.copytree(shared, SHIPPED)
    print(f"\n{SHIPPED}: {', '.join(sorted(path.name for path in SHIPPED.iterdir()))}")


if __name__ == "__main__":
    main()
