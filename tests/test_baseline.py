import numpy as np
import pytest
from tiny_corpus import TinyCorpus

from synth.corpus import Sample
from train.baseline import choose_threshold, largest_component, smooth
from train.metrics import dice


def samples(sign=1):
    corpus = TinyCorpus(size=24, samples=6)
    made = [corpus[i] for i in range(len(corpus))]
    return [Sample(sign * s.composite, sign * s.normal, sign * s.texture, s.mask, s.alpha) for s in made]


@pytest.mark.parametrize(("sign", "side"), [(1, "above"), (-1, "below")])
def test_the_rule_finds_its_side_and_works_on_others(sign, side):
    made = samples(sign)
    rule = choose_threshold(made[:4], [(2.0, 2.0, 2.0)] * 4)
    assert rule.side == side
    assert rule.dice > 0.7
    other = made[5]
    assert dice(rule(other.composite, other.normal != 0, (2.0, 2.0, 2.0)), other.mask != 0) > 0.6


def test_the_stated_dice_is_the_mean_over_its_samples():
    made = samples()[:3]
    rule = choose_threshold(made, [(2.0, 2.0, 2.0)] * 3)
    scored = [dice(rule(s.composite, s.normal != 0, (2.0, 2.0, 2.0)), s.mask != 0) for s in made]
    assert rule.dice == pytest.approx(np.mean(scored))


def test_smoothing_is_in_mm_and_does_not_darken_the_rim():
    roi = np.zeros((20, 20, 20), bool)
    roi[4:16, 4:16, 4:16] = True
    np.testing.assert_allclose(smooth(np.where(roi, 3.0, 0), roi, 2.0, (1, 1, 1))[roi], 3.0, rtol=1e-5)
    point = np.zeros((21, 21, 21), np.float32)
    point[10, 10, 10] = 1
    blurred = smooth(point, np.ones_like(point, bool), 2.0, (4.0, 1.0, 1.0))
    assert blurred[11, 10, 10] < blurred[10, 11, 10]
    assert blurred[11, 10, 10] == pytest.approx(blurred[10, 14, 10], rel=0.1)


def test_only_the_largest_component_is_kept():
    mask = np.zeros((9, 9, 9), bool)
    mask[0, 0, 0], mask[4:6, 4:6, 4:6] = True, True
    kept = largest_component(mask)
    assert kept.sum() == 8
    assert not kept[0, 0, 0]
    assert not largest_component(np.zeros((3, 3, 3), bool)).any()
