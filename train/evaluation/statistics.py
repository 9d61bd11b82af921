"""How sure a number is: intervals over cases, comparisons of methods on the same cases, spread over folds or seeds.

Conventions: NaN, an undefined score, is left out and the count says of how many values a number speaks; a number that
the values do not determine is NaN, never 0. Cases are paired by name, never by position.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
_DECIMALS = 12  # of a difference: the same masks must tie, whatever their last bits


@dataclass(frozen=True)
class Interval:
    """Mean of a score over cases, and where the mean of other such cases would lie.

    Attributes
    ----------
    mean, low, high : float
        NaN without any value; ``low`` and ``high`` also with a single one.
    count : int
        Values that are defined.
    """

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same cases.

    Attributes
    ----------
    difference : float
        Mean of first minus second.
    p : float
        Of Wilcoxon's signed-rank test, two-sided: how likely differences as large are if neither is better. 1 where
        no case differs, NaN without cases.
    count, wins, ties : int
        Cases in which both are defined; in which the first is higher; in which both are equal.
    unpaired : int
        Cases left out because one of the two is missing or undefined.
    """

    difference: float
    p: float
    count: int
    wins: int
    ties: int
    unpaired: int


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over folds or seeds; ``deviation`` is NaN with fewer than two."""

    mean: float
    deviation: float
    count: int

    def __str__(self) -> str:
        """Return mean ± deviation with three digits."""
        if not self.count:
            return "n/a"
        return f"{self.mean:.3f}" if math.isnan(self.deviation) else f"{self.mean:.3f} ± {self.deviation:.3f}"


def bootstrap_mean(
    values: Sequence[float], *, seed: int = 0, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean over cases with its percentile bootstrap interval (Efron 1979).

    Parameters
    ----------
    values : sequence of float
        One a case.
    seed : int
        Of the resampling; the same seed and values give the same interval.
    confidence : float
        Between 0 and 1.
    resamples : int

    Returns
    -------
    Interval
        Of equal values the interval is that value.
    """
    from scipy.stats import bootstrap

    defined = _defined(values)
    if len(defined) == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(defined.mean())
    if len(defined) == 1:
        return Interval(mean, math.nan, math.nan, 1)
    if np.ptp(defined) == 0:
        return Interval(mean, mean, mean, len(defined))
    found = bootstrap(
        (defined,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 10_000_000 // len(defined)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), len(defined))


def bootstrap_ratio(parts: Sequence[float] | np.ndarray, wholes: Sequence[float] | np.ndarray) -> Interval:
    """Return a share of all cases together, the ratio of two sums, with its percentile bootstrap interval over cases.

    Parameters
    ----------
    parts, wholes : sequence of float
        One each a case: lesions that are found, and lesions.

    Returns
    -------
    Interval
        ``count`` is the sum of `wholes`. NaN if that is 0; ``low`` and ``high`` also if a single case has any.
    """
    pairs = np.stack([np.asarray(parts, float), np.asarray(wholes, float)], axis=1)
    part, whole = pairs.sum(axis=0).tolist() if len(pairs) else (0.0, 0.0)
    if not whole:
        return Interval(math.nan, math.nan, math.nan, 0)
    ratio, count = part / whole, round(whole)
    if np.count_nonzero(pairs[:, 1]) < 2:
        return Interval(ratio, math.nan, math.nan, count)
    rng, cases = np.random.default_rng(0), len(pairs)
    batch = max(1, 10_000_000 // cases)
    sums = np.concatenate([
        rng.multinomial(cases, np.full(cases, 1 / cases), size=min(batch, RESAMPLES - start)) @ pairs
        for start in range(0, RESAMPLES, batch)
    ])  # fmt: skip
    ratios = sums[sums[:, 1] > 0]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios[:, 0] / ratios[:, 1], [tail, 1 - tail]).tolist()
    return Interval(ratio, low, high, count)


def compare(first: Mapping[str, float], second: Mapping[str, float]) -> Comparison:
    """Compare two methods on the cases that both were scored on.

    Parameters
    ----------
    first, second : mapping of str to float
        Scores by the name of the case.

    Returns
    -------
    Comparison
        Cases without a difference are left out of the test, as Wilcoxon does. It is exact for up to 50 others, or
        up to 13 where differences are of equal size; beyond, the normal approximation.
    """
    everyone = sorted(set(first) | set(second))
    pairs = np.array([[first.get(n, math.nan), second.get(n, math.nan)] for n in everyone], float).reshape(-1, 2)
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    differences = np.round(pairs[:, 0] - pairs[:, 1], _DECIMALS)
    count = len(differences)
    if not count:
        return Comparison(math.nan, math.nan, 0, 0, 0, len(everyone))
    ties = int((differences == 0).sum())
    p = _signed_rank(differences[differences != 0]) if ties < count else 1.0
    wins = int((differences > 0).sum())
    return Comparison(float(differences.mean()), p, count, wins, ties, len(everyone) - count)


def spread(values: Sequence[float]) -> Spread:
    """Return mean ± standard deviation (n - 1) over folds or seeds."""
    defined = _defined(values)
    mean = float(defined.mean()) if len(defined) else math.nan
    return Spread(mean, float(defined.std(ddof=1)) if len(defined) > 1 else math.nan, len(defined))


def _defined(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    return array[~np.isnan(array)]


def _signed_rank(differences: np.ndarray) -> float:
    """Return the two-sided p of Wilcoxon's test on differences, none of them 0."""
    from scipy.stats import PermutationMethod, wilcoxon

    count = len(differences)
    alike = len(np.unique(np.abs(differences))) < count
    method: Literal["exact", "approx"] | PermutationMethod = "exact" if count <= 50 else "approx"  # scipy's own limit
    if alike:  # scipy's exact distribution knows no equal ranks; that of all signs does
        method = PermutationMethod(n_resamples=2**count) if count <= 13 else "approx"
    return float(wilcoxon(differences, method=method).pvalue)
