"""Several processes, one GPU each, that train one network: ``torchrun --nproc-per-node 4 -m train.cli pretrain ...``.

torchrun tells each process its rank by environment variables; without them there is one process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from train.network.hardware import Hardware

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """A process among `count` that train together.

    Attributes
    ----------
    rank : int
        0 writes the run folder and validates.
    count : int
    device : torch.device
    """

    rank: int = 0
    count: int = 1
    device: torch.device = _CPU

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def share(self, batch: int, step: int) -> range:
        """Return the positions in the stream of samples, see `train.data.order`, that this process takes at a step.

        Together the processes take ``batch * count`` in a row: those that one process with as large a batch would.
        """
        first = (step * self.count + self.rank) * batch
        return range(first, first + batch)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a network whose gradients are averaged over all processes.

        On GPUs BatchNorm takes its statistics over the whole batch of all of them; torch has no such layer for CPUs.
        """
        if self.count == 1:
            return network
        if self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return DistributedDataParallel(network, device_ids=None if self.device.type == "cpu" else [self.device])

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Average numbers over the processes; all must call it with the same names."""
        if self.count == 1:
            return values
        tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return dict(zip(values, (tensor / self.count).tolist(), strict=True))

    def most(self, number: int) -> int:
        """Return the largest of the processes' numbers."""
        if self.count == 1:
            return number
        tensor = torch.tensor(number, device=self.device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return int(tensor)

    def from_first(self, values: list[float]) -> list[float]:
        """Return the first process's numbers in all of them; the others give as many of their own."""
        if self.count == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(tensor, 0)
        return tensor.tolist()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Ranks()


@contextmanager
def joined(machine: Hardware) -> Iterator[tuple[Hardware, Ranks]]:
    """Join the other processes that torchrun started, if it did; processes talk by NCCL on GPUs, by Gloo on CPUs.

    Yields
    ------
    Hardware
        This process's own GPU.
    Ranks
    """
    count, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if count == 1:
        yield machine, Ranks(device=machine.device)
        return
    gpu = machine.device.type == "cuda"
    own = torch.device("cuda", local) if gpu else machine.device
    if gpu:
        torch.cuda.set_device(own)
    patience = timedelta(hours=2)  # the others wait while the first validates
    distributed.init_process_group("nccl" if gpu else "gloo", timeout=patience, device_id=own if gpu else None)
    try:
        yield replace(machine, device=own), Ranks(distributed.get_rank(), count, own)
    finally:
        distributed.destroy_process_group()
