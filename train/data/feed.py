"""Feed: threads read samples ahead of time into batches whose memory is used again and again.

Threads change when a sample is read, never which: `train.data.order` says that.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from synth.corpus import Sample
from train.data.batch import Batch, empty_batch, places

T = TypeVar("T")
Read = Callable[[int, Sample], Sample]  # writes sample `i` into arrays that are there: `synth.corpus.Corpus.read`

AHEAD = 2  # batches being read while one is in use


def ahead(jobs: Iterable[Sequence[Callable[[], T]]], threads: int) -> Generator[list[T], None, None]:
    """Yield ``[job() for job in batch]`` for each batch of jobs, done by threads ahead of time.

    When a batch is asked for, the one before it is no longer in use: `AHEAD` + 1 are in memory at a time.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
    waiting: deque[list[Future[T]]] = deque()
    upcoming = iter(jobs)
    try:
        while True:
            while len(waiting) <= AHEAD and (batch := next(upcoming, None)) is not None:
                waiting.append([pool.submit(job) for job in batch])
            if not waiting:
                return
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Feed:
    """Batches of whole volumes, on a device.

    Parameters
    ----------
    read : callable
        Writes a sample into a place of a batch, see `train.data.batch.places`.
    size, channels, batch : int
        Shape of a batch.
    threads : int
    device : torch.device
        On a CPU a batch is the loader's own memory, written over when the next one is asked for. To a GPU volumes
        travel as float16, as they are stored, from pinned memory.
    """

    def __init__(self, read: Read, size: int, channels: int, batch: int, threads: int, device: torch.device) -> None:
        self._read, self._threads, self._device = read, threads, device
        self._shape = (batch, channels, size)
        self._free: list[list[_Slot]] = []

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Yield the batch of each list of sample numbers, none longer than the feed's batch."""
        # Memory of its own: another call's batches may be half read.
        slots = self._free.pop() if self._free else [self._slot() for _ in range(AHEAD + 1)]
        reading = ahead(self._jobs(wanted, slots), self._threads)
        try:
            for step, samples in enumerate(reading):
                slot = slots[step % len(slots)]
                for place, sample in enumerate(samples):
                    slot.batch.alpha[place] = sample.alpha
                count = len(samples)
                whole = count == len(slot.batch.alpha)
                part = slot.batch if whole else Batch(*(t[:count] for t in vars(slot.batch).values()))
                batch = part.to(self._device)
                if self._device.type == "cuda":
                    slot.copied = torch.cuda.current_stream(self._device).record_event()
                yield batch
        finally:
            reading.close()
            self._free.append(slots)

    def _slot(self) -> "_Slot":
        gpu = self._device.type == "cuda"
        batch = empty_batch(*self._shape, torch.float16 if gpu else torch.float32, pinned=gpu)
        return _Slot(batch, places(batch))

    def _jobs(self, wanted: Iterable[Sequence[int]], slots: "Sequence[_Slot]") -> Iterator[list[Callable[[], Sample]]]:
        for step, numbers in enumerate(wanted):
            slot = slots[step % len(slots)]
            if slot.copied is not None:
                slot.copied.synchronize()  # its last content has left for the GPU
            yield [partial(self._read, index, place) for index, place in zip(numbers, slot.places, strict=False)]


@dataclass
class _Slot:
    """The memory of a batch: whole, as samples to be written over, and the event of its last copy to a GPU."""

    batch: Batch
    places: list[Sample]
    copied: Any = None
