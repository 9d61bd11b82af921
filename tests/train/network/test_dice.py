import numpy as np
import pytest

from train.network.dice import best_level, dice


def test_the_level_is_the_best_of_those_tried():
    rng = np.random.default_rng(0)
    truths = [rng.random((8, 8, 8)) < 0.1 for _ in range(3)]
    values = [np.where(truth, 2 + rng.random(truth.shape), rng.random(truth.shape)) for truth in truths]
    level, overlap = best_level(values, truths)
    assert 0.95 < overlap <= 1
    assert 0.9 < level < 2.1
    found = [value >= level for value in values]
    assert overlap == pytest.approx(np.mean([dice(one, truth) for one, truth in zip(found, truths, strict=True)]))


def test_where_nothing_speaks_for_a_tumour_the_level_is_reached_nowhere():
    nothing = np.zeros((2, 2, 2))
    assert best_level([nothing], [np.ones((2, 2, 2), bool)]) == (1.0, 0.0)
    assert best_level([nothing], [nothing != 0]) == (1.0, 1.0)
