"""Milliseconds a sample by stage, beside the copy of its five arrays; then whole runs with 1, 2, 4 ... workers.

    python -m benchmarks.synthesis --sources sources.zarr [--out benchmarks/results/synthesis.md]

Medians of one core. The figures of others were taken on another day; the ratio to the copy is of this very run, and the
one to compare between machines.
"""

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from synth.compose import make_texture, make_tumour, paste
from synth.generate import generate, make_plan
from synth.recipe import draw_recipe
from synth.sample import Sample
from synth.shard_writer import ShardWriter
from synth.shards import create
from synth.sources import SourceStore
from synth.worker import make_shard

ELSEWHERE = {  # ms a sample at 128 voxels, on one core
    "the authors' generator": 1460.0,
    "the CVPR 2023 liver generator, image and mask only": 95.0,
    "a first sketch of ours": 39.0,
}
WARM = 3  # samples that warm kernels and caches up


class Clock:
    """Times of named actions, in ms."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    def __call__(self, name: str, action: Callable[..., Any], *arguments: object) -> Any:
        began = time.perf_counter()
        result = action(*arguments)
        self.taken.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
        return result

    def median(self, name: str) -> float:
        return statistics.median(self.taken[name])


def fill(arrays: list[np.ndarray], sample: Sample) -> None:
    """Complete the five float32 arrays that training would see: the mask as numbers, alpha at every voxel."""
    arrays[3][:] = sample.mask
    arrays[4].fill(sample.alpha)


def copy(arrays: list[np.ndarray], into: list[np.ndarray]) -> None:
    for array, target in zip(arrays, into, strict=True):
        target[:] = array


def stages(store: SourceStore, samples: int) -> Clock:
    """Time each stage over the same samples, one process, sources in memory."""
    sources = [store.load(name) for name in store.names]
    settings = store.region.synthesis
    for source in sources:
        _ = source.layer, source.roi_count
    plan = make_plan(store, samples + WARM, 1, shard_size=samples + WARM)
    five = [np.zeros((store.size,) * 3, np.float32) for _ in range(5)]
    target = [np.zeros_like(array) for array in five]
    out = Sample(five[0], five[1], five[2], np.zeros(five[0].shape, np.uint8), 0.0)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        create(Path(folder) / "c.zarr", plan)
        writer = ShardWriter(Path(folder) / "c.zarr", 0, plan.shard_size, plan.size, plan.identity)
        with writer:
            for index in range(samples + WARM):
                if index == WARM:
                    clock.taken.clear()
                recipe = clock("shape", draw_recipe, sources.__getitem__, len(sources), settings, 1, index)
                normal, donor = sources[recipe.normal], sources[recipe.donor]
                tumour = clock("tumour", make_tumour, recipe, normal, donor, settings)
                out = clock("paste", paste, normal, tumour, out)
                clock("fill", fill, five, out)
                clock("copy", copy, five, target)
                clock("texture", make_texture, recipe, normal, donor, settings, tumour.box, tumour.mask)
                clock("encode", writer.encode, normal, tumour)
                clock("add", writer.add, recipe, normal, tumour)
            began = time.perf_counter()
            writer.commit()
            clock.taken["commit"] = [(time.perf_counter() - began) * 1e3 / (samples + WARM)]
        began = time.perf_counter()
        make_shard(store.path, Path(folder) / "c.zarr", 0)  # the whole task, as a worker runs it
        clock.taken["task"] = [(time.perf_counter() - began) * 1e3 / (samples + WARM)]
    return clock


def worker_start(store: SourceStore) -> tuple[float, float]:
    """Return seconds until a fresh process has made its first sample's box, and its peak memory in MB after a shard."""
    plan = make_plan(store, 64, 1)
    with tempfile.TemporaryDirectory() as folder:
        create(Path(folder) / "c.zarr", plan)
        code = (
            "import time; began = time.perf_counter()\n"
            "import resource, sys\nfrom pathlib import Path\n"
            "from synth.worker import make_shard\nfrom synth.compose import make_tumour\n"
            "from synth.recipe import draw_recipe\nfrom synth.sources import SourceStore\n"
            "store = SourceStore(sys.argv[1])\nload = lambda i: store.load(store.names[i])\n"
            "settings = store.region.synthesis\n"
            "recipe = draw_recipe(load, len(store), settings, 1, 0)\n"
            "make_tumour(recipe, load(recipe.normal), load(recipe.donor), settings)\n"
            "print(time.perf_counter() - began)\n"
            "make_shard(Path(sys.argv[1]), Path(sys.argv[2]), 0)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)\n"
        )
        command = [sys.executable, "-c", code, str(store.path), str(Path(folder) / "c.zarr")]
        seconds, memory = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split()
    return float(seconds), float(memory)


def runs(store: SourceStore, samples: int, most: int) -> list[tuple[int, float]]:
    """Return samples a second of whole runs: start-up left out, writing included."""
    rates = []
    workers = 1
    while workers <= most:
        with tempfile.TemporaryDirectory() as folder:
            plan = make_plan(store, samples * workers, 1, shard_size=32)
            ends: list[float] = []
            generate(
                plan, store.path, Path(folder) / "c.zarr", workers=workers,
                finished=lambda step, ends=ends: ends.append(time.perf_counter()),
            )  # fmt: skip
        skipped = 2 * workers  # shards that share in starting up
        rates.append((workers, 32 * (len(ends) - skipped) / (ends[-1] - ends[skipped - 1])))
        workers *= 2
    return rates


def report(store: SourceStore, samples: int, workers: int) -> str:
    clock = stages(store, samples)
    limit = clock.median("copy")
    sample = clock.median("shape") + clock.median("tumour") + clock.median("paste") + clock.median("fill")
    encode, write = clock.median("encode"), clock.median("add") - clock.median("encode") + clock.median("commit")
    rows = {
        "shape (recipe, form, voxels, place)": clock.median("shape"),
        "texture (elastic, blur, Eq. 4)": clock.median("texture"),
        "blend (Eq. 5, in the tumour's box)": clock.median("tumour") - clock.median("texture"),
        "five float32 arrays filled": clock.median("paste") + clock.median("fill"),
        "**sample: sources in memory to five arrays**": sample,
        "encode (lz4, zstd, CRC-32C)": encode,
        "write (SHA-256, digest, file, flush)": write,
        "**the task: samples made, encoded, written**": clock.median("task"),
        "copy of five float32 arrays (the limit)": limit,
    }
    seconds, memory = worker_start(store)
    mapped = len(store) * (2 * 4 + 2) * store.size**3 / 1e6
    rates = runs(store, samples * 4, workers)
    lines = [
        f"# Synthesis, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "",
        f"{machine()}; Python {platform.python_version()}, NumPy {np.__version__}; {len(store)} sources of "
        f"{store.region.name} at {store.size} voxels; medians of {samples} samples, one core.",
        "",
        "| stage | ms | of the copy |",
        "|---|---|---|",
        *(f"| {name} | {ms:.1f} | {ms / limit:.1f} |" for name, ms in rows.items()),
        "",
        "| beside | ms | this sample is faster by |",
        "|---|---|---|",
        *(f"| {name} | {ms:.0f} | {ms / sample:.1f} |" for name, ms in ELSEWHERE.items()),
        "",
        "| workers | samples/s, written | against one |",
        "|---|---|---|",
        *(f"| {n} | {rate:.1f} | {rate / rates[0][1]:.2f} |" for n, rate in rates),
        "",
        f"A fresh process makes its first tumour after {seconds:.1f} s; after a shard of 64 its peak is "
        f"{memory:.0f} MB, of which {mapped:.0f} MB are sources, shared by all workers of the machine.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="scaling up to so many")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = report(SourceStore(arguments.sources), arguments.samples, arguments.workers)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
