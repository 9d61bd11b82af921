"""Random bits of a training: a function of seed, step and purpose, never of time."""

import numpy as np


def random_bits(count: int, seed: int, stream: int) -> np.ndarray:
    """Return `count` words of raw bits, uint64, a pure function of `seed` and `stream` (0 to 2**64 - 1)."""
    return np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)).random_raw(count)


def units(words: np.ndarray) -> np.ndarray:
    """Return numbers in [0, 1), float64: the upper 53 bits of each word."""
    return (words >> np.uint64(11)) * 2.0**-53


class Draws:
    """A row of random numbers; who draws in the same order draws the same.

    Raw bits of Philox, those of `train.data.random_bits.random_bits`, since NumPy may change what it makes of them.

    Parameters
    ----------
    seed, stream : int
        0 to 2**64 - 1.
    """

    def __init__(self, seed: int, stream: int) -> None:
        self._philox = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))

    def bits(self, count: int) -> np.ndarray:
        """Return the next `count` words, uint64."""
        return self._philox.random_raw(count)

    def uniforms(self, *shape: int) -> np.ndarray:
        """Return numbers in [0, 1), float64, of a shape."""
        return units(self.bits(int(np.prod(shape)))).reshape(shape)

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        return float(self.uniforms(1)[0])

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def permutation(self, count: int) -> np.ndarray:
        """Return ``0 .. count - 1`` in random order, int64."""
        return np.argsort(self.bits(count), kind="stable")
