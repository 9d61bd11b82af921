import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from train.evaluation.statistics import Comparison, bootstrap_mean, compare, spread

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def named(values):
    return {f"case{number}": value for number, value in enumerate(values)}


@settings(max_examples=10)
@given(SCORES.filter(lambda values: np.ptp(values) > 1e-6), st.integers(0, 2**31))
def test_interval_equals_scipys(values, seed):
    found = bootstrap_mean(values, seed=seed, resamples=500)
    expected = stats.bootstrap(
        (np.array(values),), np.mean, n_resamples=500, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.low <= found.mean + 1e-12
    assert found.mean <= found.high + 1e-12


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = bootstrap_mean(rng.normal(0.7, 0.1, 30), seed=1, resamples=400, confidence=0.9)
        held += found.low <= 0.7 <= found.high
    assert 0.82 < held / 200 < 0.96


def test_an_interval_depends_on_values_and_seed_alone():
    values = np.random.default_rng(1).random(20)
    np.random.seed(5)  # noqa: NPY002  # global state, which must not matter
    first = bootstrap_mean(values, seed=3)
    np.random.seed(6)  # noqa: NPY002
    assert bootstrap_mean(values, seed=3) == first
    assert bootstrap_mean(values, seed=4) != first


def test_what_values_do_not_determine_is_nan():
    none, one = bootstrap_mean([]), bootstrap_mean([0.5, math.nan])
    assert none.count == 0
    assert math.isnan(none.mean)
    assert (one.mean, one.count) == (0.5, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(spread([0.5]).deviation)
    assert spread([]).count == 0
    nothing = compare({"a": 0.5}, {"b": 0.5})
    assert (nothing.count, nothing.unpaired) == (0, 2)
    assert math.isnan(nothing.p)


def test_equal_values_have_an_interval_of_that_value():
    found = bootstrap_mean([0.25] * 5)
    assert (found.low, found.mean, found.high, found.count) == (0.25, 0.25, 0.25, 5)


def slow_wilcoxon(differences):
    """Every way the signs could have fallen, ranks of equal sizes shared."""
    d = differences[differences != 0]
    ranks = stats.rankdata(np.abs(d))
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in product((0, 1), repeat=len(d))]
    found = ranks[d > 0].sum()
    tails = np.mean(np.array(sums) <= found + 1e-9), np.mean(np.array(sums) >= found - 1e-9)
    return min(1.0, 2 * min(tails))


@settings(max_examples=25)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9).filter(any))
def test_wilcoxon_equals_its_definition_with_ties_and_zeros(differences):
    differences = np.array(differences) / 10
    found = compare(named(0.5 + differences), named(np.full(len(differences), 0.5)))
    assert found.p == pytest.approx(slow_wilcoxon(differences))
    assert found.difference == pytest.approx(differences.mean())
    assert (found.ties, found.wins) == ((differences == 0).sum(), (differences > 0).sum())


@pytest.mark.parametrize("count", [20, 50, 51, 200])
def test_wilcoxon_equals_scipys(count):
    b, a = np.random.default_rng(count).random((2, count))
    a = a + 0.1
    method = "exact" if count <= 50 else "approx"
    assert compare(named(a), named(b)).p == pytest.approx(stats.wilcoxon(a, b, method=method).pvalue)
    a[0], b[0] = 0.5, 0.5  # a case without a difference
    assert compare(named(a), named(b)).p == pytest.approx(stats.wilcoxon(a[1:], b[1:]).pvalue)


def test_wilcoxon_is_exact_for_few_cases():
    # All of five differences positive, of different sizes: 2 of 2**5 sign patterns are as extreme.
    found = compare(named([0.5, 0.6, 0.7, 0.8, 0.9]), named([0.4, 0.4, 0.4, 0.4, 0.4]))
    assert found.p == pytest.approx(2 / 32)


def test_no_difference_is_no_evidence():
    scores = named([0.1, 0.2, 0.3])
    assert compare(scores, scores) == Comparison(0.0, 1.0, 3, 0, 3, 0)
    rounded = {name: value * (1 + 1e-15) for name, value in scores.items()}
    assert compare(rounded, scores).ties == 3


def test_cases_are_paired_by_name_and_undefined_ones_left_out():
    first = {"a": 0.9, "b": 0.2, "c": math.nan, "d": 0.5, "only": 1.0}
    second = dict(reversed({"a": 0.8, "b": 0.3, "c": 0.1, "d": 0.5}.items()))
    found = compare(first, second)
    assert (found.count, found.wins, found.ties, found.unpaired) == (3, 1, 1, 2)
    assert found.difference == pytest.approx(0.0)


def test_one_case_says_nothing_of_which_is_better():
    assert compare({"a": 0.9}, {"a": 0.1}).p == 1.0


def test_spread_is_the_sample_deviation_and_says_so_in_words():
    values = [0.8, 0.9, 0.85, math.nan]
    found = spread(values)
    assert (found.mean, found.deviation) == pytest.approx((0.85, np.std(values[:3], ddof=1)))
    assert found.count == 3
    assert str(found) == "0.850 ± 0.050"
    assert str(spread([0.5])) == "0.500"
    assert str(spread([])) == "n/a"
