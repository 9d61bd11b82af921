import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from scans.catalog.region import Region
from scans.errors import CheckpointError, ScanError
from scans.image.frame import coverage, widen
from scans.image.preparation import prepare
from scans.image.volume import Volume
from tests.made.real_scans import head
from tests.made.tiny_checkpoint import REGION, save_bright
from tests.made.two_modalities import save_two
from train.inference.model import (
    decompose,
    find_layers,
    label_map,
    load_model,
    mask_in_scan,
    network_input,
    prepare_for,
    share_in_scan,
    to_scan,
)
from train.inference.reading import Reading
from train.inference.sliding import slide, window_over
from train.network.checkpoint import save_checkpoint
from train.network.dice import dice
from train.network.record import Record
from train.network.unet import UNet
from train.settings import Network

LIVER = {
    "name": "liver",
    "modality": "CT",
    "field_of_view": {"kind": "spacing", "spacing_mm": 0.5},
    "normalisation": {"kind": "window", "raw_zero": 0},
    "roi": {"kind": "label"},
}


def save_random(path, region=REGION, size=16, statistics=None, in_channels=1):
    torch.manual_seed(0)
    network = UNet(Network(width=2, in_channels=in_channels))
    record = Record(
        stage="pretrain",
        step=1,
        settings={},
        network={"width": 2, "in_channels": in_channels},
        channels=[{"region": region, "statistics": statistics}] * in_channels,
        size=size,
        data={},
    )
    save_checkpoint(path, record, network)
    return path


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    return load_model(save_bright(tmp_path_factory.mktemp("run") / "best.safetensors"), "cpu", "fp32")


@pytest.fixture(scope="module")
def random(tmp_path_factory):
    return load_model(save_random(tmp_path_factory.mktemp("run") / "best.safetensors"), "cpu", "fp32")


def test_layers_come_in_the_networks_grid_and_the_mask_in_the_scans(bright):
    scan, tumour, _ = head()
    prepared = prepare_for(bright, [scan], None, "a")
    found = decompose(bright, prepared)
    assert found.scan.shape == found.normal.shape == found.texture.shape == (1, 48, 48, 48)
    assert found.probabilities[0].shape == (48, 48, 48)
    mask = to_scan(found.probabilities[0], prepared[0])
    assert mask.grid == scan.grid
    assert mask.array.dtype == np.uint8
    assert dice(mask.array != 0, tumour.array != 0) > 0.9


@pytest.mark.parametrize(
    "reading", [Reading(), Reading(level="scan"), Reading(level=0.9, clean="largest", least_ml=0.1)]
)
@pytest.mark.parametrize("found", ["a tumour", "specks", "nothing"])
def test_a_mask_is_that_of_the_whole_scan_though_only_its_part_is_made(bright, reading, found):
    scan, _, _ = head((2.3, 1.1, 1.4))
    prepared = prepare_for(bright, [scan], None, "a")
    share = np.random.default_rng(0).uniform(0, 0.09, (1, 48, 48, 48)).astype(np.float32)
    if found == "a tumour":
        share[0, 20:30, 12:24, 40:48] = 1
    if found == "specks":
        share[0, ::13, ::17, ::11] = 1
    model = replace(bright, reading=reading)
    mask = mask_in_scan(model, share, prepared[0])
    wanted = label_map([share_in_scan(share[0], prepared[0])], model.classes, reading)
    assert mask.grid == wanted.grid == scan.grid
    assert mask.array.any() == (found == "a tumour" or (found == "specks" and wanted.array.any()))
    np.testing.assert_array_equal(mask.array, wanted.array)


# Mirrorings.


def test_flips_are_the_mean_over_the_eight_mirrorings_each_turned_back(random):
    batch = torch.randn(2, 1, 16, 24, 16)
    expected = []
    for turned in itertools.product((False, True), repeat=3):
        axes = [axis for axis, turn in zip((2, 3, 4), turned, strict=True) if turn]
        with torch.no_grad():
            layers = random.network(batch.flip(axes))
        found = torch.cat([layers.normal, layers.texture, layers.logits.sigmoid()], dim=1)
        expected.append(found.flip(axes))
    assert len(expected) == 8
    torch.testing.assert_close(find_layers(random, batch, flips=True), torch.stack(expected).mean(0))
    torch.testing.assert_close(find_layers(random, batch), expected[0])


def test_flips_change_nothing_for_a_network_that_sees_no_direction(bright, random):
    scan, _, _ = head()
    prepared = prepare_for(bright, [scan], None, "a")
    once, eightfold = decompose(bright, prepared), decompose(bright, prepared, flips=True)
    np.testing.assert_allclose(eightfold.probabilities[0], once.probabilities[0], atol=1e-6)
    np.testing.assert_allclose(eightfold.normal, once.normal, atol=1e-5)
    small = prepare_for(random, [scan], None, "a")
    assert not np.allclose(decompose(random, small, flips=True).normal, decompose(random, small).normal, atol=1e-3)


# The sliding window.


@pytest.mark.parametrize("flips", [False, True])
def test_a_window_in_the_training_voxels_equals_the_cube_where_the_organ_fits(random, tmp_path, flips):
    scan, _, brain = head()
    common = {"mean": 100.0, "std": 30.0, "low": None, "high": None}
    liver = load_model(save_random(tmp_path / "a.safetensors", LIVER, 32, common), "cpu", "fp32")
    wide = LIVER | {"field_of_view": {"kind": "spacing", "spacing_mm": 1.1}}
    roomy = load_model(save_random(tmp_path / "b.safetensors", wide, 32, common), "cpu", "fp32")
    for model, roi in ((random, None), (roomy, brain)):
        cube = prepare_for(model, [scan], roi, "a")
        window = window_over([scan], cube, native=False)
        np.testing.assert_allclose(window[0].frame.network.affine, cube[0].frame.network.affine, atol=1e-9)
        a, b = decompose(model, cube, flips), slide(model, window, flips)
        np.testing.assert_allclose(a.probabilities[0], b.probabilities[0], atol=1e-5)
        np.testing.assert_allclose(a.normal, b.normal, atol=1e-4)
    beyond = window_over([scan], prepare_for(liver, [scan], brain, "a"), native=False)[0]
    assert min(beyond.frame.network.shape) >= 32
    assert beyond.coverage == 1


def test_a_window_reaches_what_the_cube_cuts_off(tmp_path):
    scan, tumour, brain = head()
    common = {"mean": 100.0, "std": 30.0, "low": None, "high": None}
    narrow = LIVER | {"field_of_view": {"kind": "spacing", "spacing_mm": 0.25}}  # 32 mm of 76
    path = save_bright(tmp_path / "a.safetensors", size=16, channels=[{"region": narrow, "statistics": common}])
    model = load_model(path, "cpu", "fp32")
    cube = prepare_for(model, [scan], brain, "a")
    assert cube[0].coverage < 0.3
    cut = to_scan(decompose(model, cube).probabilities[0], cube[0])
    window = window_over([scan], cube, native=False)
    whole = to_scan(slide(model, window).probabilities[0], window[0])
    assert dice(whole.array != 0, tumour.array != 0) > 0.9
    assert dice(cut.array != 0, tumour.array != 0) < 0.8


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("spacing", [(3.0, 1.7, 2.0), (1.0, 1.9, 1.3)])
def test_a_native_window_sees_the_scans_own_voxels(bright, spacing, flipped):
    scan, _, brain = head(spacing, flipped=flipped)
    cube = prepare_for(bright, [scan], None, "a")
    window = window_over([scan], cube, native=True)
    statistics = cube[0].statistics
    assert window[0].statistics == statistics, "normalised as in the cube"
    np.testing.assert_allclose(sorted(window[0].frame.spacing_mm), sorted(spacing))
    expected = (scan.array - statistics.mean) / statistics.std
    values = network_input(bright, window)[0]
    assert np.sort(values[window[0].roi]) == pytest.approx(np.sort(expected[brain.array != 0]), abs=1e-4)
    mask = to_scan(slide(bright, window).probabilities[0], window[0])
    np.testing.assert_array_equal(mask.array != 0, (expected > 2) & (brain.array != 0))


def test_a_scan_smaller_than_a_patch_is_surrounded_by_zeros(random):
    scan, _, brain = head((8.0, 9.0, 9.0))  # about 8 voxels a side in patches of 16
    cube = prepare_for(random, [scan], None, "a")
    window = window_over([scan], cube, native=True)
    assert max(window[0].frame.network.shape) < 16
    found = slide(random, window)
    assert found.probabilities[0].shape == window[0].frame.network.shape
    assert np.isfinite(found.probabilities[0]).all()
    assert to_scan(found.probabilities[0], window[0]).grid == brain.grid


def test_windows_blend_without_a_seam(tmp_path):
    """Of a network that acts on each voxel alone, no blend may change anything."""
    bright = load_model(save_bright(tmp_path / "best.safetensors", size=16), "cpu", "fp32")
    scan, _, _ = head((2.0, 2.2, 1.9))
    window = window_over([scan], prepare_for(bright, [scan], None, "a"), native=True)
    assert min(window[0].frame.network.shape) > 2 * 16
    found = slide(bright, window)
    np.testing.assert_allclose(found.normal, np.maximum(found.scan, 0), atol=1e-3)


def test_a_wide_box_holds_the_whole_roi_on_the_cubes_voxels():
    scan, _, brain = head()
    region = Region.model_validate(LIVER | {"field_of_view": {"kind": "spacing", "spacing_mm": 0.17}})
    prepared = prepare(scan, brain, None, region, 32)
    box = widen(prepared.frame, brain, native=False)
    assert coverage(box, brain.array > 0) == 1
    offset = np.linalg.inv(prepared.frame.network.affine) @ [*box.network.origin, 1.0]
    np.testing.assert_allclose(offset, np.round(offset), atol=1e-6)
    assert (np.array(box.network.shape) % 2 == 0).all()


# Several modalities.


def test_modalities_go_into_the_network_in_its_order(tmp_path):
    model = load_model(save_two(tmp_path / "best.safetensors"), "cpu", "fp32")
    assert model.modalities == ("T1", "FLAIR")
    flair, tumour, _ = head()
    t1 = flair.with_array(np.where(tumour.array > 0, np.float32(100), flair.array))
    right = prepare_for(model, [t1, flair], None, "a")
    found = decompose(model, right)
    assert found.scan.shape == found.normal.shape == found.texture.shape == (2, 48, 48, 48)
    np.testing.assert_allclose(found.normal, np.maximum(found.scan, 0), atol=1e-3)
    assert dice(to_scan(found.probabilities[0], right[0]).array != 0, tumour.array != 0) > 0.9
    wrong = decompose(model, prepare_for(model, [flair, t1], None, "a"))
    assert dice(to_scan(wrong.probabilities[0], right[0]).array != 0, tumour.array != 0) < 0.2
    window = window_over([t1, flair], right, native=True)
    assert dice(to_scan(slide(model, window).probabilities[0], window[0]).array != 0, tumour.array != 0) > 0.99


def test_a_wrong_number_of_modalities_names_those_that_are_wanted(tmp_path, bright):
    model = load_model(save_two(tmp_path / "best.safetensors"), "cpu", "fp32")
    scan, _, _ = head()
    with pytest.raises(ScanError, match="a: has 1 modalities; this network takes 2, in this order: T1, FLAIR"):
        prepare_for(model, [scan], None, "a")
    with pytest.raises(ScanError, match="this network takes FLAIR alone"):
        prepare_for(bright, [scan, scan], None, "a")


def test_a_checkpoint_whose_record_and_network_disagree_is_refused(tmp_path):
    path = save_bright(tmp_path / "best.safetensors", channels=[{"region": REGION, "statistics": None}] * 2)
    with pytest.raises(CheckpointError, match="1 input channels for 2 modalities"):
        load_model(path)


def test_a_window_region_needs_the_checkpoints_statistics(tmp_path):
    path = save_bright(tmp_path / "best.safetensors", channels=[{"region": LIVER, "statistics": None}])
    model = load_model(path, "cpu", "fp32")
    scan, _, brain = head()
    with pytest.raises(CheckpointError, match="records no statistics, which region liver needs"):
        decompose(model, prepare_for(model, [scan], brain, "a"))


def test_equal_networks_have_equal_hashes_and_other_weights_another(tmp_path, bright):
    again = load_model(save_bright(tmp_path / "a.safetensors", step=7), "cpu", "bf16")
    assert again.sha256() == bright.sha256()
    other = save_bright(tmp_path / "b.safetensors", region=REGION | {"orientation": "RAS"})
    assert load_model(other).sha256() != bright.sha256()
    again.network.head.bias.data[0] += 1e-3
    assert again.sha256() != bright.sha256()


def test_a_share_outside_the_cube_is_nothing(bright):
    scan, _, brain = head()
    small = Volume(np.pad(scan.array, 6), scan.spacing_mm, scan.origin, scan.direction)
    prepared = prepare_for(bright, [small], None, "a")
    everything = to_scan(np.ones((48, 48, 48), np.float32), prepared[0])
    assert 0 < everything.array.sum() < everything.array.size
    assert not everything.array[:5].any()
    assert everything.array[np.pad(brain.array, 6) > 0].mean() > 0.99
