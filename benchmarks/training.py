"""A training step, part by part: from the plain fp32 loop to the one that `train` runs, in one run on one machine.

    python -m benchmarks.training --sources sources.zarr [--width 32] [--out benchmarks/results/training.md]

The sides of the cube are those of the sources. Ways to train take turns round by round; a figure is the median over
rounds. FLOP are counted by torch over a forward and a backward pass; the machine's peak is that of a large matrix
product in the same precision, measured here; on a GPU torch convolves float32 in TF32 unless told otherwise, so that
is the peak then. Peak memory is what a way's first three steps take of the GPU; on a CPU of a process of its own.
"""

import argparse
import datetime
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import machine
from benchmarks.reading import make_corpora
from synth.corpus import Corpus
from synth.sources.reader import SourceStore
from train.data.batch import Batch
from train.data.corpus_dataset import CorpusDataset
from train.data.split import split_by_source
from train.network.hardware import Hardware, choose
from train.network.losses import decomposition_loss
from train.network.unet import UNet
from train.settings import Loss, Network, Pretrain, Schedule
from train.stages.decomposition import Decomposition
from train.stages.finite import FiniteWatch

PLAIN = "plain loop: fp32, contiguous, DataLoader, loss read at each step"
OURS = "ours, fed from the corpus"
RESIDENT = "ours, on a resident batch"


@dataclass(frozen=True)
class Setting:
    """What is measured: a corpus in both layouts, the network's width, the batch, the machine."""

    layered: str
    dense: str
    width: int
    batch: int
    device: str

    def settings(self, steps: int) -> Pretrain:
        schedule = Schedule(steps=steps, batch=self.batch, device=self.device, loader_threads=2)
        return Pretrain(network=Network(width=self.width), schedule=schedule, recombine=True)


Step = Callable[[], None]


def plain_loop(setting: Setting) -> Step:
    """Return a step as it is commonly written."""
    device = torch.device(setting.device)
    network = UNet(Network(width=setting.width)).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    loader = DataLoader(CorpusDataset(setting.dense), batch_size=setting.batch, shuffle=True, num_workers=1)

    def endless() -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from loader

    items = endless()

    def step() -> None:
        item = {name: tensor.to(device) for name, tensor in next(items).items()}
        batch = Batch(*(item[name] for name in ("composite", "normal", "texture", "mask", "alpha")))
        optimiser.zero_grad()
        loss = decomposition_loss(network(batch.composite), batch, Loss())["total"]
        loss.backward()
        optimiser.step()
        loss.item()

    return step


def our_loop(setting: Setting, hardware: Hardware, *, resident: bool, watched: bool = True) -> Step:
    """Return the step of `train.stages.loop`, fed from the corpus or on one batch that stays where it is."""
    network = hardware.place(UNet(Network(width=setting.width))).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    watch = FiniteWatch(network, optimiser, hardware.device)
    trained = hardware.compile(network)
    corpus = Corpus(setting.layered)
    settings = setting.settings(1_000_000)
    task = Decomposition(corpus, split_by_source(corpus, (), 0, 4), settings, hardware)
    batches = task.batches(range(settings.schedule.steps))
    kept = next(batches)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        batch = kept if resident else next(batches)
        with hardware.autocast():
            output = trained(batch.composite)
        loss = task.loss(output, batch)["total"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if watched:
            watch.look(count, loss)
        optimiser.step()

    return step


def ways(setting: Setting) -> dict[str, tuple[str, Callable[[], Step]]]:
    """Return each way to train: its precision, and what makes its step."""
    auto = choose(setting.device)
    device, fast = auto.device, auto.precision

    def ours(precision: str, compiled: bool, resident: bool) -> Callable[[], Step]:
        return lambda: our_loop(setting, Hardware(device, precision, compiled), resident=resident)

    compiled = device.type == "cuda"
    found = {
        PLAIN: ("fp32", lambda: plain_loop(setting)),
        "ours in fp32, on a resident batch": ("fp32", ours("fp32", False, True)),
    }
    if compiled:
        found["ours, not compiled, on a resident batch"] = (fast, ours(fast, False, True))
    found[RESIDENT] = (fast, ours(fast, compiled, True))
    found[OURS] = (fast, ours(fast, compiled, False))
    return found


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(setting: Setting, rounds: int, steps: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return seconds a step of each way, round by round, and GiB that its first steps, which do not count, took."""
    made, memory = {}, {}
    for name, (_, build) in ways(setting).items():
        if setting.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        made[name] = build()
        for _ in range(3):
            made[name]()
        wait(setting.device)
        if setting.device == "cuda":
            memory[name] = (torch.cuda.max_memory_allocated() - before) / 2**30
    taken: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, step in made.items():
            start = time.perf_counter()
            for _ in range(steps):
                step()
            wait(setting.device)
            taken[name].append((time.perf_counter() - start) / steps)
    return taken, memory or {name: memory_apart(setting, name) for name in made}


def peak_memory(setting: Setting, name: str) -> float:
    """Return GiB that three steps of a way take of this process."""
    before = in_memory("VmRSS")
    step = ways(setting)[name][1]()
    for _ in range(3):
        step()
    return in_memory("VmHWM") - before


def in_memory(field: str) -> float:
    """Return GiB of this process that are in memory, now (VmRSS) or at the most (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 2**20


def memory_apart(setting: Setting, name: str) -> float:
    """Return `peak_memory` as measured in a process of its own."""
    code = f"import benchmarks.training as b; print(b.peak_memory(b.Setting(**{vars(setting)!r}), {name!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    return float(done.stdout.split()[-1])


def flop(setting: Setting, size: int) -> float:
    """Return floating-point operations of a step, forward and backward."""
    network = UNet(Network(width=setting.width))
    with torch.device("meta"):
        scan = torch.empty(setting.batch, 1, size, size, size)
        network = network.to("meta")
    with FlopCounterMode(display=False) as counter:
        torch.cat(network(scan), dim=1).sum().backward()
    return float(counter.get_total_flops())


def matmul_peak(device: str, precision: str) -> float:
    """Return FLOP/s of a large matrix product."""
    side = 8192 if device == "cuda" else 3072
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        a @ b
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def report(setting: Setting, size: int, rounds: int, steps: int) -> list[str]:
    taken, memory = measure(setting, rounds, steps)
    work = flop(setting, size)
    precisions = {name: precision for name, (precision, _) in ways(setting).items()}
    peaks = {precision: matmul_peak(setting.device, precision) for precision in sorted(set(precisions.values()))}
    lines = [
        "",
        f"## {size}³, width {setting.width}, batch {setting.batch}",
        "",
        f"{work / 1e12:.3f} TFLOP a step. Peak of a matrix product here: "
        + ", ".join(f"{precision} {peak / 1e12:.2f} TFLOP/s" for precision, peak in peaks.items())
        + f". {rounds} rounds of {steps} steps.",
        "",
        "| way | s a step | of the plain loop | samples/s | TFLOP/s | of the peak | peak memory, GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in taken.items():
        seconds = statistics.median(each)
        ratio = statistics.median(a / b for a, b in zip(each, taken[PLAIN], strict=True))
        rate = work / seconds
        lines.append(
            f"| {name} | {seconds:.3f} | {ratio:.2f} | {setting.batch / seconds:.2f} | {rate / 1e12:.2f} | "
            f"{rate / peaks[precisions[name]]:.0%} | {memory[name]:.1f} |"
        )
    fed = statistics.median(a / b for a, b in zip(taken[OURS], taken[RESIDENT], strict=True))
    return [*lines, "", f"Fed from the corpus a step takes {fed:.3f} times as long as on a resident batch."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    store = SourceStore(given.sources)
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    head = [
        f"# Training step, {datetime.datetime.now(tz=datetime.UTC).date()}",
        "",
        f"{machine()}, {name}, torch {version('torch')}, {torch.get_num_threads()} threads.",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        corpora = make_corpora(store, given.samples, Path(scratch))
        setting = Setting(str(corpora["layered"]), str(corpora["dense"]), given.width, given.batch, device)
        lines = [*head, *report(setting, store.size, given.rounds, given.steps)]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
