"""Which sample comes when: a pure function of (seed, epoch), so that a loader's whole state is one number, the step.

Samples of one shard come close together, since a shard behind a URL is fetched whole; which shards do is shuffled.
"""

from functools import lru_cache

import numpy as np

from train.data.random_bits import random_bits

WINDOW = 16  # shards whose samples are shuffled among each other: 1024 samples in shards of 64


@lru_cache(maxsize=4)
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of ``0 .. count - 1``, shape (count,), int64.

    Sorted raw bits of Philox, which NumPy keeps the same for ever; its ``permutation`` it may change.
    """
    return np.argsort(random_bits(count, seed, epoch), kind="stable")


def shuffled(shards: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return the order of samples in an epoch: shards shuffled, then the samples of every `WINDOW` of them.

    Parameters
    ----------
    shards : ndarray of int, shape (n,)
        The shard that each sample lies in.
    seed, epoch : int

    Returns
    -------
    ndarray of int64, shape (n,)
        A permutation of ``0 .. n - 1``.
    """
    present, which = np.unique(shards, return_inverse=True)
    bits = random_bits(len(present) + len(shards), seed, epoch)
    place = np.empty(len(present), np.int64)
    place[np.argsort(bits[: len(present)], kind="stable")] = np.arange(len(present))
    return np.lexsort((bits[len(present) :], place[which] // WINDOW))


class Endless:
    """Epoch after epoch of the same samples, each time in another order; every sample once an epoch.

    Parameters
    ----------
    shards : ndarray of int, shape (n,)
        The shard that each sample lies in.
    seed : int
    """

    def __init__(self, shards: np.ndarray, seed: int) -> None:
        self._shards, self._seed = shards, seed
        self._epoch = lru_cache(maxsize=2)(lambda epoch: shuffled(shards, seed, epoch))

    def __getitem__(self, position: int) -> int:
        """Return the sample at a position, counted from the start of the first epoch."""
        epoch, within = divmod(position, len(self._shards))
        return int(self._epoch(epoch)[within])
