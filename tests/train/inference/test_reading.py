import json

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from typer.testing import CliRunner

from scans.errors import CheckpointError
from scans.image.volume import write_volume
from tests.made.real_scans import head, write_case, write_catalog
from tests.made.tiny_checkpoint import readings, save_bright
from train.cli.application import app
from train.evaluation.evaluate import evaluate
from train.inference.model import load_model
from train.inference.reading import PLAIN, Asked, Reading, Scored, own_level
from train.inference.reading_choice import CLEAN_GAIN, GAIN, LEVELS, Found, choose_readings
from train.network.dice import dice
from train.segmentation.outputs import Options
from train.segmentation.segment import segment
from train.segmentation.summary import read_summary
from train.settings import SettingsError, validated

SIDE, SPACING = 20, (2.0, 1.0, 1.0)


def sample(seed, mask=0.9, residual=2.0, stray=0.0):
    """Return a ball that the mask channel and the residual each show by so much, and perhaps a stray part."""
    draw = np.random.default_rng(seed)
    z, y, x = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    roi = z**2 + y**2 + x**2 < 9.5**2
    cz, cy, cx = draw.uniform(-1, 1, 3)
    truth = (z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < 4**2
    off = (z + 5) ** 2 + (y + 5) ** 2 + (x + 5) ** 2 < 2.2**2
    probability = np.where(truth, mask, 0.1) + np.where(off & ~truth, stray, 0)
    far = np.where(truth, residual, 0.2) + draw.uniform(0, 0.1, truth.shape)
    return Found(probability.astype(np.float32), far.astype(np.float32) * roi, roi, truth, SPACING)


def samples(count=4, **shown):
    return [sample(seed, **shown) for seed in range(count)]


def score(reading, found):
    """Score a reading the slow way: voxel by voxel as `train segment` makes a mask."""
    overlaps = []
    for one in found:
        mask = reading.share_of(one.residual, one.probability, one.roi, one.spacing_mm) >= np.float32(reading.level)
        if reading.clean == "largest":
            parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
            sizes = [np.count_nonzero(parts == part) for part in range(1, count + 1)]
            mask = parts == 1 + int(np.argmax(sizes)) if count else mask
        if reading.least_ml:
            parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
            ml = np.bincount(parts.ravel()) * np.prod(one.spacing_mm) / 1000
            mask &= (ml >= reading.least_ml)[parts]
        overlaps.append(dice(mask, one.truth))
    return float(np.mean(overlaps))


def test_where_the_mask_is_empty_the_residual_is_read():
    readings = choose_readings([samples(mask=0.1)])
    assert readings.chosen == "residual"
    assert readings.plain.dice == 0
    assert readings.residual.dice > 0.95


def test_where_the_residual_shows_nothing_the_mask_is_read():
    readings = choose_readings([samples(mask=0.4, residual=0.2)])
    assert readings.chosen == "mask"
    assert readings.mask.level <= 0.4
    assert readings.mask.dice == 1


def test_where_each_misses_what_the_other_has_both_are_read():
    half = [sample(seed, mask=0.9, residual=0.6) for seed in range(3)]
    other = [sample(seed, mask=0.35, residual=3.0) for seed in range(3, 6)]
    noisy = [
        Found(one.probability + 0.3 * draw, one.residual + np.float32(0.9) * other_draw, one.roi, one.truth, SPACING)
        for one, draw, other_draw in (
            (one, *np.random.default_rng(seed).uniform(0, 1, (2, SIDE, SIDE, SIDE)).astype(np.float32) ** 4)
            for seed, one in enumerate(half + other)
        )
    ]
    readings = choose_readings([noisy])
    assert readings.chosen == "both"
    assert readings.both.dice > max(readings.mask.dice, readings.residual.dice) + 0.001


def test_a_plain_reading_that_nothing_beats_is_kept():
    readings = choose_readings([samples()])
    assert readings.chosen == "plain"
    assert readings.way("plain").reading() == PLAIN


def test_of_readings_as_good_as_each_other_the_simplest_is_taken():
    readings = choose_readings([samples(mask=0.9)])
    assert readings.mask.reading() == PLAIN
    assert (readings.residual.smooth_mm, readings.residual.clean) == (0, "none")


def test_a_gain_too_small_to_trust_changes_nothing():
    found = samples(8)
    truth = found[0].truth
    probability = found[0].probability.copy()
    probability[tuple(np.argwhere(truth)[0])] = 0.47  # a voxel of one sample in eight
    changed = Found(probability, np.zeros_like(probability), found[0].roi, truth, SPACING)
    readings = choose_readings([[changed, *found[1:]]])
    assert readings.plain.dice < readings.mask.dice < readings.plain.dice + GAIN
    assert readings.chosen == "plain"


def test_stray_parts_are_cleaned_away_where_that_helps():
    readings = choose_readings([samples(stray=0.8, residual=0.2)])
    assert readings.chosen == "mask"
    assert readings.mask.clean == "largest"
    assert readings.mask.dice == 1


def test_a_clean_up_that_gains_little_is_not_trusted():
    clean, stray = samples(9, residual=0.2), samples(1, stray=0.8, residual=0.2)
    readings = choose_readings([[*stray, *clean]])
    assert GAIN < 1 - readings.plain.dice < GAIN + CLEAN_GAIN  # what the largest part alone would gain
    assert readings.chosen == "plain"


def test_specks_are_left_out_where_no_tumour_is_lost_by_it():
    z, y, x = np.indices((SIDE,) * 3)
    truth = ((z - 5) ** 2 + (y - 5) ** 2 + (x - 5) ** 2 < 4**2) | ((z - 14) ** 2 + (y - 14) ** 2 + (x - 14) ** 2 < 4**2)
    speck = (abs(z - 5) < 2) & (abs(y - 15) < 2) & (abs(x - 15) < 1)
    probability = np.where(truth, 0.4, np.where(speck, 0.4, 0.1)).astype(np.float32)
    found = Found(probability, np.zeros_like(probability), np.ones(truth.shape, bool), truth, SPACING)
    readings = choose_readings([[found]])
    assert (readings.chosen, readings.mask.clean) == ("mask", "none")  # the largest part alone would lose a tumour
    assert readings.mask.least_ml == 0.5  # a speck has 0.02 ml, each tumour 0.51
    assert readings.mask.dice == 1


def test_each_corpus_counts_alike_however_many_samples_it_has():
    one, many = samples(1, mask=0.4, residual=0.2), samples(7, mask=0.9, residual=0.2)
    readings = choose_readings([one, many])
    assert readings.plain.dice == pytest.approx(0.5)
    assert readings.samples == (1, 7)


@settings(max_examples=12)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.floats(0, 1), st.floats(0, 3), st.floats(0, 0.9)), min_size=1, max_size=3)
)
def test_no_level_and_no_clean_up_is_better_than_the_one_chosen(drawn):
    found = [sample(seed, mask=m, residual=r, stray=s) for seed, m, r, s in drawn]
    readings = choose_readings([found])
    for way in ("mask", "residual", "both"):
        best = readings.way(way)
        assert score(best.reading(), found) == pytest.approx(best.dice, abs=1e-9)
        worth = best.dice - (best.clean == "largest") * CLEAN_GAIN
        for level in LEVELS[::4]:
            for clean in ("none", "largest"):
                tried = best.reading().model_copy(update={"level": level, "clean": clean, "least_ml": 0})
                assert score(tried, found) - (clean == "largest") * CLEAN_GAIN <= worth + 1e-6
    assert choose_readings([found]) == readings


def test_a_share_is_half_where_the_residual_is_its_scale():
    scan, normal = np.full((2, 4, 4, 4), 3.0, np.float32), np.zeros((2, 4, 4, 4), np.float32)
    normal[1] = 2.0  # distances of 3 and 1
    probability, roi = np.full((1, 4, 4, 4), 0.9, np.float32), np.ones((4, 4, 4), bool)
    residual = Reading(by="residual", residual_scale=2.0).share(scan, normal, probability, roi, SPACING)
    np.testing.assert_allclose(residual, 0.5)
    assert residual.shape == (1, 4, 4, 4)
    both = Reading(by="both", residual_scale=2.0).share(scan, normal, probability, roi, SPACING)
    np.testing.assert_allclose(both, 0.7)


def test_a_residual_outside_the_roi_counts_for_nothing():
    found = sample(0)
    outside = np.where(found.roi, found.residual, 100).astype(np.float32)
    reading = Reading(by="residual", smooth_mm=3.0)
    share = reading.share_of(outside, found.probability, found.roi, SPACING)
    np.testing.assert_array_equal(share, reading.share_of(found.residual, found.probability, found.roi, SPACING))
    assert not share[~found.roi].any()


# Recorded and used.


def test_a_checkpoint_without_a_reading_is_read_plainly(tmp_path):
    path = save_bright(tmp_path / "best.safetensors")
    assert load_model(path, "cpu").reading == PLAIN
    assert load_model(path, "cpu", asked=Asked(read="plain", level=0.3)).reading == Reading(level=0.3)
    with pytest.raises(CheckpointError, match="records no reading by residual"):
        load_model(path, "cpu", asked=Asked(read="residual"))


def test_a_recorded_reading_is_used_and_what_is_asked_for_comes_before_it(tmp_path):
    path = save_bright(tmp_path / "best.safetensors", reading=readings())
    assert load_model(path, "cpu").reading == Reading(by="both", level=0.4, residual_scale=0.5)
    for asked, wanted in (
        (Asked(level=0.6), Reading(by="both", level=0.6, residual_scale=0.5)),
        (Asked(read="mask"), Reading(level=0.3, clean="largest")),
        (Asked(read="mask", clean="none", least_ml=1), Reading(level=0.3, least_ml=1)),
        (Asked(read="residual"), Reading(by="residual", residual_scale=0.5)),
        (Asked(read="plain"), PLAIN),
    ):
        assert load_model(path, "cpu", asked=asked).reading == wanted


@pytest.mark.parametrize(
    "broken", [{"chosen": "best"}, {"plain": None}, {"mask": {"level": 7, "dice": 0.5}}, {"more": 1}]
)
def test_a_damaged_reading_is_refused(tmp_path, broken):
    path = save_bright(tmp_path / "best.safetensors", reading={**readings(), **broken})
    with pytest.raises(CheckpointError, match="do not fit this release"):
        load_model(path, "cpu")


def test_a_reading_by_layers_of_a_network_without_them_is_refused(tmp_path):
    data = {"classes": {"tumour": None}, "test": []}
    path = save_bright(tmp_path / "best.safetensors", stage="finetune", data=data, reading=readings())
    with pytest.raises(CheckpointError, match="reading by layers"):
        load_model(path, "cpu")


@pytest.mark.parametrize("command", ["segment", "evaluate"])
def test_the_commands_take_what_is_asked_for_of_the_reading(tmp_path, command):
    path, out = save_bright(tmp_path / "best.safetensors"), tmp_path / "out"
    over = ["scan.nii.gz"] if command == "segment" else ["--dataset", "heads"]
    asked = ["--read", "both", "--level", "scan", "--clean", "none", "--least-ml", "1"]
    result = CliRunner().invoke(app, [command, "--checkpoint", str(path), *over, "--out", str(out), *asked])
    assert "records no reading by both" in str(result.exception)
    assert not out.exists()


@pytest.mark.parametrize("asked", [{"level": 0}, {"level": 1}, {"read": "texture"}, {"clean": "most"}])
def test_what_is_no_reading_is_refused_in_a_sentence(asked):
    with pytest.raises(SettingsError, match=f"train segment: {next(iter(asked))}"):
        validated(Options, asked, "train segment")


def test_segment_reads_as_recorded_and_its_summary_says_how(tmp_path):
    scan, _, _ = head()
    write_volume(scan, tmp_path / "a.nii.gz")
    residual = Scored(by="residual", level=0.5, residual_scale=1.0, smooth_mm=4.0, dice=0.9)
    path = save_bright(tmp_path / "best.safetensors", reading=readings("residual", residual=residual))
    (plain,) = segment(path, [tmp_path / "a.nii.gz"], tmp_path / "plain", options=Options(read="plain"))
    (read,) = segment(path, [tmp_path / "a.nii.gz"], tmp_path / "read", options=Options(probabilities=True))
    assert read_summary(tmp_path / "plain")["a"].options == ""
    assert read_summary(tmp_path / "read")["a"].options == "read=residual smooth_mm=4 probabilities"
    share = np.asarray(nibabel.load(tmp_path / "read" / "a_probability.nii.gz").dataobj)
    np.testing.assert_array_equal(share >= 0.5, np.asarray(nibabel.load(read.mask).dataobj) != 0)
    assert 0 <= share.min() <= share.max() < 1
    assert plain.volume_ml != read.volume_ml
    with pytest.raises(SettingsError, match="--overwrite"):  # another reading is another mask
        segment(path, [tmp_path / "a.nii.gz"], tmp_path / "read", options=Options(read="plain"))


def test_evaluate_reads_as_recorded_and_says_how(tmp_path):
    write_case(tmp_path / "data", "one", seed=0, spacing_mm=(3.0, 2.5, 2.0))
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    never = Scored(level=0.95, clean="largest", least_ml=1e6, dice=0.9)  # parts as large as no head
    path = save_bright(tmp_path / "best.safetensors", reading=readings("mask", mask=never))
    found = evaluate(path, catalog, "heads", tmp_path / "read")
    assert found.cases[0].model.dice == 0
    scores = json.loads((tmp_path / "read" / "scores.json").read_text(encoding="utf-8"))
    assert scores["reading"]["level"] == 0.95
    assert "at least 0.95, the largest connected part" in scores["reading"]["words"]
    assert scores["reading"]["words"] in (tmp_path / "read" / "report.html").read_text(encoding="utf-8")


# A level of each scan's own.


@given(st.floats(0.3, 0.6), st.floats(0.12, 0.2), st.integers(0, 99))
def test_a_scans_own_level_parts_two_groups_of_shares(bright, faint, seed):
    draw = np.random.default_rng(seed)
    groups = draw.uniform(faint, faint + 0.02, 300), draw.uniform(bright + 0.25, bright + 0.3, 200)
    level = own_level(np.concatenate([*groups, np.zeros(5000)]).astype(np.float32))
    assert groups[0].max() <= level <= groups[1].min()


def test_a_scans_own_level_is_that_of_a_slow_search():
    share = np.random.default_rng(0).beta(0.5, 2.0, 4000).astype(np.float32)
    kept = share[share >= 0.1].astype(float)
    edges = np.linspace(0.1, 1, 181)
    middle = edges[np.clip(np.searchsorted(edges, kept, side="right") - 1, 0, 179)] + 0.0025

    def within(level):
        return sum(part.size * part.var() for part in (middle[kept < level], middle[kept >= level]) if part.size)

    assert own_level(share) == pytest.approx(min(edges[1:-1], key=within))


def test_where_nothing_is_above_the_faint_the_level_is_a_half():
    assert own_level(np.full(10, 0.05, np.float32)) == 0.5
    assert own_level(np.array([0.05, 0.8, 0.8], np.float32)) == 0.5


def test_a_scans_own_level_is_used_where_it_is_asked_for(tmp_path):
    scan, _, _ = head()
    write_volume(scan, tmp_path / "a.nii.gz")
    path = save_bright(tmp_path / "best.safetensors")
    (result,) = segment(
        path, [tmp_path / "a.nii.gz"], tmp_path / "out", options=Options(level="scan", probabilities=True)
    )
    share = np.asarray(nibabel.load(tmp_path / "out" / "a_probability.nii.gz").dataobj)
    np.testing.assert_array_equal(share >= own_level(share), np.asarray(nibabel.load(result.mask).dataobj) != 0)
    assert read_summary(tmp_path / "out")["a"].options == "level=scan probabilities"
