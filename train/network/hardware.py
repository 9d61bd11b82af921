"""Where and in which precision a network runs: one code for CPU and CUDA."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from train.architectures.instance_norm import InstanceNorm
from train.network.symmetry import Sight
from train.settings import Schedule, SettingsError


@dataclass(frozen=True)
class Hardware:
    """A device with the precision and memory layout that pay there.

    Attributes
    ----------
    device : torch.device
    precision : {"fp32", "bf16"}
    compiled : bool
        Whether networks are compiled before training: minutes at the start, which pay on a GPU.
    """

    device: torch.device
    precision: str
    compiled: bool = False

    def autocast(self) -> AbstractContextManager:
        """Context in which the network runs; losses stay outside and in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network, channels last where its norm allows: 1.3 to 2 times faster than plain on two cores.

        Torch's own InstanceNorm copies to the plain layout and back, which costs more than it gains.
        """
        plain = any(isinstance(module, nn.InstanceNorm3d) and self._copies(module) for module in network.modules())
        layout = torch.contiguous_format if plain else torch.channels_last_3d
        return network.to(self.device, memory_format=layout)  # type: ignore[call-overload]

    def _copies(self, norm: nn.InstanceNorm3d) -> bool:
        """Tell whether an InstanceNorm runs as torch's own here."""
        return not isinstance(norm, InstanceNorm) or (self.device.type == "cuda" and norm.on_gpu == "torch")

    def compile(self, network: nn.Module) -> nn.Module:
        """Return a network as it is trained, compiled or itself, with the weights of the one given.

        That one stays as it is for evaluation, where batches of other sizes would each be compiled anew.
        """
        if not self.compiled:
            return network
        for module in network.modules():
            if isinstance(module, Sight) and module.axis is not None:
                # To choose a plane takes many small steps: minutes to compile, and nothing gained.
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
        return cast(nn.Module, torch.compile(network))

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{name}, {self.precision}{', compiled' if self.compiled else ''}"


# On a CPU the bf16 weight gradient of a 3³ convolution over 2³ voxels, the deepest of a cube of 16, is not the same
# twice and in one step of fifty not finite: measured with torch 2.13. From 24 on it is neither in 100.
_SMALLEST_BF16 = 24

PLAIN = Hardware(torch.device("cpu"), "fp32")


def choose(device: str = "auto", precision: str = "auto", compiled: str = "off") -> Hardware:
    """Resolve ``auto``: the GPU where there is one, bf16 where the hardware multiplies it, compiled on a GPU.

    Raises
    ------
    SettingsError
        If CUDA is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: this machine has no CUDA device that torch can use; try --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        # One thread for each core this process may use, not for each core of the machine.
        torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    else:
        torch.backends.cudnn.benchmark = True  # the shapes stay the same, so the search pays
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_multiplies_bf16()
        precision = "bf16" if fast else "fp32"
    return Hardware(torch.device(device), precision, compiled == "on" or (compiled == "auto" and device == "cuda"))


def of(schedule: Schedule, size: int) -> Hardware:
    """Resolve a schedule's device, precision and whether to compile, for cubes of `size` voxels a side."""
    machine = choose(schedule.device, schedule.precision, schedule.compile)
    if schedule.precision == "auto" and machine.device.type == "cpu" and size < _SMALLEST_BF16:
        return replace(machine, precision="fp32")
    return machine


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_multiplies_bf16() -> bool:
    """Whether bf16 runs in hardware; emulated it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    words = set(flags.split())
    return bool(words & {"avx512_bf16", "amx_bf16"}) or ("Features" in flags and "bf16" in words)
