from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from scans.catalog.region import Region
from scans.image.normalisation import Statistics
from scans.image.smoothing import smooth
from synth.corpus import Sample
from tests.made.tiny_corpus import TinyCorpus
from train.evaluation import threshold_row
from train.evaluation.threshold_row import KEPT, TAILS, choose_threshold, segment, unit_of
from train.network.channels import Channel
from train.network.dice import dice
from train.network.record import Threshold

SPACING = (2.0, 2.0, 2.0)


def samples(sign=1, size=24):
    corpus = TinyCorpus(size=size, samples=6)
    made = [corpus[i] for i in range(len(corpus))]
    return [Sample(sign * s.composite, sign * s.normal, sign * s.texture, s.mask, s.alpha) for s in made]


def mean_dice(rule, made):
    rois = [(s.normal != 0) | (s.composite != 0) for s in made]
    return np.mean([dice(segment(rule, s.composite, r, SPACING), s.mask != 0) for s, r in zip(made, rois, strict=True)])


@pytest.mark.parametrize(("sign", "side"), [(1, "above"), (-1, "below")])
def test_the_rule_finds_its_side_and_works_on_others(sign, side):
    made = samples(sign)
    rule = choose_threshold(made[:4], [SPACING] * 4)
    assert rule.side == side
    assert rule.dice > 0.9
    assert rule.dice == pytest.approx(mean_dice(rule, made[:4])), "the stated Dice is the mean over its samples"
    assert mean_dice(rule, made[5:]) > 0.8


def slow_choice(made, sigmas_mm, kept, unit_size):
    """Try every rule of the family on every sample; the first of the best."""
    best = None
    rois = [(s.normal != 0) | (s.composite != 0) for s in made]
    for sigma_mm, origin, side in product(sigmas_mm, ("zero", "median"), ("above", "below")):
        size, step = (unit_size, 5.0) if origin == "median" else (1.0, 0.1)
        inside = []
        for s, roi in zip(made, rois, strict=True):
            values = smooth(s.composite, roi, sigma_mm, SPACING)[roi]
            inside.append((values - np.median(s.composite[roi])) * size if origin == "median" else values)
        pooled = np.concatenate(inside)
        levels = [round(step * n, 10) for n in range(-80, 81)]
        for level in reversed(levels) if side == "above" else levels:
            if not TAILS[0] <= np.mean(pooled > level if side == "above" else pooled < level) <= TAILS[1]:
                continue
            for parts, least_ml in kept:
                rule = Threshold(
                    sigma_mm=sigma_mm, level=level, side=side, dice=0.0, origin=origin, unit="HU", unit_size=size,
                    parts=parts, least_ml=least_ml,
                )  # fmt: skip
                found = rule.model_copy(update={"dice": float(mean_dice(rule, made))})
                if best is None or found.dice > best.dice:
                    best = found
    return best


@pytest.mark.parametrize(("sign", "empty"), [(1, True), (-1, False)])
def test_what_cannot_be_the_best_is_left_out_and_nothing_else(sign, empty, monkeypatch):
    made = samples(sign, size=12)[:3]
    if empty:
        made[1] = replace(made[1], composite=made[1].normal, mask=np.zeros_like(made[1].mask))
    monkeypatch.setattr(threshold_row, "SIGMAS_MM", (1.0,))
    monkeypatch.setattr(threshold_row, "KEPT", KEPT[:3])
    rule = choose_threshold(made, [SPACING] * 3, "HU", 51.0)
    expected = slow_choice(made, (1.0,), KEPT[:3], 51.0)
    assert rule.model_dump() == pytest.approx(expected.model_dump())


def livers():
    """Livers of different medians, each with two dark tumours, and a smaller vessel that is as dark."""
    made = []
    for number, large in enumerate((7, 5, 3)):
        draw = np.random.default_rng(number)
        roi = np.zeros((24, 24, 24), bool)
        roi[2:22, 2:22, 2:22] = True
        hu, mask = draw.uniform(-18, 18, roi.shape), np.zeros(roi.shape, bool)
        mask[3 : 3 + large, 3:8, 3:8] = mask[14 : 14 + large, 14:18, 14:18] = True
        vessel = np.zeros_like(mask)
        vessel[4 : 4 + large, 14:17, 4:7] = True
        hu = np.where(mask | vessel, draw.uniform(-60, -22, roi.shape), hu) + 30 * number - 17
        values = np.where(roi, hu / 51, 0).astype(np.float32)
        made.append(Sample(values, values, values, mask.astype(np.uint8), 1.0))
    return made


def test_darker_than_the_organs_median_by_20_hu_is_a_rule_and_found_where_it_is_right():
    channel = Channel(Region(modality="CT"), Statistics(1100.0, 51.0, 1000.0, 1200.0))
    made = livers()
    rule = choose_threshold(made, [SPACING] * 3, *unit_of(channel))
    assert rule.words() == "no smoothing, below the organ's median - 20 HU, two largest parts"
    assert rule.dice == mean_dice(rule, made) == 1


def test_distances_from_the_median_are_told_in_what_scans_have_in_common():
    statistics = Statistics(300.0, 90.0)
    assert unit_of(Channel(Region(modality="FLAIR"))) == ("standard deviations", 1.0)
    assert unit_of(Channel(Region(modality="T2"), statistics)) == ("raw units", 90.0)


def test_a_rule_of_an_older_checkpoint_keeps_its_meaning():
    rule = Threshold.model_validate({"sigma_mm": 2.0, "level": 1.4336, "side": "above", "dice": 0.35})
    assert rule.words() == "smooth 2 mm, above 1.43, largest part"


@pytest.mark.parametrize(
    ("kept", "sizes"),
    [
        ({"parts": 1}, [8]),
        ({"parts": 2}, [8, 4]),
        ({"parts": 9}, [8, 4, 1, 1]),
        ({"parts": 0, "least_ml": 0.03}, [8, 4]),
        ({"parts": 0}, [8, 4, 1, 1]),
    ],
)
def test_parts_are_kept_by_number_or_volume_and_touch_at_faces(kept, sizes):
    scan, roi = np.zeros((9, 9, 9), np.float32), np.ones((9, 9, 9), bool)
    scan[0, 0, 0] = scan[4:6, 4:6, 4:6] = scan[8, 0, 1:5] = scan[1, 1, 1] = 2
    rule = Threshold(sigma_mm=0.0, level=1.0, side="above", dice=1.0, **kept)
    found = segment(rule, scan, roi, SPACING)
    labels, _ = ndimage.label(found)
    assert sorted(np.bincount(labels[found])[1:], reverse=True) == sizes
    assert not segment(rule.model_copy(update={"level": 3.0}), scan, roi, SPACING).any()


def test_smoothing_is_in_mm_and_does_not_darken_the_rim():
    roi = np.zeros((20, 20, 20), bool)
    roi[4:16, 4:16, 4:16] = True
    np.testing.assert_allclose(smooth(np.where(roi, 3.0, 0), roi, 2.0, (1, 1, 1))[roi], 3.0, rtol=1e-5)
    point = np.zeros((21, 21, 21), np.float32)
    point[10, 10, 10] = 1
    blurred = smooth(point, np.ones_like(point, bool), 2.0, (4.0, 1.0, 1.0))
    assert blurred[11, 10, 10] < blurred[10, 11, 10]
    assert blurred[11, 10, 10] == pytest.approx(blurred[10, 14, 10], rel=0.1)


def test_smoothing_gives_the_same_bits_however_far_from_the_border_the_organ_lies():
    draw = np.random.default_rng(0)
    scan, roi = draw.normal(size=(30, 32, 34)).astype(np.float32), np.zeros((30, 32, 34), bool)
    roi[12:20, 0:9, 14:19] = draw.random((8, 9, 5)) < 0.8
    total = ndimage.gaussian_filter(np.where(roi, scan, 0), 1.5)
    weight = ndimage.gaussian_filter(roi.astype(np.float32), 1.5)
    expected = np.where(roi, total / np.maximum(weight, 1e-6), 0)
    np.testing.assert_array_equal(smooth(scan, roi, 3.0, SPACING), expected)
    assert not smooth(scan, roi & False, 3.0, SPACING).any()
