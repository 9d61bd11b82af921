"""Random numbers as a pure function of (seed, index, stream).

Philox is counter-based: any number of the sequence is computed without the ones before it, so that a
sample does not depend on which worker draws it, or when. Only Philox's raw bits are used: NumPy keeps
those the same for ever, its distributions it does not (NEP 19).
"""

import math
from collections.abc import Sequence

import numpy as np

_SIGNIFICANT = 9  # digits kept of a drawn number: log, exp and cube root differ in the last bit between machines


class Stream:
    """Numbers of one stream of one sample.

    Parameters
    ----------
    seed : int
        Seed of the corpus, 0 to 2**64 - 1.
    index : int
        Sample, 0 to 2**64 - 1.
    stream : int
        Keeps independent uses of one sample apart.
    """

    def __init__(self, seed: int, index: int, stream: int = 0) -> None:
        # Drawing increments the lowest counter word; sample and stream sit above it and never meet it.
        key, counter = np.array([seed, 0], np.uint64), np.array([0, 0, stream, index], np.uint64)
        self._bits = np.random.Philox(key=key, counter=counter)

    def word(self, bits: int = 64) -> int:
        """Return a whole number, uniform over ``bits`` bits."""
        return int(self._bits.random_raw()) >> (64 - bits)

    def unit(self) -> float:
        """Return a number uniform over [0, 1), a multiple of 2**-53."""
        return self.word(53) * 2.0**-53

    def units(self, count: int) -> np.ndarray:
        """Return `count` numbers uniform over [0, 1), float64."""
        return (self._bits.random_raw(count) >> np.uint64(11)) * 2.0**-53

    def below(self, bound: int) -> int:
        """Return a whole number uniform over 0 to ``bound - 1``, without the bias of a remainder."""
        usable = 2**64 - 2**64 % bound
        while (word := self.word()) >= usable:
            pass
        return word % bound

    def uniform(self, low: float, high: float) -> float:
        """Return a number uniform over [low, high]."""
        return _rounded(low + (high - low) * self.unit(), low, high)

    def log_uniform(self, low: float, high: float) -> float:
        """Return a number over [low, high] whose logarithm is uniform; ``low > 0``."""
        return _rounded(low * math.exp(math.log(high / low) * self.unit()), low, high)

    def uniform_over(self, intervals: Sequence[tuple[float, float]]) -> float:
        """Return a number uniform over the union of disjoint `intervals`."""
        lengths = [high - low for low, high in intervals]
        if sum(lengths) == 0:
            return intervals[self.below(len(intervals))][0]
        position = self.unit() * sum(lengths)
        for (low, high), length in zip(intervals, lengths, strict=True):
            if position <= length:
                return _rounded(low + position, low, high)
            position -= length
        return intervals[-1][1]

    def rotation(self) -> tuple[float, float, float, float]:
        """Return a unit quaternion (w, x, y, z), uniform over SO(3).

        A point uniform in the 4-ball, by rejection from its cube, scaled to length 1: no sine or cosine,
        whose last bits differ between machines.
        """
        while True:
            w, x, y, z = (2.0 * self.units(4) - 1.0).tolist()
            square = w * w + x * x + y * y + z * z
            if 0.01 < square <= 1.0:
                length = math.sqrt(square)
                return w / length, x / length, y / length, z / length


def _rounded(number: float, low: float, high: float) -> float:
    return min(max(float(f"{number:.{_SIGNIFICANT}g}"), low), high)
