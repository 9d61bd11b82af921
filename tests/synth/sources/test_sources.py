import json
import shutil

import numpy as np
import pytest
import zarr

from scans.catalog.region import Region
from scans.errors import ScanError, StoreError
from synth.sources.format import finalise, finished_sources, open_to_write, write_source
from synth.sources.reader import SourceStore
from tests.made.sources import REGION, SIZE, make_scan, make_store

WINDOW = Region.model_validate({"name": "w", "modality": "CT", "normalisation": {"kind": "window", "raw_zero": -1024}})


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "sources.zarr", 2)


def test_source_is_read_as_it_was_written(store):
    opened = SourceStore(store)
    assert opened.names == ["made--case0", "made--case1"]
    assert opened.size == SIZE
    assert opened.region == REGION
    source, scan = opened.load("made--case1"), make_scan(1)
    for key in ("intensity", "lent", "roi", "foreground"):
        np.testing.assert_array_equal(getattr(source, key), scan["arrays"][key])
    assert source.spacing_mm == tuple(scan["provenance"]["spacing_mm"])
    assert source.provenance["licence"] == "none"


def test_normal_is_normalised_exact_in_half_precision_and_zero_outside(store):
    source = SourceStore(store).load("made--case0")
    assert source.normal.voxels.dtype == np.float16
    assert not source.normal.voxels[~source.foreground].any()
    inside = source.normal.voxels[source.roi].astype(np.float64)
    assert inside.mean() == pytest.approx(0, abs=1e-3)
    assert inside.std() == pytest.approx(1, abs=1e-3)
    network = source.to_network(source.intensity)
    np.testing.assert_array_equal(network, network.astype(np.float16))
    np.testing.assert_array_equal(network[source.foreground], source.normal.voxels[source.foreground])


def test_roi_voxels_are_those_of_the_roi(store):
    source = SourceStore(store).load("made--case0")
    assert len(source.centres) == source.roi.sum()
    for position in (0, 77, len(source.centres) - 1):
        assert source.roi[source.centres[position]]


def test_content_hash_depends_on_content_alone(tmp_path, store):
    again = make_store(tmp_path / "again.zarr", 2)
    other = make_store(tmp_path / "other.zarr", 1)
    assert SourceStore(store).content_hash == SourceStore(again).content_hash != SourceStore(other).content_hash


def test_source_without_its_commit_does_not_exist(store):
    shutil.copytree(store / "made--case0", store / "made--half")
    content = json.loads((store / "made--half" / "zarr.json").read_text(encoding="utf-8"))
    (store / "made--half" / "zarr.json").write_text(json.dumps({**content, "attributes": {}}))
    shutil.copytree(store / "made--case0", store / "made--cut")
    (store / "made--cut" / "zarr.json").write_text("{")
    assert SourceStore(store).names == ["made--case0", "made--case1"]


@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove"])
def test_damaged_source_is_refused(store, harm):
    chunk = store / "made--case0" / "lent" / "c.0.0.0"
    content = bytearray(chunk.read_bytes())
    if harm == "remove":
        chunk.unlink()
    else:
        content[len(content) // 2] ^= 4
        chunk.write_bytes({"flip": bytes(content), "truncate": bytes(content[:99]), "empty": b""}[harm])
    with pytest.raises(StoreError, match="made--case0 is damaged"):
        SourceStore(store).load("made--case0")
    SourceStore(store).load("made--case1")


def test_unknown_source_lists_the_known(store):
    with pytest.raises(StoreError, match="there are made--case0, made--case1"):
        SourceStore(store).load("absent")


def test_what_is_no_store_is_refused(tmp_path, store):
    with pytest.raises(StoreError, match="no sources here"):
        SourceStore(tmp_path / "absent.zarr")
    zarr.open_group(tmp_path / "other.zarr", mode="w", attributes={"format": "something", "version": 1})
    with pytest.raises(StoreError, match="something store"):
        SourceStore(tmp_path / "other.zarr")
    content = json.loads((store / "zarr.json").read_text(encoding="utf-8"))
    content["attributes"]["version"] = 99
    (store / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="format 99"):
        SourceStore(store)


def test_one_store_holds_one_region_and_size(tmp_path, store):
    for region, size, told in (
        (REGION, 16, "size"),
        (REGION.model_copy(update={"orientation": "RAS"}), SIZE, "orientation"),
    ):
        with pytest.raises(StoreError, match=f"another {told}"), open_to_write(store, region, size):
            pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(StoreError, match="not a store"), open_to_write(tmp_path / "folder", REGION, SIZE):
        pass


def test_synthesis_settings_may_change_between_runs(store):
    changed = REGION.model_copy(update={"synthesis": REGION.synthesis.model_copy(update={"alpha": (0.5, 0.6)})})
    with open_to_write(store, changed, SIZE):
        pass
    assert SourceStore(store).region.synthesis.alpha == (0.5, 0.6)
    assert len(SourceStore(store)) == 2


def test_second_writer_is_refused(store):
    again = open_to_write(store, REGION, SIZE)
    with open_to_write(store, REGION, SIZE), pytest.raises(StoreError, match="written by another run"), again:
        pass


def windowed(path, low, high):
    fixed = {**WINDOW.model_dump(), "normalisation": {"kind": "window", "limits": [low, high], "raw_zero": -1024}}
    path = make_store(path, 2, region=Region.model_validate(fixed))
    finalise(path)
    return SourceStore(path).statistics


def test_a_window_of_fixed_limits_in_raw_units_is_that_of_any_scans(tmp_path):
    statistics = windowed(tmp_path / "ct.zarr", -974, -924)  # intensities are counted from the raw zero
    assert (statistics["low"], statistics["high"]) == (50, 100)
    assert 50 < statistics["mean"] < 100


def test_limits_between_which_nothing_varies_are_told(tmp_path):
    with pytest.raises(ScanError, match=r"nothing varies between 1003 and 1213 .* normalisation"):
        windowed(tmp_path / "ct.zarr", -21, 189)


def test_common_statistics_are_of_all_sources_and_go_when_one_is_added(tmp_path):
    path = make_store(tmp_path / "ct.zarr", 2, region=WINDOW)
    with pytest.raises(StoreError, match="lacks the statistics"):
        SourceStore(path)
    finalise(path)
    opened = SourceStore(path)
    pooled = np.concatenate([make_scan(s)["arrays"]["intensity"][make_scan(s)["arrays"]["roi"] > 0] for s in (0, 1)])
    low, high = np.percentile(pooled, (0.5, 99.5))
    clipped = np.clip(pooled.astype(float), low, high)
    expected = {"low": low, "high": high, "mean": clipped.mean(), "std": clipped.std()}
    assert opened.statistics == pytest.approx(expected, rel=1e-6)
    assert opened.load("made--case0").statistics == opened.load("made--case1").statistics
    before = opened.content_hash
    scan = make_scan(2)
    with open_to_write(path, WINDOW, SIZE):
        write_source(path, "made--case2", scan["arrays"], scan["provenance"])
    with pytest.raises(StoreError, match="lacks the statistics"):
        SourceStore(path)
    finalise(path)
    assert len(finished_sources(path)) == 3
    assert SourceStore(path).content_hash != before
