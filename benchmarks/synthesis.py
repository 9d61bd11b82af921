"""Milliseconds a sample, by stage, beside the copy of its five arrays.

    python -m benchmarks.synthesis --sources sources.zarr [--out benchmarks/results/synthesis.md]

One core, medians; the ratio to the copy is of this very run, and the figure to compare between machines.
"""

import argparse
import datetime
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from synth.compose import make_sample, make_texture
from synth.generate import make_plan
from synth.place import Stamp
from synth.recipe import Recipe, draw_recipe
from synth.sample import Sample
from synth.shape import make_form
from synth.shards import Assembly, create, write_shard
from synth.sources import Source, SourceStore


def timed(action: Callable[[], object]) -> tuple[object, float]:
    began = time.perf_counter()
    result = action()
    return result, (time.perf_counter() - began) * 1e3


def copy(sample: Sample) -> list[np.ndarray]:
    return [np.array(v) for v in (sample.composite, sample.normal, sample.texture, sample.mask.astype(np.float32))] + [
        np.full(sample.normal.shape, sample.alpha, np.float32)
    ]


def measure(store: SourceStore, samples: int) -> dict[str, float]:
    """Return the median milliseconds of each stage."""
    sources: list[Source] = [store.load(name) for name in store.names]
    settings = store.region.synthesis
    for source in sources:
        _ = source.normal, source.roi_count
    taken: dict[str, list[float]] = {}
    assembly = Assembly()
    for index in range(-2, samples):  # the first two warm the kernels up
        seed_index = index + 2
        recipe, drawn = timed(lambda i=seed_index: draw_recipe(sources.__getitem__, len(sources), settings, 1, i))
        assert isinstance(recipe, Recipe)
        normal, donor = sources[recipe.normal], sources[recipe.donor]
        (box, mask), shaped = timed(lambda r=recipe, n=normal: shape(r, n, settings))
        _, textured = timed(lambda r=recipe, n=normal, d=donor, b=box, m=mask: make_texture(r, n, d, settings, b, m))
        sample, made = timed(lambda r=recipe, n=normal, d=donor: make_sample(r, n, d, settings))
        assert isinstance(sample, Sample)
        _, copied = timed(lambda s=sample: copy(s))
        if index >= 0:
            assembly.add(recipe, sample, normal.normal)
            stages = {"recipe (shape and place)": drawn, "shape": shaped, "texture": textured,
                      "sample (shape, texture, blend)": made, "copy of five float32 arrays": copied}  # fmt: skip
            for name, duration in stages.items():
                taken.setdefault(name, []).append(duration)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    plan = make_plan(store, samples, 1, shard_size=samples)
    with tempfile.TemporaryDirectory() as folder:
        create(Path(folder) / "c.zarr", plan)
        _, written = timed(lambda: write_shard(Path(folder) / "c.zarr", plan, 0, assembly))
    medians["encode and write, a sample of the shard"] = written / samples
    return medians


def shape(recipe: Recipe, normal: Source, settings) -> tuple:
    form = make_form(
        recipe.volume_mm3, recipe.axis_ratio, recipe.rotation, recipe.octaves, settings.shape.amplitude,
        recipe.noise_seed,
    )  # fmt: skip
    return Stamp(form, normal.roi, normal.spacing_mm, settings.elastic, recipe.elastic_seed).place(recipe.centre)[:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    store = SourceStore(arguments.sources)
    medians = measure(store, arguments.samples)
    limit = medians["copy of five float32 arrays"]
    lines = [
        f"# Synthesis, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, one used; Python {platform.python_version()}; "
        f"{len(store.names)} sources of {store.region.name} at {store.size} voxels; "
        f"median of {arguments.samples} samples.",
        "",
        "| stage | ms | ratio to the copy |",
        "|---|---|---|",
        *(f"| {name} | {ms:.1f} | {ms / limit:.1f} |" for name, ms in medians.items()),
        "",
        "A corpus costs the recipe, the sample and the writing of each.",
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
