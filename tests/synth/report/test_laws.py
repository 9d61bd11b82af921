"""Laws: what is drawn follows its law, what is not drawn from it is far from it."""

import numpy as np
import pytest
from scipy import stats

from synth.report.laws import Intervals, Steps, chance, one_of, uniform
from synth.tumour.philox import Stream

COUNT = 4000


def draw(method, *arguments):
    return np.array([getattr(Stream(11, index), method)(*arguments) for index in range(COUNT)])


@pytest.mark.parametrize(
    ("law", "method", "arguments"),
    [
        (uniform((0.2, 0.8)), "uniform", (0.2, 0.8)),
        (uniform((500, 100_000), log=True), "log_uniform", (500, 100_000)),
        (uniform((0.6, 0.9), (1.1, 1.7)), "uniform_over", (((0.6, 0.9), (1.1, 1.7)),)),
        (one_of(0, 6), "below", (7,)),
    ],
)
def test_a_stream_draws_what_its_law_says(law, method, arguments):
    assert law.distance(draw(method, *arguments)) < chance(COUNT)


@pytest.mark.parametrize(
    ("law", "method", "arguments", "least"),
    [
        (uniform((500, 100_000)), "log_uniform", (500, 100_000), 0.4),
        (uniform((0.2, 0.9)), "uniform", (0.2, 0.8), 0.1),
        (uniform((0.6, 1.7)), "uniform_over", (((0.6, 0.9), (1.1, 1.7)),), 0.1),
        (one_of(0, 7), "below", (7,), 0.1),
        (uniform((0.5, 0.5)), "uniform", (0.2, 0.8), 0.4),
    ],
)
def test_a_law_known_to_be_wrong_is_far_away(law, method, arguments, least):
    distance = law.distance(draw(method, *arguments))
    assert distance > least
    assert distance > 3 * chance(COUNT)


def test_the_laws_are_those_of_scipy():
    x = np.linspace(400, 120_000, 50)
    np.testing.assert_allclose(uniform((500, 100_000)).cdf(x), stats.uniform(500, 99_500).cdf(x), atol=1e-12)
    np.testing.assert_allclose(
        uniform((500, 100_000), log=True).cdf(x), stats.loguniform(500, 100_000).cdf(x), atol=1e-12
    )


def test_the_distance_of_steps_is_the_largest_difference_at_any_value():
    law = Steps(np.array([3.0, 1.0, 3.0]), np.array([1.0, 2.0, 1.0]), "")
    values = np.array([1.0, 2.0, 2.0, 3.0, 4.0])
    at = [1.0, 2.0, 3.0, 4.0]
    slow = max(abs(np.mean(values <= x) - {1.0: 0.5, 2.0: 0.5, 3.0: 1.0, 4.0: 1.0}[x]) for x in at)
    assert law.distance(values) == pytest.approx(slow)
    assert (law.quantile(0.2), law.quantile(0.9)) == (1.0, 3.0)


def test_chance_is_what_draws_of_the_law_itself_stay_below():
    """The limit law of Kolmogorov, by SciPy."""
    assert stats.kstwobign.sf(chance(COUNT) * np.sqrt(COUNT)) == pytest.approx(0.001, rel=0.01)


def test_a_law_says_itself_in_words():
    assert str(uniform((7, 200))) == "uniform, 7 to 200"
    assert str(uniform((0.6, 0.9), (1.1, 1.7))) == "uniform, 0.6 to 0.9 and 1.1 to 1.7"
    assert str(uniform((500, 100_000), log=True)) == "log-uniform, 500 to 100,000"
    assert str(uniform((0.5, 0.5))) == "always 0.5"
    assert isinstance(uniform((0.5, 0.5), (0.6, 0.7)), Intervals)
