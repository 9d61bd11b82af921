"""Laws: the distributions that recipes are drawn from, to hold measured ones against."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scans.catalog.synthesis import Synthesis
from synth.tumour.number import Number

# sqrt(n) D of the Kolmogorov-Smirnov distance D stays below this in 999 of 1000 samples of the law (its limit law).
_CHANCE = 1.95


@dataclass(frozen=True)
class Intervals:
    """Uniform over intervals, each as likely as it is long; of the logarithm with `log`.

    Attributes
    ----------
    intervals : sequence of tuple of float
        At least one that is longer than a point.
    log : bool
        Uniform in the logarithm; the ends are above 0.
    """

    intervals: Sequence[tuple[float, float]]
    log: bool = False

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of at most `x`, float64, shape of `x`."""
        scale = np.log if self.log else np.asarray
        at, share, total = scale(np.asarray(x, np.float64)), np.zeros(np.shape(x)), 0.0
        for low, high in self.intervals:
            start, end = float(scale(low)), float(scale(high))
            share += np.clip(at, start, end) - start
            total += end - start
        return share / total

    def distance(self, values: np.ndarray) -> float:
        """Return the Kolmogorov-Smirnov distance of `values` from this law."""
        from scipy.stats import ks_1samp

        return float(ks_1samp(values, self.cdf).statistic)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Say the law as a reader of the page would."""
        spans = " and ".join(f"{low:,g} to {high:,g}" for low, high in self.intervals)
        return f"{'log-uniform' if self.log else 'uniform'}, {spans}"


@dataclass(frozen=True)
class Steps:
    """A law of finitely many values.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
        Sorted or not, repeated or not.
    weights : ndarray of float64, shape (n,)
        Of each value; need not sum to 1.
    text : str
        The law in words.
    """

    values: np.ndarray
    weights: np.ndarray
    text: str

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of at most `x`, float64, shape of `x`."""
        order = np.argsort(self.values, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(self.weights[order])])
        return sums[np.searchsorted(self.values[order], x, side="right")] / sums[-1]

    def quantile(self, share: float) -> float:
        """Return the least value that at most `share` of the law lies below."""
        order = np.argsort(self.values, kind="stable")
        sums = np.cumsum(self.weights[order])
        return float(self.values[order][np.searchsorted(sums, share * sums[-1])])

    def distance(self, values: np.ndarray) -> float:
        """Return the Kolmogorov-Smirnov distance of `values` from this law; both jump, so it is taken after jumps."""
        after = np.union1d(self.values, values)
        measured = np.searchsorted(np.sort(values), after, side="right") / len(values)
        return float(np.abs(measured - self.cdf(after)).max())

    def __str__(self) -> str:
        """Say the law as a reader of the page would."""
        return self.text


Law = Intervals | Steps


def uniform(*intervals: tuple[float, float], log: bool = False) -> Law:
    """Return the law of a number drawn over intervals; all at a point if they have no length."""
    if all(low == high for low, high in intervals):
        points = np.array([low for low, _ in intervals], np.float64)
        return Steps(points, np.ones(len(points)), "always " + " or ".join(f"{point:,g}" for point in points))
    return Intervals(intervals, log)


def law_of(number: Number, settings: Synthesis) -> Law | None:
    """Return the law that settings draw a number of a recipe from, in its unit; None if it is not drawn by one."""
    intervals = number.within(settings) if number.drawn else ()
    if not intervals:
        return None
    if number.whole:
        ((first, last),) = intervals
        return one_of(int(first), int(last))
    each = ((low / number.per_unit, high / number.per_unit) for low, high in intervals)
    return uniform(*each, log=number.log(settings))


def one_of(first: int, last: int) -> Law:
    """Return the law of a whole number from `first` to `last`, all as likely."""
    values = np.arange(first, last + 1, dtype=np.float64)
    return Steps(values, np.ones(len(values)), f"uniform, whole numbers {first} to {last}")


def chance(count: int) -> float:
    """Return the Kolmogorov-Smirnov distance that `count` draws of the law itself exceed once in 1000 times."""
    return _CHANCE / math.sqrt(count)
