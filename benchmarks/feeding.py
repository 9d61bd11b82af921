"""Tuples a second that one core feeds to a training, batch by batch, through the loader that training uses.

    python -m benchmarks.feeding --sources sources.zarr [--out benchmarks/results/feeding.md]

One core, one loader thread, batches of 2 in the order of a training, files in the page cache. Ways to feed take turns
round by round; a figure is the median over rounds. Counted is the core's time, less what other programs take of it;
with another process or a GPU at work, the clock's. A training takes layered corpora as in the first two rows, dense
ones as in the last but one; crops alone are what travels to a GPU, where they are laid together.
"""

import argparse
import datetime
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks.machine import machine
from benchmarks.reading import make_corpora, use_one_core
from synth.corpus import Corpus, Recombine, Tumour
from synth.sources.reader import SourceStore
from train.data.corpus_dataset import CorpusDataset
from train.data.crops import CropFeed
from train.data.feed import Feed, ahead
from train.data.order import Endless

BATCH = 2
LOADER = "dense, PyTorch's DataLoader, 1 worker process"
Way = Callable[[list[list[int]]], Iterator[object]]


def ways(layered: Corpus, dense: Corpus, device: torch.device) -> dict[str, Way]:
    """Return each way to feed, by what it is."""
    size, stream = layered.size, Recombine(layered, 1)

    def tumour(index: int) -> tuple[int, Tumour]:
        return int(layered.normal[index]), layered.tumour(index)

    def crops(read: Callable[[int], object]) -> Way:
        return lambda wanted: ahead(([partial(read, index) for index in numbers] for numbers in wanted), 1)

    def data_loader(wanted: list[list[int]]) -> Iterator[object]:
        flat = [index for numbers in wanted for index in numbers]
        return iter(DataLoader(CorpusDataset(dense, flat), batch_size=BATCH, num_workers=1))

    def laid(read: Callable[[int], tuple[int, Tumour]]) -> Way:
        return CropFeed(read, layered.source, size, BATCH, 1, device).batches

    return {
        "layered": laid(tumour),
        "layered, recombined": laid(stream.tumour),
        "layered, crops alone": crops(tumour),
        "layered, recombined, crops alone": crops(stream.tumour),
        "layered, whole volumes": Feed(layered.read, size, 1, BATCH, 1, device).batches,
        "dense": Feed(dense.read, size, 1, BATCH, 1, device).batches,
        LOADER: data_loader,
    }


def measure(found: dict[str, Way], samples: int, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return tuples a second of each way, round by round; a first round fills caches and does not count."""
    order = Endless(torch.arange(samples).numpy() // 64, seed=0)
    rates: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds + 1):
        numbers = [order[turn * samples + place] for place in range(samples // BATCH * BATCH)]
        wanted = [numbers[first : first + BATCH] for first in range(0, len(numbers), BATCH)]
        for name, way in found.items():
            clock = time.perf_counter if name == LOADER or device.type == "cuda" else time.process_time
            start = clock()
            for _ in way(wanted):
                pass
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                rates[name].append(len(numbers) / (clock() - start))
    return rates


def report(store: SourceStore, samples: int, rounds: int) -> list[str]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        corpora = make_corpora(store, samples, Path(scratch))
        found = ways(Corpus(corpora["layered"]), Corpus(corpora["dense"]), device)
        rates = measure(found, samples, rounds, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    lines = [
        f"# Feeding, {datetime.datetime.now(tz=datetime.UTC).date()}",
        "",
        f"{machine()}, {name}, torch {version('torch')}; {samples} samples at {store.size}³ of {len(store)} sources, "
        f"batches of {BATCH}, one core, one loader thread, {rounds} rounds.",
        "",
        "| way | tuples/s, median | lowest | highest |",
        "|---|---|---|---|",
    ]
    for name, each in rates.items():
        lines.append(f"| {name} | {statistics.median(each):.0f} | {min(each):.0f} | {max(each):.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    use_one_core()
    torch.set_num_threads(1)
    lines = report(SourceStore(given.sources), given.samples, given.rounds)
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
