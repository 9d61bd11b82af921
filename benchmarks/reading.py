"""Milliseconds a tuple for each way to read a corpus, beside the bare copy; then kilobytes a tuple, array by array.

    python -m benchmarks.reading --sources sources.zarr [--out benchmarks/results/reading.md]

One core, one thread each, files in the page cache, single tuples in shuffled order. Readers take turns round by round,
so that drift hits all alike; a figure is the median over rounds, and so is a ratio. Counted is the core's time, less
what other programs take of it. Before all that, each reader is compared with `Corpus` of the dense layout.
"""

import argparse
import datetime
import importlib.util
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import zarr

from benchmarks.machine import machine
from scans import memory
from synth.corpus import Corpus, Layer, Recombine, Sample
from synth.corpus.layout import SOURCES, VOLUMES
from synth.corpus.manifest_checks import LAYOUTS
from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.generators.mixture import Mixture
from synth.generators.registry import way_of
from synth.sources.reader import SourceStore
from synth.tumour.blend import blend
from synth.tumour.sample import empty_sample

READERS = ("numpy", "zarr", "numcodecs", "zarrs", "tensorstore")
PACKAGES = [package for package in READERS if importlib.util.find_spec(package)]
HELD = 8  # tuples that the copies take turns with, more than a core's cache holds: 15 MB each as stored, 42 as float32
Reader = Callable[[int], Any]  # index to a tuple; arrays may be those of the last call


def five(sample: Sample) -> list[Any]:
    return [sample.composite, sample.normal, sample.texture, sample.mask, sample.alpha]


def same_tuple(found: Sequence[Any], sample: Sample) -> bool:
    """Tell if composite, normal, texture, mask and alpha, of whatever types, hold a sample's numbers."""
    return len(found) == 5 and all(np.all(a == b) for a, b in zip(found, five(sample), strict=True))


def same_layer(layer: Layer, sample: Sample) -> bool:
    """Tell if a layer with a hard edge covers a sample's mask, with its texture."""
    mask = sample.mask[layer.box] > 0
    inside = mask[layer.form]
    count = np.count_nonzero(sample.mask)
    return count == inside.sum() and np.array_equal(sample.texture[layer.box][mask], layer.tissue[inside])


def obeys_eq_5(found: Sequence[Any], _: Sample) -> bool:
    """Tell if a sample that no corpus holds is the blend of its own layers, float16."""
    composite, normal, texture, mask, alpha = found
    blended = np.where(mask > 0, blend(normal, texture, np.float32(alpha)), normal)
    return mask.any() and np.array_equal(composite, blended) and not texture[mask == 0].any()


@dataclass(frozen=True)
class Candidate:
    """A way to read: `open` takes a corpus of a layout and returns what reads its tuples.

    Attributes
    ----------
    name : str
        With names of packages in braces, for which their versions stand in the table.
    needs : str
        Module without which it is left out.
    held : int
        If not 0, it has so many tuples in memory and gives number ``index % held``.
    same : callable
        Compares what it read with the sample.
    """

    name: str
    layout: str
    open: Callable[[Path], Reader]
    needs: str = "zarr"
    held: int = 0
    same: Callable[[Any, Sample], bool] = same_tuple

    @property
    def row(self) -> str:
        """Its name with the versions of what reads."""
        return self.name.format_map({name: version(name) if name in PACKAGES else "" for name in READERS})


def open_arrays(path: Path) -> tuple[dict[str, zarr.Array], list[float]]:
    """Return the volumes of a corpus, and all of its alpha."""
    alphas = np.asarray(zarr.open_array(path / "alpha", mode="r")[:])
    return {name: zarr.open_array(path / name, mode="r") for name in VOLUMES}, alphas.tolist()


def copy_stored(path: Path) -> Reader:
    """Copy the arrays as they are stored, three of float16 and one of uint8, into arrays already there."""
    arrays, alphas = open_arrays(path)
    return _copy([[*(np.asarray(a[i]) for a in arrays.values()), np.float32(alphas[i])] for i in range(HELD)])


def copy_float32(path: Path) -> Reader:
    """Copy five float32 arrays, as a training step might want them: the mask as numbers, alpha at every voxel."""
    corpus = Corpus(path)
    held = []
    for index in range(HELD):
        sample = corpus[index]
        arrays = [sample.composite, sample.normal, sample.texture, sample.mask.astype(np.float32)]
        held.append([*arrays, np.full_like(arrays[0], sample.alpha)])
    return _copy(held)


def _copy(held: list[list[Any]]) -> Reader:
    held = [[_moved(array) for array in arrays] for arrays in held]  # where ours lie, which copies faster
    target = [_moved(array) for array in held[0]]

    def read(index: int) -> list[np.ndarray]:
        for into, array in zip(target, held[index % HELD], strict=True):
            into[...] = array
        return target

    return read


def _moved(array: Any) -> np.ndarray:
    there = memory.empty(np.shape(array), array.dtype)
    there[...] = array
    return there


def zarr_python(path: Path, settings: dict[str, Any] | None = None) -> Reader:
    """Read by zarr-python, opened under `settings` of its own configuration."""
    with zarr.config.set(settings or {}):  # an array keeps the pipeline that it was opened with
        arrays, alphas = open_arrays(path)
    return lambda index: [*(array[index] for array in arrays.values()), alphas[index]]


def zarr_with_zarrs(path: Path) -> Reader:
    """Read by zarr-python with the codecs of zarrs; strict, it stops where it would fall back to zarr-python's own."""
    settings = {
        "path": "zarrs.ZarrsCodecPipeline",
        "strict": True,
        "chunk_concurrent_minimum": 1,
        "chunk_concurrent_maximum": 1,
    }
    return zarr_python(path, {f"codec_pipeline.{key}": value for key, value in settings.items()})


def tensorstore(path: Path) -> Reader:
    """Read by tensorstore: the four volumes asked for at once, the shards' indices kept in its cache."""
    import tensorstore as ts

    one = {"limit": 1}
    context = ts.Context(
        {"data_copy_concurrency": one, "file_io_concurrency": one, "cache_pool": {"total_bytes_limit": 2**20}}
    )
    arrays = {
        name: ts.open(
            {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path / name}/"}},
            context=context,
            recheck_cached=False,
            read=True,
        ).result()
        for name in (*VOLUMES, "alpha")
    }
    alphas = arrays.pop("alpha").read().result().tolist()

    def read(index: int) -> list[Any]:
        futures = [array[index].read() for array in arrays.values()]
        return [*(future.result() for future in futures), alphas[index]]

    return read


def ours(path: Path, dtype: type, keep_sources: bool = True) -> Reader:
    """Read by `Corpus.read` into arrays that are kept, as a loader does."""
    corpus = Corpus(path)
    out = empty_sample(corpus.size, dtype)

    def read(index: int) -> list[Any]:
        if not keep_sources:
            corpus.source.cache_clear()
        return five(corpus.read(index, out))

    return read


def ours_first(path: Path, dtype: type) -> Reader:
    """Read by `Corpus.read` as in the first epoch of a training: opened anew when a sample is asked for again."""
    corpus, seen = Corpus(path), set[int]()
    out = empty_sample(corpus.size, dtype)

    def read(index: int) -> list[Any]:
        nonlocal corpus
        if index in seen:
            corpus = Corpus(path)
            seen.clear()
        seen.add(index)
        return five(corpus.read(index, out))

    return read


def ours_fresh(path: Path) -> Reader:
    """Read by `Corpus[i]`, as one who tries a corpus out does."""
    corpus = Corpus(path)
    return lambda index: five(corpus[index])


def layers(path: Path) -> Reader:
    """Read the tumours' own arrays, which is what a graphics card would lay over its normals."""
    return Corpus(path).layer


def recombined(path: Path) -> Reader:
    """Make samples that the corpus does not hold, of its tumours and sources."""
    corpus = Corpus(path)
    stream, out = Recombine(corpus, seed=1), empty_sample(corpus.size, np.float16)
    return lambda step: five(stream.read(step, out))


CANDIDATES = (
    Candidate("copy of the arrays as stored (the limit)", "dense", copy_stored, held=HELD),
    Candidate("copy of five float32 arrays", "dense", copy_float32, held=HELD),
    Candidate("dense, zarr-python {zarr}", "dense", zarr_python),
    Candidate("dense, zarr-python {zarr} with zarrs {zarrs}", "dense", zarr_with_zarrs, needs="zarrs"),
    Candidate("dense, tensorstore {tensorstore}", "dense", tensorstore, needs="tensorstore"),
    Candidate("dense, `Corpus.read` into kept float16 arrays", "dense", partial(ours, dtype=np.float16)),
    Candidate("dense, `Corpus.read` into kept float32 arrays", "dense", partial(ours, dtype=np.float32)),
    Candidate("dense, the same as float16, opened anew each round", "dense", partial(ours_first, dtype=np.float16)),
    Candidate("layered, `Corpus.read` into kept float16 arrays", "layered", partial(ours, dtype=np.float16)),
    Candidate("layered, `Corpus.read` into kept float32 arrays", "layered", partial(ours, dtype=np.float32)),
    Candidate(
        "layered, the same as float16, each source decoded anew",
        "layered",
        partial(ours, dtype=np.float16, keep_sources=False),
    ),
    Candidate("layered, `Corpus[i]`, new float32 arrays", "layered", ours_fresh),
    Candidate("layered, crops only: `Corpus.layer(i)`", "layered", layers, same=same_layer),
    Candidate("layered, recombined: `Recombine.read` into kept float16 arrays", "layered", recombined, same=obeys_eq_5),
)


def make_corpora(store: SourceStore, samples: int, folder: Path) -> dict[str, Path]:
    """Make a corpus of each layout, of the same samples: by `layers`, whose hard edges the checks take for granted."""
    corpora, mixture = {}, Mixture.of(way_of(store.region, "layers"))
    for layout in LAYOUTS:
        corpora[layout] = folder / f"{layout}.zarr"
        generate(make_manifest(store, samples, 1, mixture, layout=layout), store.path, corpora[layout], workers=0)
    return corpora


def open_all(corpora: dict[str, Path]) -> tuple[dict[str, Reader], list[str]]:
    """Open the candidates that can run here, and compare what they read; return them, and who was left out."""
    readers, absent, corpus = {}, [], Corpus(corpora["dense"])
    for candidate in CANDIDATES:
        if importlib.util.find_spec(candidate.needs) is None:
            absent.append(f"{candidate.row}: left out, {candidate.needs} is not installed.")
            continue
        reader = candidate.open(corpora[candidate.layout])
        for index in (0, len(corpus) // 2, len(corpus) - 1):
            sample = corpus[index % candidate.held if candidate.held else index]
            if not candidate.same(reader(index), sample):
                raise SystemExit(f"{candidate.row}: sample {index} is not that of the corpus")
        readers[candidate.row] = reader
    return readers, absent


def measure(readers: dict[str, Reader], samples: int, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Return each reader's CPU ms a tuple, round by round, and how much longer the clock ran.

    A first round fills caches and does not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in readers}
    order, clock = list(range(samples)), 0.0
    for turn in range(rounds + 1):
        random.Random(turn).shuffle(order)
        for name, reader in readers.items():
            began, passed = time.process_time(), time.perf_counter()
            for index in order:
                reader(index)
            if turn:
                taken[name].append((time.process_time() - began) * 1e3 / samples)
                clock += (time.perf_counter() - passed) * 1e3 / samples
    return taken, clock / sum(map(sum, taken.values()))


def stored_bytes(path: Path) -> dict[str, int]:
    """Return the bytes of a store's files by folder, which is an array's; those of all sources as one."""
    sizes: dict[str, int] = {}
    for file in path.rglob("*"):
        if file.is_file():
            folder = file.parent.relative_to(path)
            name = SOURCES if SOURCES in folder.parts else folder.as_posix()
            sizes[name] = sizes.get(name, 0) + file.stat().st_size
    return sizes


def report(store: SourceStore, samples: int, rounds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        corpora = make_corpora(store, samples, Path(folder))
        readers, absent = open_all(corpora)
        taken, clock = measure(readers, samples, rounds)
        stored = {layout: stored_bytes(path) for layout, path in corpora.items()}
        corpus = Corpus(corpora["layered"])
        voxels = statistics.mean(len(corpus.layer(index).tissue) for index in range(samples))
    limits = [taken[candidate.row] for candidate in CANDIDATES if candidate.held]
    return [
        "",
        f"## {store.region.name}",
        "",
        f"{len(store)} sources at {store.size} voxels; {samples} samples in shards of 64; a tumour has "
        f"{voxels:.0f} voxels at the mean, {voxels / store.size**3:.1%} of all. The clock ran {clock:.2f} times as "
        "long as the core worked for it.",
        "",
        "| reader | ms a tuple | tuples/s | of the copy as stored | of the float32 copy |",
        "|---|---|---|---|---|",
        *(_row(name, times, limits) for name, times in taken.items()),
        *(["", *absent] if absent else []),
        "",
        f"| kB a tuple | {' | '.join(stored)} |",
        f"|---|{'---|' * len(stored)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in _kilobytes(stored, samples).items()),
        "",
        f"Beside that, either layout holds the sources once: {stored['layered'][SOURCES] / len(store) / 1e6:.1f} MB "
        f"each; the store that they come from takes {sum(stored_bytes(store.path).values()) / len(store) / 1e6:.1f}.",
    ]


def _row(name: str, times: list[float], limits: list[list[float]]) -> str:
    ms = statistics.median(times)
    ratios = [statistics.median(t / limit for t, limit in zip(times, each, strict=True)) for each in limits]
    return f"| {name} | {ms:.2f} | {1e3 / ms:.0f} | {' | '.join(f'{ratio:.1f}' for ratio in ratios)} |"


def _kilobytes(stored: dict[str, dict[str, int]], samples: int) -> dict[str, list[str]]:
    """Return a row for each folder but that of the sources, and for their sum; a cell for each layout."""
    names = sorted({name for sizes in stored.values() for name in sizes} - {SOURCES})
    rows = {
        "what the corpus says of itself" if name == "." else name: [sizes.get(name) for sizes in stored.values()]
        for name in sorted(names, key=lambda name: VOLUMES.index(name) if name in VOLUMES else len(VOLUMES))
    }
    rows["**together, beside the sources**"] = [sum(sizes.values()) - sizes[SOURCES] for sizes in stored.values()]
    return {name: ["" if n is None else f"{n / samples / 1e3:.1f}" for n in row] for name, row in rows.items()}


def use_one_core() -> None:
    """Hold this process to one core, and every pool of threads to one thread; before any of them starts."""
    if hasattr(os, "sched_setaffinity"):  # macOS has none
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    numcodecs.blosc.set_nthreads(1)
    zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, nargs="+", required=True, help="stores; each is a section")
    parser.add_argument("-n", "--samples", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.samples < HELD:
        parser.error(f"--samples {arguments.samples}: give at least {HELD}")
    use_one_core()
    lines = [
        f"# Reading, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "",
        f"{machine()}, of which one is used; Python {platform.python_version()}, "
        f"{', '.join(f'{package} {version(package)}' for package in PACKAGES)}; files in the page cache; medians of "
        f"{arguments.rounds} rounds. The copies go round {HELD} tuples, more than the core's cache holds; the sources "
        "of a layered corpus may stay there, so that it can be read faster than copied.",
    ]
    for path in arguments.sources:
        lines += report(SourceStore(path), arguments.samples, arguments.rounds)
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
