"""A training step on a GPU, way by way: what its 0.071 s could be made of, in one run of eight minutes.

    python -m benchmarks.gpu_step [--width 32] [--size 128] [--seconds 480] [--out benchmarks/results/gpu-step.md]

Every way trains the same network on a batch that stays on the device, by the steps of `train.stages.loop`. Ways are
built in the order of the table, the most telling first, until half of the time is gone; then they take turns round by
round, and a figure is the median over rounds. Before that, each way's loss at the same weights is compared with that of
the plain form: not compiled, in the same precision. On a CPU it runs too, which shows that it works and nothing more.
"""

import argparse
import datetime
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from benchmarks.machine import machine
from train.architectures.instance_norm import InstanceNorm
from train.architectures.zhang import Decoder
from train.data.batch import Batch
from train.data.variation import varied
from train.network.hardware import Hardware, choose
from train.network.losses import decomposition_loss
from train.network.symmetry import Sight
from train.network.unet import UNet
from train.settings import Loss, Network, VariationName
from train.stages.finite import FiniteWatch

Step = Callable[[], torch.Tensor]
_WARM = 4  # steps that do not count: the compiler's, the search for plans, the recording of graphs
_STEPS = 5  # a round
_PLANS = 10  # that cuDNN's search tries unless told otherwise; 0: all


@dataclass(frozen=True)
class Way:
    """A way to take a step.

    Attributes
    ----------
    name : str
    norm : {"batch", "instance"}
    instance : {"torch", "scans", "sums"}
        How InstanceNorm runs on a GPU.
    plain_layout : bool
        Not channels last.
    mode : str or None
        Of ``torch.compile``; None: not compiled.
    plans : int or None
        How many of cuDNN's plans are tried for a convolution, 0 all; None: its own guess is taken.
    split : bool
        Convolve the two halves of a concatenation apart, and write no concatenation.
    variation : str
    batch : int
    """

    name: str
    norm: Literal["batch", "instance"] = "batch"
    instance: Literal["torch", "scans", "sums"] = "torch"
    plain_layout: bool = False
    mode: str | None = "default"
    plans: int | None = _PLANS
    split: bool = False
    variation: VariationName = "none"
    batch: int = 2

    @property
    def plain(self) -> "Way":
        """The plain form of the same network and batch."""
        return Way("plain", norm=self.norm, plain_layout=True, mode=None, plans=None, batch=self.batch)


ROBUST = Way("InstanceNorm, torch's own, plain layout: today", norm="instance", plain_layout=True)
SUMS = Way("InstanceNorm as sums, channels last", norm="instance", instance="sums")
BASE = Way("BatchNorm, channels last, compiled: today")
WAYS = (
    BASE,
    ROBUST,
    SUMS,
    Way("cuDNN's plans: all tried", plans=0),
    Way("compiled: max-autotune-no-cudagraphs", mode="max-autotune-no-cudagraphs"),
    Way("compiled: reduce-overhead (CUDA graphs)", mode="reduce-overhead"),
    Way("concatenations split", split=True),
    Way("not compiled: norm and ReLU apart", mode=None),
    Way("InstanceNorm scan by scan, not compiled", norm="instance", instance="scans", mode=None),
    replace(SUMS, name="InstanceNorm as sums, light variation", variation="light"),
    replace(SUMS, name="InstanceNorm as sums, full variation", variation="full"),
    replace(BASE, name="batch 4", batch=4),
    replace(BASE, name="batch 8", batch=8),
    replace(SUMS, name="InstanceNorm as sums, CUDA graphs", mode="reduce-overhead"),
    replace(SUMS, name="InstanceNorm as sums, concatenations split", split=True),
    replace(ROBUST, name="InstanceNorm, torch's own, channels last", plain_layout=False),
    Way("cuDNN's own guess of plans", plans=None),
    replace(SUMS, name="InstanceNorm as sums, batch 8", batch=8),
)


class SplitDecoder(Decoder):
    """The paper's decoder without concatenations: a convolution is a sum over channels, and so of its two halves."""

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Map the encoder's features to the finest level's, shape (N, channels, z, y, x)."""
        x = features[-1]
        for level in reversed(range(len(self.levels))):
            first, *rest = cast(nn.Sequential, self.levels[level])
            above, beside = self.up[level](x), features[level]
            of_above, of_beside = first.weight.split([above.shape[1], beside.shape[1]], dim=1)
            x = functional.conv3d(above, of_above, first.bias, padding=1)
            x = x + functional.conv3d(beside, of_beside, padding=1)
            for layer in rest:
                x = layer(x)
        return x


def network_of(way: Way, width: int, device: torch.device) -> UNet:
    """Return the network of a way on a device; all of one norm have the same weights."""
    torch.manual_seed(0)
    network = UNet(Network(width=width, norm=way.norm))
    for norm in network.modules():
        if isinstance(norm, InstanceNorm):
            norm.on_gpu = way.instance  # type: ignore[misc]  # of this one alone
    if way.split:
        network.decoder.__class__ = SplitDecoder
    layout = torch.contiguous_format if way.plain_layout else torch.channels_last_3d
    return cast(UNet, network.to(device, memory_format=layout).train())  # type: ignore[call-overload]


def compiled(network: UNet, way: Way, backend: str) -> nn.Module:
    """Return the network as a way runs it."""
    if way.mode is None:
        return network
    for module in network.modules():
        if isinstance(module, Sight) and module.axis is not None:
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
    how: dict[str, Any] = {"mode": way.mode} if backend == "inductor" else {}
    return cast(nn.Module, torch.compile(network, backend=backend, **how))


def resident(count: int, size: int, device: torch.device) -> Batch:
    """Return a batch of noise with a tumour each, in network units, on a device."""
    generator = torch.Generator().manual_seed(1)
    normal, texture = (torch.randn((count, 1, size, size, size), generator=generator) for _ in range(2))
    edge, mask = size // 8, torch.zeros(count, 1, size, size, size, dtype=torch.uint8)
    normal[:, :, :edge] = 0  # outside the organ
    mask[:, :, 2 * edge : 4 * edge, 2 * edge : 4 * edge, 2 * edge : 4 * edge] = 1
    texture = torch.where(mask != 0, texture + 2, 0.0)
    composite = torch.where(mask != 0, torch.lerp(normal, texture, 0.5), normal)
    return Batch(composite, normal, texture, mask, torch.full((count,), 0.5)).to(device)


def step_of(way: Way, width: int, size: int, hardware: Hardware, backend: str) -> tuple[Step, UNet]:
    """Return a way's step, which gives its loss, and its network."""
    network = network_of(way, width, hardware.device)
    trained = compiled(network, way, backend)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    watch = FiniteWatch(network, optimiser, hardware.device)
    kept, count = resident(way.batch, size, hardware.device), itertools.count(1)

    def step() -> torch.Tensor:
        torch.backends.cudnn.benchmark = way.plans is not None
        torch.backends.cudnn.benchmark_limit = way.plans or 0
        number = next(count)
        if way.mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        positions = range(way.batch * number, way.batch * (number + 1))
        batch = varied(kept, way.variation, 0, positions)
        with hardware.autocast():
            layers = trained(batch.composite)
        loss = decomposition_loss(layers, batch, Loss())["total"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        watch.look(number, loss)
        optimiser.step()
        return loss.detach()

    return step, network


def measure(
    width: int, size: int, seconds: float, rounds: int, hardware: Hardware, backend: str, ways: tuple[Way, ...] = WAYS
) -> Iterator[tuple[Way, list[float], float, float]]:
    """Yield of each way that there was time for: seconds a step by round, relative difference of the loss, GiB."""
    began, plain = time.monotonic(), dict[Way, float]()
    made: dict[Way, tuple[Step, float, float]] = {}
    for way in ways:
        if made and time.monotonic() - began > seconds / 2:
            break
        if (form := replace(way.plain, variation=way.variation)) not in plain:
            plain[form] = float(step_of(form, width, size, hardware, backend)[0]())
        before = _memory(hardware, reset=True)
        step, _ = step_of(way, width, size, hardware, backend)
        loss = float(step())
        for _ in range(_WARM - 1):
            step()
        _wait(hardware)
        made[way] = step, abs(loss - plain[form]) / abs(plain[form]), _memory(hardware) - before
    taken: dict[Way, list[float]] = {way: [] for way in made}
    for number in range(rounds):
        if number and time.monotonic() - began > seconds:
            break
        for way, (step, *_) in made.items():
            start = time.perf_counter()
            for _ in range(_STEPS):
                step()
            _wait(hardware)
            taken[way].append((time.perf_counter() - start) / _STEPS)
    for way, (_, apart, memory) in made.items():
        yield way, taken[way], apart, memory


def _wait(hardware: Hardware) -> None:
    if hardware.device.type == "cuda":
        torch.cuda.synchronize()


def _memory(hardware: Hardware, reset: bool = False) -> float:
    """Return GiB that are taken of the GPU, or with `reset` False the most that were; 0 on a CPU."""
    if hardware.device.type != "cuda":
        return 0.0
    if not reset:
        return torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 2**30


def report(width: int, size: int, seconds: float, rounds: int, hardware: Hardware, backend: str) -> list[str]:
    """Return a table of all ways, in Markdown."""
    lines = [
        f"{size}³, width {width}, {hardware}; {rounds} rounds of {_STEPS} steps at most, on a batch that stays.",
        "",
        "| way | s a step | of the first | samples/s | loss differs by | peak memory, GiB |",
        "|---|---|---|---|---|---|",
    ]
    first: list[float] = []
    for way, each, apart, memory in measure(width, size, seconds, rounds, hardware, backend):
        first = first or each
        median, ratio = statistics.median(each), statistics.median(a / b for a, b in zip(each, first, strict=True))
        lines.append(
            f"| {way.name} | {median:.4f} | {ratio:.2f} | {way.batch / median:.1f} | {apart:.1e} | {memory:.1f} |"
        )
    left = [way.name for way in WAYS[len(lines) - 4 :]]
    return [*lines, "", f"No time was left for: {'; '.join(left)}."] if left else lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backend", default="inductor", help="aot_eager compiles nothing, for a try on a CPU")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    hardware = choose()
    lines = [
        f"# A step on a GPU, {datetime.datetime.now(tz=datetime.UTC).date()}",
        "",
        f"{machine()}, torch {version('torch')}.",
        "",
        *report(given.width, given.size, given.seconds, given.rounds, hardware, given.backend),
    ]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
