"""Segmenting many scans: scans a minute, what a scan takes of the processor, and how much of that is the network's.

    python -m benchmarks.segmenting scans [--pattern '{case}_flair.nii.gz'] [--roi '{case}_brain.nii.gz']
        [--tree OTHER_CHECKOUT] [--out segmenting.md]

The command itself is run, on all scans and on the first alone; a figure is the difference, so that starting Python does
not count, and the median over rounds. Other checkouts take turns with this one. After that the steps of a scan are
taken one after the other in this process, on one thread.
"""

import argparse
import datetime
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from scans.image.volume import write_volume
from train.inference.model import Model, decompose, load_model, mask_in_scan, prepare_for
from train.inference.named_network import checkpoint_or_shipped
from train.segmentation.inputs import Input, find_inputs
from train.segmentation.outputs import Options
from train.segmentation.scan_steps import read_input


def run(tree: Path, inputs: list[Input], checkpoint: Path) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of the command of a checkout."""
    given = [part for one in inputs if one.roi for part in ("--roi", str(one.roi))]
    given += [str(one.scans[0]) for one in inputs]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "train.cli", "segment", "--checkpoint", str(checkpoint), "--out", out, *given]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, used


def a_scan(tree: Path, inputs: list[Input], checkpoint: Path) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of one scan more."""
    (all_s, all_cpu), (one_s, one_cpu) = run(tree, inputs, checkpoint), run(tree, inputs[:1], checkpoint)
    return (all_s - one_s) / (len(inputs) - 1), (all_cpu - one_cpu) / (len(inputs) - 1)


def steps(model: Model, inputs: list[Input]) -> dict[str, float]:
    """Return the CPU seconds of each step of a scan, the mean over scans."""
    taken: dict[str, float] = defaultdict(float)

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        began = time.process_time()
        result = function(*arguments)
        taken[name] += (time.process_time() - began) / len(inputs)
        return result

    with tempfile.TemporaryDirectory() as out:
        for one in inputs:
            volumes, roi = step("read", read_input, model, one, Options())
            prepared = step("prepare", prepare_for, model, volumes, roi, one.name)
            found = step("network", decompose, model, prepared)
            share = step("read out", found.share, model.reading, prepared[0])
            mask = step("bring back", mask_in_scan, model, share, prepared[0])
            step("write", partial(write_volume, quick=True), mask, Path(out) / "mask.nii.gz", one.scans[0])
    return dict(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", default="{case}_flair.nii.gz")
    parser.add_argument("--roi", help="ROI masks likewise; scans without one are then left out")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tree", type=Path, action="append", default=[], help="another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    checkpoint = checkpoint_or_shipped(given.checkpoint)
    torch.set_num_threads(1)
    model = load_model(checkpoint)
    rois = [given.roi] if given.roi else []
    inputs = find_inputs([given.folder], model.modalities, Path("none"), patterns=[given.pattern], rois=rois)
    inputs = [one for one in inputs if not one.problem and (one.roi is None or one.roi.exists())]
    trees = [*given.tree, Path(__file__).parents[1]]
    figures: dict[Path, list[tuple[float, float]]] = {tree: [] for tree in trees}
    for _ in range(given.rounds):
        for tree in trees:
            figures[tree].append(a_scan(tree, inputs, checkpoint))
    medians = {
        tree: [statistics.median(numbers) for numbers in zip(*each, strict=True)] for tree, each in figures.items()
    }
    steps(model, inputs[:1])
    taken = steps(model, inputs)
    lines = [
        f"# Segmenting many scans, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "",
        f"{machine()}, torch {torch.__version__}, {model.machine}, {len(inputs)} scans, {given.rounds} rounds",
        "",
        "| checkout | scans a minute | CPU seconds a scan |",
        "|---|---|---|",
        *(f"| {tree.name} | {60 / seconds:.0f} | {cpu:.2f} |" for tree, (seconds, cpu) in medians.items()),
        "",
        "| step, one after the other, one thread | CPU ms a scan |",
        "|---|---|",
        *(f"| {name} | {1000 * seconds:.0f} |" for name, seconds in taken.items()),
        "",
        f"The network's share: {taken['network'] / sum(taken.values()):.0%}",
    ]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
