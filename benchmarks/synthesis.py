"""Milliseconds a sample by stage, beside the copy of its five arrays; then whole runs with 1, 2, 4 ... workers.

    python -m benchmarks.synthesis --sources sources.zarr [--out benchmarks/results/synthesis.md]

Stages are medians of one core's time, less what other programs take of it; whole runs go by the clock, disk included.
The figures of others were taken on another day; the ratio to the copy is of this very run, and the one to compare
between machines.
"""

import argparse
import contextlib
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
import psutil

from benchmarks.machine import machine
from synth.corpus.creation import create
from synth.corpus.manifest_checks import LAYOUTS
from synth.corpus.shard_writer import ShardWriter
from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.generate.worker import make_shard
from synth.generators.layers import LAYERS
from synth.generators.mixture import Mixture
from synth.generators.registry import way_of
from synth.generators.way import Way
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from synth.tumour.blend import lay, paste
from synth.tumour.compose import make_texture
from synth.tumour.sample import Normal, Sample

ELSEWHERE = {  # ms a sample at 128 voxels, on one core
    "the authors' generator": 1460.0,
    "the CVPR 2023 liver generator, image and mask only": 95.0,
    "a first sketch of ours": 39.0,
}
WARM = 3  # samples that warm kernels and caches up


class Clock:
    """The core's times of named actions, in ms."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    def __call__(self, name: str, action: Callable[..., Any], *arguments: object) -> Any:
        began = time.process_time()
        result = action(*arguments)
        self.taken.setdefault(name, []).append((time.process_time() - began) * 1e3)
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
    way = Way(LAYERS, store.region.synthesis)
    for source in sources:
        _ = source.normal, source.centres
    count = samples + WARM
    five = [np.zeros((store.size,) * 3, np.float32) for _ in range(5)]
    target = [np.zeros_like(array) for array in five]
    out = Sample(five[0], five[1], five[2], np.zeros(five[0].shape, np.uint8), 0.0)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        manifests = {
            name: make_manifest(store, 2 * count, 1, Mixture.of(way), shard_size=count, layout=name) for name in LAYOUTS
        }
        corpora = {name: open_store(Path(folder) / name) for name in LAYOUTS}
        for name in LAYOUTS:
            create(corpora[name], manifests[name], normals_of(store))
        writers = {name: opened.enter_context(ShardWriter(corpora[name], manifests[name], 0)) for name in LAYOUTS}
        for index in range(count):
            if index == WARM:
                clock.taken.clear()
            recipe = clock("shape", way.draw, sources.__getitem__, len(sources), 1, index)
            normal, donor = sources[recipe.normal], sources[recipe.donor]
            layer = clock("layer", way.make, recipe, normal, donor)
            tumour = clock("lay", lay, layer, normal.normal, recipe.alpha, way.facts.target)
            out = clock("paste", paste, normal.normal.voxels, tumour, out)
            clock("fill", fill, five, out)
            clock("copy", copy, five, target)
            clock("texture", make_texture, recipe, normal, donor, way.settings, layer.box, layer.form, tumour.mask)
            for name, writer in writers.items():
                clock(f"{name} encode", writer.encode, normal.normal, layer, tumour)
                clock(f"{name} add", writer.add, recipe.row(), normal.normal, layer, tumour)
        for name, writer in writers.items():
            clock(f"{name} commit", writer.commit)
        for name, manifest in manifests.items():  # whole tasks, as a worker runs them, one after the other
            make_shard(store.path, str(corpora[name]), manifest.identity, 1)
            clock(f"{name} task", make_shard, store.path, str(corpora[name]), manifest.identity, 0)
    for name in LAYOUTS:
        for whole in (f"{name} commit", f"{name} task"):
            clock.taken[whole] = [ms / count for ms in clock.taken[whole]]
    return clock


def normals_of(store: SourceStore) -> Callable[[int], Normal]:
    return lambda position: store.load(store.names[position]).normal


def worker_start(store: SourceStore) -> tuple[float, float]:
    """Return seconds until a fresh process has made its first tumour, and its peak memory in MB after a shard."""
    manifest = make_manifest(store, 64, 1, Mixture.of(way_of(store.region, "layers")))
    with tempfile.TemporaryDirectory() as folder:
        create(open_store(folder), manifest, normals_of(store))
        code = (
            "import time; began = time.perf_counter()\n"
            "import resource, sys\nfrom pathlib import Path\n"
            "from synth.generate.worker import make_shard\n"
            "from synth.generators.registry import way_of\nfrom synth.sources.reader import SourceStore\n"
            "sources, out, identity = sys.argv[1:]\n"
            "store = SourceStore(sources)\nload = lambda i: store.load(store.names[i])\n"
            "way = way_of(store.region, 'layers')\n"
            "recipe = way.draw(load, len(store), 1, 0)\n"
            "way.tumour(recipe, load(recipe.normal), load(recipe.donor))\n"
            "print(time.perf_counter() - began)\n"
            "make_shard(Path(sources), out, identity, 0)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)\n"
        )
        command = [sys.executable, "-c", code, str(store.path), folder, manifest.identity]
        seconds, memory = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split()
    return float(seconds), float(memory)


def runs(store: SourceStore, samples: int, most: int) -> dict[int, dict[str, tuple[float, float]]]:
    """Return the rates of whole runs by workers and layout: samples a second by the clock, and a core-second of work.

    Start-up is left out, writing included; a core-second is a second of any process of the run at work.
    """
    rates: dict[int, dict[str, tuple[float, float]]] = {}
    workers = 1
    while workers <= most:
        for layout in LAYOUTS:
            manifest = make_manifest(store, samples * workers, 1, shard_size=32, layout=layout)
            ends: list[tuple[float, float]] = []
            with tempfile.TemporaryDirectory() as folder:
                generate(
                    manifest, store.path, Path(folder) / "c.zarr", workers=workers,
                    progress=lambda step, ends=ends: ends.append((time.perf_counter(), core_seconds())),
                )  # fmt: skip
            skipped = 2 * workers  # shards that share in starting up
            clock, core = (after - before for before, after in zip(ends[skipped - 1], ends[-1], strict=True))
            made = 32 * (len(ends) - skipped)
            rates.setdefault(workers, {})[layout] = made / clock, made / core
        workers *= 2
    return rates


def core_seconds() -> float:
    """Return the seconds that this process and those below it have been at work."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def report(store: SourceStore, samples: int, workers: int) -> str:
    clock = stages(store, samples)
    limit = clock.median("copy")
    sample = sum(map(clock.median, ("shape", "layer", "lay", "paste", "fill")))
    rows = {
        "shape (recipe, form, place)": clock.median("shape"),
        "texture (elastic, blur, Eq. 4)": clock.median("texture"),
        "the layer's voxels, in the network's units": clock.median("layer") - clock.median("texture"),
        "blend (Eq. 5, in the tumour's box)": clock.median("lay"),
        "five float32 arrays filled": clock.median("paste") + clock.median("fill"),
        "**sample: sources in memory to five arrays**": sample,
    }
    for name in LAYOUTS:
        encode = clock.median(f"{name} encode")
        rows[f"{name}: encode (compression, CRC-32C)"] = encode
        rows[f"{name}: write (SHA-256, digest, file)"] = (
            clock.median(f"{name} add") - encode + clock.median(f"{name} commit")
        )
        rows[f"**{name}: the task, samples made, encoded, written**"] = clock.median(f"{name} task")
    rows["copy of five float32 arrays (the limit)"] = limit
    seconds, memory = worker_start(store)
    mapped = len(store) * (2 * 4 + 2) * store.size**3 / 1e6
    busy = psutil.cpu_percent(5) / 100 * (os.cpu_count() or 1)
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
        f"Samples a second by the clock, and a core-second of work, all written; before these runs other programs used "
        f"{busy:.1f} cores.",
        "",
        f"| workers | {' | '.join(f'{name} | of one worker | a core-second' for name in LAYOUTS)} |",
        f"|---|{'---|---|---|' * len(LAYOUTS)}",
        *(
            f"| {workers} | "
            + " | ".join(f"{c:.1f} | {c / rates[1][name][0]:.2f} | {w:.1f}" for name, (c, w) in by_layout.items())
            + " |"
            for workers, by_layout in rates.items()
        ),
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
