import numpy as np
import pytest
from real_scans import head, write_case
from tiny_checkpoint import REGION, save_bright

from scans.errors import CheckpointError
from scans.volume import read_mask, read_volume, write_volume
from train.metrics import dice
from train.segment import name_masks, segment
from train.settings import SettingsError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors")


@pytest.mark.parametrize("spacing", [(3.0, 1.7, 2.0), (1.5, 1.5, 1.5)])
@pytest.mark.parametrize("flipped", [False, True])
def test_mask_lies_on_the_tumour_in_the_scans_own_grid(checkpoint, tmp_path, spacing, flipped):
    scan, tumour, _ = head(spacing, flipped=flipped)
    write_volume(scan, tmp_path / "a.nii.gz")
    (result,) = segment(checkpoint, [tmp_path / "a.nii.gz"], tmp_path / "masks")
    assert not result.problem
    mask = read_mask(tmp_path / "masks" / "a_mask.nii.gz")
    assert mask.same_grid(read_volume(tmp_path / "a.nii.gz"))
    assert dice(mask.array != 0, tumour.array != 0) > 0.9
    assert result.volume_ml == pytest.approx(tumour.array.sum() * np.prod(spacing) / 1000, rel=0.15)


def test_a_scan_that_is_not_stripped_needs_a_mask_and_works_with_one(checkpoint, tmp_path):
    scan, tumour, brain = head()
    skull = np.random.default_rng(1).uniform(50, 300, scan.array.shape).astype(np.float32)
    write_volume(scan.with_array(np.where(brain.array, scan.array, skull)), tmp_path / "a.nii.gz")
    write_volume(brain, tmp_path / "brain.nii.gz")
    (without,) = segment(checkpoint, [tmp_path / "a.nii.gz"], tmp_path / "out")
    assert "ROI mask" in without.problem
    assert not list((tmp_path / "out").iterdir())
    (result,) = segment(checkpoint, [tmp_path / "a.nii.gz"], tmp_path / "out", rois=[tmp_path / "brain.nii.gz"])
    assert dice(read_mask(result.mask).array != 0, tumour.array != 0) > 0.9


def test_one_bad_scan_is_named_and_the_rest_goes_on(checkpoint, tmp_path):
    good = write_case(tmp_path, "good")
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(good.read_bytes()[:2000])
    missing = tmp_path / "missing.nii.gz"
    results = segment(checkpoint, [bad, missing, good], tmp_path / "out")
    assert [bool(result.problem) for result in results] == [True, True, False]
    assert str(bad) in results[0].problem
    assert "\n" not in results[0].problem
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good_flair_mask.nii.gz"]


def test_two_scans_of_one_name_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SettingsError, match="would both be written"):
        name_masks([tmp_path / "a" / "scan.nii.gz", tmp_path / "b" / "scan.mha"], tmp_path)


def test_a_mask_never_replaces_a_scan(tmp_path):
    with pytest.raises(SettingsError, match="would replace it"):
        name_masks([tmp_path / "a.nii.gz", tmp_path / "a_mask.nii.gz"], tmp_path)


def test_the_number_of_roi_masks_must_fit(checkpoint, tmp_path):
    with pytest.raises(SettingsError, match="1 --roi masks for 2 scans"):
        segment(checkpoint, [tmp_path / "a.nii", tmp_path / "b.nii"], tmp_path, rois=[tmp_path / "r.nii"])


def test_an_organ_network_insists_on_the_organs_mask(tmp_path):
    region = {**REGION, "roi": {"kind": "label", "values": [1]}}
    path = save_bright(tmp_path / "best.safetensors", region=region)
    scan = write_case(tmp_path, "a")
    (without,) = segment(path, [scan], tmp_path / "out")
    assert "--roi" in without.problem
    (result,) = segment(path, [scan], tmp_path / "out", rois=[tmp_path / "a_brain.nii.gz"])
    assert not result.problem


def test_a_checkpoint_of_an_unknown_region_setting_is_refused(tmp_path):
    path = save_bright(tmp_path / "best.safetensors", region={**REGION, "warp": 1})
    with pytest.raises(CheckpointError, match="warp"):
        segment(path, [write_case(tmp_path, "a")], tmp_path / "out")
