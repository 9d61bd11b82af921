"""From a corpus to batches: which sample comes when, and who may be trained on.

The order is a pure function of (seed, epoch), so the loader's whole state is one number, the step. Threads
decode a few batches ahead; they change when a sample is read, never which.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np
import torch

from synth.corpus import Sample
from train.settings import SettingsError

T = TypeVar("T")

AHEAD = 2  # batches decoded ahead of the one in use
_SPLIT = 2**64 - 1  # epoch number no training reaches; its order draws the held-out sources


class Samples(Protocol):
    """The part of ``synth.corpus.Corpus`` that training reads."""

    normal: np.ndarray
    donor: np.ndarray

    @property
    def sources(self) -> list[dict]:
        """Provenance of each source, with its ``name``."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Batch:
    """Samples side by side: volumes float32 (N, 1, z, y, x) in network units, ``alpha`` float32 (N,)."""

    composite: torch.Tensor
    normal: torch.Tensor
    texture: torch.Tensor
    mask: torch.Tensor
    alpha: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Move every tensor; from pinned memory the copy does not wait."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch."""

    def stack(name: str) -> torch.Tensor:
        volumes = [np.asarray(getattr(sample, name), dtype=np.float32) for sample in samples]
        return torch.from_numpy(np.stack(volumes)[:, None])

    alpha = torch.tensor([sample.alpha for sample in samples], dtype=torch.float32)
    return Batch(stack("composite"), stack("normal"), stack("texture"), stack("mask"), alpha)


def standardise(sample: Sample) -> Sample:
    """Express a sample in the units its composite would have as a scan of its own.

    A real scan is normalised by a mean and a deviation that include its tumour; a composite by those of
    its normal. The same affine map on composite, normal and texture leaves Eq. 5 as it is.
    """
    roi = (sample.normal != 0) | (sample.composite != 0)
    inside = sample.composite[roi]
    mean, deviation = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    if deviation < 1e-6:
        return sample

    def seen(volume: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.where(where, (volume - mean) / deviation, 0).astype(np.float32)

    tumour = sample.mask != 0
    return Sample(
        seen(sample.composite, roi),
        seen(sample.normal, roi),
        seen(sample.texture, tumour),
        sample.mask,
        sample.alpha,
    )


def random_bits(count: int, seed: int, stream: int) -> np.ndarray:
    """Return `count` words of raw bits, uint64, a pure function of `seed` and `stream` (0 to 2**64 - 1)."""
    return np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)).random_raw(count)


@lru_cache(maxsize=4)
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of ``0 .. count - 1``, shape (count,), int64.

    Sorted raw bits of Philox, which NumPy keeps the same for ever; its ``permutation`` it may change.
    """
    return np.argsort(random_bits(count, seed, epoch), kind="stable")


def positions(count: int, batch: int, seed: int, step: int) -> list[int]:
    """Return which of `count` samples make up the batch of `step`; a batch may run over an epoch's end."""
    first = step * batch
    return [int(order(count, seed, p // count)[p % count]) for p in range(first, first + batch)]


def ahead(
    read: Callable[[int], T], wanted: Callable[[int], Sequence[int]], steps: range, threads: int
) -> Iterator[list[T]]:
    """Yield ``[read(i) for i in wanted(step)]`` for each step, read by threads ahead of time."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
    waiting: deque[list[Future[T]]] = deque()
    upcoming = iter(steps)
    try:
        while True:
            while len(waiting) <= AHEAD and (step := next(upcoming, None)) is not None:
                waiting.append([pool.submit(read, index) for index in wanted(step)])
            if not waiting:
                return
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Split:
    """Sample numbers to train and to validate on, and how they were parted."""

    training: np.ndarray
    validation: np.ndarray
    held_out: tuple[str, ...]
    note: str


def split_by_source(corpus: Samples, held_out: Sequence[str], seed: int, limit: int) -> Split:
    """Part a corpus so that no anatomy is on both sides.

    Validation takes samples whose normal is a held-out source, at most `limit`; training takes samples that
    use no held-out source, neither as normal nor as donor. Where that leaves nothing to train on, sources
    are held out as normals only; where there is one source, samples are parted instead. The note says which.

    Raises
    ------
    SettingsError
        If a name in `held_out` is no source of the corpus, or nothing is left to train or validate on.
    """
    names = [str(source["name"]) for source in corpus.sources]
    used = sorted(set(corpus.normal.tolist()))
    unknown = sorted(set(held_out) - set(names))
    if unknown:
        raise SettingsError(f"--validation-sources {unknown[0]}: no such source; there are {', '.join(names)}")
    if not held_out:
        drawn = order(len(used), seed, _SPLIT)[: max(1, len(used) // 10)]
        held_out = [names[used[i]] for i in drawn] if len(used) > 1 else []
    if not held_out:
        return _split_one_source(len(corpus), seed, limit)
    chosen = [number for number, name in enumerate(names) if name in held_out]
    is_validation = np.isin(corpus.normal, chosen)
    validation = np.flatnonzero(is_validation)
    training = np.flatnonzero(~is_validation & ~np.isin(corpus.donor, chosen))
    named = ", ".join(sorted(held_out))
    note = f"validation on {named}, which training sees neither as normal nor as donor"
    if not len(training):
        training = np.flatnonzero(~is_validation)
        note = f"validation on {named} as normal; too few sources, so training sees its tissue inside tumours"
    if not len(training) or not len(validation):
        raise SettingsError(
            f"--validation-sources {named}: leaves {len(training)} samples to train on and {len(validation)} "
            "to validate on; hold out fewer sources or make a larger corpus"
        )
    return Split(training, validation[:limit], tuple(sorted(held_out)), note)


def _split_one_source(count: int, seed: int, limit: int) -> Split:
    if count < 2:
        raise SettingsError("the corpus holds one sample: nothing is left to validate on; make a larger one")
    shuffled = order(count, seed, _SPLIT)
    held = min(max(1, count // 10), limit)
    note = "only one source: validation sees the same anatomy as training, with other tumours"
    return Split(np.sort(shuffled[held:]), np.sort(shuffled[:held]), (), note)
