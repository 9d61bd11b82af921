from dataclasses import replace

import numpy as np
import pytest

from scans.image.components import largest_component
from synth.corpus import Sample
from tests.made.tiny_corpus import TinyCorpus
from train.evaluation.threshold_row import REFINED, SIGMAS_MM, TAILS, choose_threshold, smooth
from train.network.dice import dice


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


def slow_choice(made, spacing):
    """Try every smoothing, side and level; the best, and the best level's neighbours after it."""
    best = -1.0, None
    for sigma in SIGMAS_MM:
        rois = [(s.normal != 0) | (s.composite != 0) for s in made]
        smoothed = [smooth(s.composite, roi, sigma, spacing) for s, roi in zip(made, rois, strict=True)]
        inside = np.concatenate([volume[roi] for volume, roi in zip(smoothed, rois, strict=True)])
        for side in ("above", "below"):

            def mean_dice(level, side=side, smoothed=smoothed, rois=rois):
                masks = [largest_component((v > level if side == "above" else v < level) & r)
                         for v, r in zip(smoothed, rois, strict=True)]  # fmt: skip
                return np.mean([dice(m, s.mask != 0) for m, s in zip(masks, made, strict=True)])

            tails = np.array(TAILS)
            levels = np.quantile(inside, 1 - tails if side == "above" else tails).tolist()
            scored = [mean_dice(level) for level in levels]
            at = int(np.argmax(scored))
            if scored[at] > best[0]:
                low, high = levels[max(0, at - 1)], levels[min(len(levels) - 1, at + 1)]
                levels += np.linspace(low, high, REFINED + 2)[1:-1].tolist()
                scored = [mean_dice(level) for level in levels]
                at = int(np.argmax(scored))
                best = scored[at], (sigma, levels[at], side)
    return best


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("empty", [False, True])
def test_what_cannot_be_the_best_is_left_out_and_nothing_else(sign, empty):
    made = samples(sign)[:3]
    if empty:
        made[1] = replace(made[1], composite=made[1].normal, mask=np.zeros_like(made[1].mask))
    rule = choose_threshold(made, [(2.0, 2.0, 2.0)] * 3)
    assert (rule.dice, (rule.sigma_mm, rule.level, rule.side)) == slow_choice(made, (2.0, 2.0, 2.0))


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
