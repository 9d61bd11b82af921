import csv
import gzip
import hashlib
import os
import platform
import struct
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from scans.errors import CheckpointError, StoreError
from scans.image.volume import Volume, read_mask, read_volume, write_volume
from tests.made.commands import Started, train
from tests.made.real_scans import SIDES_MM, head, write_case
from tests.made.running import wait_for
from tests.made.scan_files import save_dicom, save_nifti
from tests.made.tiny_checkpoint import REGION, save_bright
from tests.made.two_modalities import save_two, write_two
from train.cli.application import app
from train.network.dice import dice
from train.segmentation.outputs import Options
from train.segmentation.segment import segment
from train.settings import SettingsError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a checkpoint that is quick where nothing depends on what it finds."""
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors", size=16)


def head_on(direction, spacing_mm, odd=(9, 8, 7)):
    """Return a head and its tumour (0, 1) in a grid of any direction; the tumour is off every plane of symmetry."""
    extent = np.abs(np.reshape(direction, (3, 3)).T @ SIDES_MM[::-1])[::-1]  # along the grid's z, y, x
    shape = tuple(int(n) for n in np.round(np.minimum(extent, 120) / spacing_mm) + odd)
    grid = Volume(np.zeros(shape, np.float32), spacing_mm, (11.5, -40.25, 7.0), tuple(direction)).grid
    z, y, x = np.indices(shape)
    points = np.stack([x, y, z, np.ones(shape)], axis=-1) @ grid.affine.T
    x, y, z, _ = np.moveaxis(points - points.mean(axis=(0, 1, 2)), -1, 0)
    brain = (x / 28) ** 2 + (y / 36) ** 2 + (z / 30) ** 2 < 1
    tumour = (x - 6) ** 2 + (y + 12) ** 2 + (z - 5) ** 2 < 13**2
    noise = np.random.default_rng(0).normal(100, 6, shape)
    scan = np.where(brain, np.where(tumour, 200, noise), 0).astype(np.float32)
    return Volume.on(grid, scan), tumour


def summary(out):
    with open(out / "summary.csv", encoding="utf-8", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def names(out):
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.name[0] != ".")


# The scan's own grid.


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


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3),
    tilt=st.tuples(*[st.floats(-20, 20)] * 3),
    spacing=st.tuples(*[st.floats(1.3, 3.5)] * 3),
    suffix=st.sampled_from([".nii.gz", ".nii", ".nrrd", ".mha"]),
)
def test_mask_lands_on_the_tumour_whatever_the_axes_and_the_format(
    checkpoint, tmp_path_factory, order, flips, tilt, spacing, suffix
):
    folder = tmp_path_factory.mktemp("any")
    turned = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ (np.eye(3)[:, list(order)] * flips)
    scan, tumour = head_on(turned.ravel(), spacing)
    path = folder / f"a{suffix}"
    write_volume(scan, path)
    (result,) = segment(checkpoint, [path], folder, options=Options(format=suffix[1:]))
    assert not result.problem
    written, read = sitk.ReadImage(result.mask), sitk.ReadImage(path)
    assert dice(sitk.GetArrayFromImage(written) != 0, tumour) > 0.85
    assert written.GetSize() == read.GetSize()
    exact = {"rtol": 0, "atol": 0 if "nii" in suffix else 1e-9}
    for number in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(written, number)(), getattr(read, number)(), **exact)
    if "nii" in suffix:
        np.testing.assert_array_equal(nibabel.load(result.mask).affine, nibabel.load(path).affine)


def test_a_nifti_header_keeps_its_say_to_the_last_bit(small, tmp_path):
    """Axes not quite orthonormal, a qform apart from the sform, codes of a template's space."""
    scan, _, _ = head(flipped=False)
    affine = np.array([[-2.0, 1e-3, 0, 7.3], [0, -1.7, 2e-3, 1 / 3], [1e-3, 0, 3.0, -9], [0, 0, 0, 1]])
    straight = np.array([[-2.0, 0, 0, 7.3], [0, -1.7, 0, 0.3], [0, 0, 3.0, -9], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(scan.array.transpose(), affine)
    image.set_sform(affine, 4)
    image.set_qform(straight, 2)
    nibabel.save(image, tmp_path / "a.nii")
    (result,) = segment(small, [tmp_path / "a.nii"], tmp_path / "out", options=Options(normal=True))
    for written in (result.mask, str(result.mask).replace("mask", "normal")):
        header, stated = nibabel.load(written).header, nibabel.load(tmp_path / "a.nii").header
        for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_y", "xyzt_units"):
            np.testing.assert_array_equal(header[field], stated[field])
        np.testing.assert_array_equal(header["pixdim"][:4], stated["pixdim"][:4])
    nibabel.save(nibabel.Nifti2Image(image.dataobj, affine), tmp_path / "two.nii.gz")
    (result,) = segment(small, [tmp_path / "two.nii.gz"], tmp_path / "out", options=Options(normal=True))
    np.testing.assert_allclose(nibabel.load(result.mask).affine, affine, rtol=1e-6)


def test_a_dicom_series_gets_a_mask_where_its_slices_lie(checkpoint, tmp_path):
    turned = Rotation.from_euler("xyz", [10, -7, 4], degrees=True).as_matrix()
    scan, tumour = head_on(turned.ravel(), (3.1, 1.6, 1.9))
    folder = save_dicom(scan, tmp_path / "series")
    (result,) = segment(checkpoint, [folder], tmp_path / "out")
    mask = sitk.ReadImage(result.mask)
    assert dice(sitk.GetArrayFromImage(mask) != 0, tumour) > 0.85
    np.testing.assert_allclose(mask.GetOrigin(), scan.origin, atol=1e-4)
    np.testing.assert_allclose(mask.GetSpacing(), scan.spacing_mm[::-1], atol=1e-4)
    np.testing.assert_allclose(mask.GetDirection(), scan.direction, atol=1e-4)


@pytest.mark.parametrize("window", [None, "trained", "native"])
def test_a_real_scans_mask_has_its_geometry(dev_data, checkpoint, tmp_path, window):
    path = dev_data / "brain" / "tumour" / "glioma0005_flair.nii.gz"
    (result,) = segment(checkpoint, [path], tmp_path, options=Options(window=window))
    np.testing.assert_array_equal(nibabel.load(result.mask).affine, nibabel.load(path).affine)
    truth = read_mask(dev_data / "brain" / "tumour" / "glioma0005_seg.nii.gz").array != 0
    assert dice(read_mask(result.mask).array != 0, truth) > 0.2, "its network finds what is bright"


# What else may be asked for.


@pytest.mark.parametrize("options", [{}, {"window": "trained", "flips": True}])
def test_options_that_blend_keep_the_tumour(checkpoint, tmp_path, options):
    scan, tumour, _ = head()
    write_volume(scan, tmp_path / "a.nii.gz")
    (result,) = segment(checkpoint, [tmp_path / "a.nii.gz"], tmp_path, options=Options(**options))
    assert dice(read_mask(result.mask).array != 0, tumour.array != 0) > 0.9


def test_the_native_window_loses_no_detail(checkpoint, tmp_path):
    scan, tumour, _ = head((3.0, 1.3, 1.5))
    write_volume(scan, tmp_path / "a.nii.gz")
    (result,) = segment(checkpoint, [tmp_path / "a.nii.gz"], tmp_path, options=Options(window="native"))
    np.testing.assert_array_equal(read_mask(result.mask).array, tumour.array)


def test_cleaning_drops_small_parts_and_the_summary_counts_what_is_left(checkpoint, tmp_path):
    scan, tumour, _ = head()
    scan.array[10:12, 40:43, 12:15] = 400  # 0.2 ml far from the tumour
    write_volume(scan, tmp_path / "a.nii.gz")
    kept = {}
    for name, options in {"all": {}, "largest": {"clean": "largest"}, "least": {"least_ml": 2.0}}.items():
        (result,) = segment(checkpoint, [tmp_path / "a.nii.gz"], tmp_path / name, options=Options(**options))
        mask, row = read_mask(result.mask), summary(tmp_path / name)["a"]
        ml = mask.array.sum() * mask.grid.voxel_mm3 / 1000
        assert float(row["volume_ml"]) == pytest.approx(ml, abs=1e-3)
        assert result.volume_ml == pytest.approx(ml)
        kept[name] = mask.array, row
    assert kept["all"][1]["components"] == "2"
    assert kept["all"][1]["largest_ml"] == kept["largest"][1]["volume_ml"]
    for name in ("largest", "least"):
        assert kept[name][1]["components"] == "1"
        np.testing.assert_array_equal(kept[name][0], kept["all"][0] * (kept[name][0] > 0))
        assert dice(kept[name][0] != 0, tumour.array != 0) > 0.9


def test_probabilities_are_what_the_mask_was_cut_from(checkpoint, tmp_path):
    scan, _, _ = head()
    write_volume(scan, tmp_path / "a.mha")
    (result,) = segment(checkpoint, [tmp_path / "a.mha"], tmp_path / "out", options=Options(probabilities=True))
    assert names(tmp_path / "out") == ["a_mask.nii.gz", "a_probability.nii.gz", "summary.csv"]
    probability = nibabel.load(tmp_path / "out" / "a_probability.nii.gz")
    values = np.asarray(probability.dataobj)
    assert values.dtype == np.float32
    assert 0 <= values.min() < 0.1 < 0.9 < values.max() <= 1
    np.testing.assert_array_equal(values >= 0.5, np.asarray(nibabel.load(result.mask).dataobj) != 0)


@pytest.mark.parametrize("background", [0.0, -120.0])
@pytest.mark.parametrize("window", [None, "native"])
def test_the_normal_is_in_the_scans_intensities_and_the_scan_itself_outside_the_organ(
    checkpoint, tmp_path, background, window
):
    """The network's normal is the scan where it is above the mean, and the mean elsewhere."""
    scan, _, brain = head(background=background)
    scan = scan.with_array(np.where(brain.array > 0, scan.array + background, background).astype(np.float32))
    write_volume(scan, tmp_path / "a.nii.gz")
    segment(checkpoint, [tmp_path / "a.nii.gz"], tmp_path, options=Options(normal=True, window=window))
    normal, inside = read_volume(tmp_path / "a_normal.nii.gz"), brain.array > 0
    np.testing.assert_array_equal(normal.array[~inside], scan.array[~inside])
    apart = normal.array - np.maximum(scan.array, scan.array[inside].mean())
    assert np.abs(apart[inside]).mean() < (6 if window is None else 0.3)


def test_a_fine_tuned_network_has_no_normal_to_write(tmp_path):
    path = save_bright(tmp_path / "best.safetensors", stage="finetune")
    with pytest.raises(CheckpointError, match="leave out --normal"):
        segment(path, [write_case(tmp_path, "a")], tmp_path / "out", options=Options(normal=True))


# The region of interest.


def test_a_scan_that_is_not_stripped_needs_a_mask_and_works_with_one(checkpoint, tmp_path):
    scan, tumour, brain = head()
    skull = np.random.default_rng(1).uniform(50, 300, scan.array.shape).astype(np.float32)
    write_volume(scan.with_array(np.where(brain.array, scan.array, skull)), tmp_path / "a.nii.gz")
    write_volume(brain, tmp_path / "a_brain.nii.gz")
    (without,) = segment(checkpoint, [tmp_path / "a.nii.gz"], tmp_path / "out")
    assert "ROI mask" in without.problem
    assert names(tmp_path / "out") == ["summary.csv"]
    for roi in (tmp_path / "a_brain.nii.gz", "{case}_brain.nii.gz"):
        out = tmp_path / f"out{len(str(roi))}"
        (result,) = segment(checkpoint, [tmp_path / "a.nii.gz"], out, rois=[roi])
        assert dice(read_mask(result.mask).array != 0, tumour.array != 0) > 0.9


def test_an_organ_network_insists_on_the_organs_mask(tmp_path):
    region = {**REGION, "roi": {"kind": "label", "values": [1]}}
    path = save_bright(tmp_path / "best.safetensors", region=region)
    scan = write_case(tmp_path, "a")
    (without,) = segment(path, [scan], tmp_path / "out")
    assert "--roi" in without.problem
    (result,) = segment(path, [scan], tmp_path / "out", rois=[tmp_path / "a_brain.nii.gz"])
    assert not result.problem


def test_what_the_cube_cuts_off_is_said_and_reached_by_the_window(tmp_path):
    region = REGION | {"field_of_view": {"kind": "spacing", "spacing_mm": 0.2}}  # 26 mm of 76
    path = save_bright(tmp_path / "best.safetensors", size=16, region=region)
    scan = write_case(tmp_path, "a")
    (cube,) = segment(path, [scan], tmp_path / "cube")
    assert "of the ROI lies outside the network's cube; --window trained" in cube.note
    assert summary(tmp_path / "cube")["a_flair"]["note"] == cube.note
    (window,) = segment(path, [scan], tmp_path / "window", options=Options(window="trained"))
    assert not window.note
    truth = read_mask(tmp_path / "a_seg.nii.gz").array != 0
    assert dice(read_mask(window.mask).array != 0, truth) > dice(read_mask(cube.mask).array != 0, truth) + 0.1


def test_a_checkpoint_of_an_unknown_region_setting_is_refused(tmp_path):
    path = save_bright(tmp_path / "best.safetensors", region={**REGION, "warp": 1})
    with pytest.raises(CheckpointError, match="warp"):
        segment(path, [write_case(tmp_path, "a")], tmp_path / "out")


# Several modalities.


def test_a_network_of_two_modalities_takes_two_files_and_writes_two_normals(tmp_path):
    path = save_two(tmp_path / "best.safetensors")
    tumour = write_two(tmp_path / "scans", "a")
    write_two(tmp_path / "scans", "b", seed=3)
    joined = f"{tmp_path / 'scans' / 'a_t1.nii.gz'},{tmp_path / 'scans' / 'a_flair.nii.gz'}"
    (result,) = segment(path, [joined], tmp_path / "one", options=Options(normal=True))
    assert dice(read_mask(result.mask).array != 0, tumour.array != 0) > 0.9
    written = ["a_t1_mask.nii.gz", "a_t1_normal_FLAIR.nii.gz", "a_t1_normal_T1.nii.gz", "summary.csv"]
    assert names(tmp_path / "one") == written
    values = {name: read_volume(tmp_path / "one" / f"a_t1_normal_{name}.nii.gz").array for name in ("T1", "FLAIR")}
    inside = tumour.array > 0
    assert values["T1"][inside].mean() == pytest.approx(102, abs=4)
    assert values["FLAIR"][inside].mean() == pytest.approx(190, abs=10)
    patterns = ["{case}_t1.nii.gz", "{case}_flair.nii.gz"]
    results = segment(path, [tmp_path / "scans"], tmp_path / "all", patterns=patterns, rois=["{case}_brain.nii.gz"])
    assert [result.mask.name for result in results] == ["a_mask.nii.gz", "b_mask.nii.gz"]


def test_modalities_on_two_grids_are_named(tmp_path):
    path = save_two(tmp_path / "best.safetensors")
    write_two(tmp_path, "a")
    write_two(tmp_path, "b", spacing_mm=(2.0, 2.0, 2.0))
    (result,) = segment(path, [f"{tmp_path / 'a_t1.nii.gz'},{tmp_path / 'b_flair.nii.gz'}"], tmp_path / "out")
    assert "b_flair.nii.gz is not on the grid of" in result.problem
    assert "a_t1.nii.gz" in result.problem


# Many scans.


def test_one_bad_scan_is_named_and_the_rest_goes_on(small, tmp_path):
    good = write_case(tmp_path, "good")
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(good.read_bytes()[:2000])
    missing = tmp_path / "missing.nii.gz"
    results = segment(small, [bad, missing, good], tmp_path / "out")
    assert [bool(result.problem) for result in results] == [True, True, False]
    assert str(bad) in results[0].problem
    assert "\n" not in results[0].problem
    assert names(tmp_path / "out") == ["good_flair_mask.nii.gz", "summary.csv"]
    rows = summary(tmp_path / "out")
    assert [rows[case]["problem"] for case in ("bad", "missing", "good_flair")] == [r.problem for r in results]
    assert rows["bad"]["mask"] == rows["bad"]["volume_ml"] == ""
    assert rows["good_flair"]["mask"] == "good_flair_mask.nii.gz"


def hostile_scans(folder):
    """Write scans that cannot be used, and return a word of what is said of each."""
    folder.mkdir()
    plain = head()[0].array.transpose()
    save_nifti(np.stack([plain, plain], axis=-1), folder / "4d.nii.gz")
    save_nifti(np.where(plain > 150, np.nan, plain), folder / "nan.nii.gz")
    save_nifti(np.zeros_like(plain), folder / "empty.nii.gz")
    save_nifti(plain[:3], folder / "thin.nii.gz")
    save_nifti(plain + np.random.default_rng(0).uniform(1, 50, plain.shape), folder / "skull.nii.gz")
    sheared = np.eye(4)
    sheared[0, 2] = 0.5
    save_nifti(plain, folder / "sheared.nii.gz", sheared)
    (folder / "text.nii.gz").write_text("not a scan")
    (folder / "void.mha").write_bytes(b"")
    write_volume(head()[0], folder / "cut.nrrd")
    (folder / "cut.nrrd").write_bytes((folder / "cut.nrrd").read_bytes()[:5000])
    save_dicom(head()[0], folder / "gap", skip=(5, 6))
    save_dicom(head()[0], folder / "two")
    save_dicom(head()[0], folder / "two", series="2")
    return {
        **{"4d": "4D", "nan": "NaN", "empty": "every voxel is 0", "thin": "3", "skull": "not skull-stripped"},
        **{"sheared": "right angles", "text": "damaged", "void": "empty file", "cut": "cut off"},
        **{"gap": "missing", "two": "2 DICOM series"},
    }


def test_hostile_scans_cost_one_sentence_each_and_exit_code_1(small, tmp_path):
    said = hostile_scans(tmp_path / "scans")
    write_case(tmp_path / "scans", "good")
    for extra in ("good_seg.nii.gz", "good_brain.nii.gz"):
        (tmp_path / "scans" / extra).unlink()
    arguments = ["segment", "--checkpoint", str(small), "--out", str(tmp_path / "out"), str(tmp_path / "scans")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert f"{len(said)} of {len(said) + 1} scans could not be segmented" in result.output
    rows = summary(tmp_path / "out")
    for case, words in said.items():
        assert words in rows[case]["problem"], case
        assert "\n" not in rows[case]["problem"]
        assert not rows[case]["mask"]
    assert names(tmp_path / "out") == ["good_flair_mask.nii.gz", "summary.csv"]


def test_two_scans_of_one_name_are_refused_before_anything_is_written(small, tmp_path):
    scans = [tmp_path / "a" / "scan.nii.gz", tmp_path / "b" / "scan.mha"]
    with pytest.raises(SettingsError, match="would both be written"):
        segment(small, scans, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_mask_never_replaces_a_scan(small, tmp_path):
    with pytest.raises(SettingsError, match="would replace it"):
        segment(small, [tmp_path / "a.nii.gz", tmp_path / "a_mask.nii.gz"], tmp_path, overwrite=True)
    with pytest.raises(SettingsError, match="would replace it"):
        segment(small, [tmp_path / "a.nii.gz"], tmp_path, rois=[tmp_path / "a_mask.nii.gz"], overwrite=True)


def test_a_second_run_into_the_same_folder_waits_its_turn(small, tmp_path):
    scan = write_case(tmp_path, "a")

    def second(result):
        with pytest.raises(StoreError, match="being written by another run"):
            segment(small, [scan], tmp_path / "out")

    segment(small, [scan], tmp_path / "out", told=second)


def test_no_header_however_damaged_ends_the_run(small, tmp_path):
    good = write_case(tmp_path / "x", "a")
    raw = gzip.decompress(good.read_bytes())
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a", "z"):
        (scans / f"{name}.nii").write_bytes(raw)
    for name, at, value in [("inf", 108, np.inf), ("nan", 108, np.nan), ("minus", 108, -352), ("quaternion", 256, 1.5)]:
        (scans / f"b_{name}.nii").write_bytes(raw[:at] + struct.pack("<f", value) + raw[at + 4 :])
    results = segment(small, [scans], tmp_path / "out")
    assert len(results) == len(summary(tmp_path / "out")) == 6
    assert not results[0].problem
    assert not results[-1].problem
    assert sum("damaged NIfTI header" in result.problem for result in results) == 3


def test_a_name_that_is_not_utf8_is_a_scan_like_any_other(small, tmp_path):
    scan = write_case(tmp_path / "x", "a")
    folder, out = tmp_path / "scans", tmp_path / "out"
    folder.mkdir()
    for name in (b"caf\xe9.nii.gz", b"z.nii.gz"):
        (folder / os.fsdecode(name)).write_bytes(scan.read_bytes())
    write_volume(head()[0], tmp_path / "t.nrrd")
    os.rename(tmp_path / "t.nrrd", os.fsencode(folder) + b"/na\xefve.nrrd")
    command = ["segment", "--checkpoint", str(small), str(folder), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, "SimpleITK opens no such name"
    rows = summary(out)
    assert list(rows) == ["caf%E9", "na%EFve", "z"]
    assert rows["caf%E9"]["scan"] == f"{folder}/caf\\xe9.nii.gz"
    assert "UTF-8" in rows["na%EFve"]["problem"]
    assert names(out) == ["caf%E9_mask.nii.gz", "summary.csv", "z_mask.nii.gz"]
    assert "(was there)" in CliRunner().invoke(app, command).output


def test_two_scans_of_one_stem_have_a_mask_each(checkpoint, tmp_path):
    scan, tumour, _ = head()
    write_volume(scan, tmp_path / "scans.nii.gz")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans.nii.gz").rename(tmp_path / "scans" / "p1.nii.gz")
    write_volume(scan.with_array(np.where(tumour.array > 0, 100, scan.array)), tmp_path / "scans" / "p1.nrrd")
    bright, plain = segment(checkpoint, [tmp_path / "scans"], tmp_path / "out")
    assert bright.volume_ml > 1 > plain.volume_ml
    assert names(tmp_path / "out") == ["p1.nii.gz_mask.nii.gz", "p1.nrrd_mask.nii.gz", "summary.csv"]


def test_a_mask_given_as_a_scan_is_refused(small, tmp_path):
    scan = write_case(tmp_path, "a")
    results = segment(small, [scan, tmp_path / "a_seg.nii.gz"], tmp_path / "out")
    assert [bool(result.problem) for result in results] == [False, True]
    assert "a mask or label and no scan" in results[1].problem


# Again, and on from where it stopped.


def write_detached(kind, scan, folder):
    """Write a scan whose voxels lie in files of other names than the one to be given, which is returned."""
    if kind == "dicom":
        return save_dicom(scan, folder / "series")
    sitk.WriteImage(scan.to_itk(), folder / f"scan.{kind}")
    if kind == "hdr":
        return folder / "scan.hdr"
    data = folder / "scan.raw"
    header = (folder / f"scan.{kind}").read_text()
    (folder / f"scan.{kind}").write_text(header.replace("scan.raw", "pixels.bin"))
    data.replace(folder / "pixels.bin")
    return folder / f"scan.{kind}"


@pytest.mark.parametrize("kind", ["nhdr", "mhd", "hdr", "dicom"])
def test_a_mask_is_kept_while_all_files_of_its_scan_are_the_same_and_no_longer(small, tmp_path, kind):
    scan, tumour, _ = head()
    path = write_detached(kind, scan, tmp_path)
    (first,) = segment(small, [path], tmp_path / "out")
    before = summary(tmp_path / "out")[first.mask.name.removesuffix("_mask.nii.gz")]["scan_sha256"]
    assert segment(small, [path], tmp_path / "out")[0].kept
    stamp = path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b""
    write_detached(kind, scan.with_array(np.where(tumour.array > 0, 100, scan.array)), tmp_path)
    assert not path.is_file() or path.read_bytes() == stamp[1], "the header says nothing of it"
    (refused,) = segment(small, [path], tmp_path / "out")
    assert "made of another scan" in refused.problem
    (again,) = segment(small, [path], tmp_path / "out", overwrite=True)
    assert not again.kept
    assert again.volume_ml != first.volume_ml
    assert summary(tmp_path / "out")[first.mask.name.removesuffix("_mask.nii.gz")]["scan_sha256"] != before


def test_a_mask_stays_while_its_scan_cannot_be_read_and_the_reason_is_told(small, tmp_path):
    scan, out = write_case(tmp_path, "a"), tmp_path / "out"
    (first,) = segment(small, [scan], out)
    scan.rename(tmp_path / "away.nii.gz")
    scan.symlink_to("nothing")
    for overwrite in (False, True):
        (gone,) = segment(small, [scan], out, overwrite=overwrite)
        assert "is a link to nothing" in gone.problem
        assert first.mask.exists()
    scan.unlink()
    (tmp_path / "away.nii.gz").rename(scan)
    assert segment(small, [scan], out)[0].kept


def test_a_summary_names_a_scan_of_one_file_by_its_own_sha256(small, tmp_path):
    scan = write_case(tmp_path, "a")
    segment(small, [scan], tmp_path / "out")
    assert summary(tmp_path / "out")["a_flair"]["scan_sha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()


def test_the_same_command_keeps_what_is_there_and_makes_what_is_missing(small, tmp_path):
    scans = [write_case(tmp_path, name, seed=seed) for seed, name in enumerate("abc")]
    first = segment(small, scans[:2], tmp_path / "out")
    stamps = [result.mask.stat().st_mtime_ns for result in first]
    first[1].mask.unlink()
    again = segment(small, scans, tmp_path / "out")
    assert [result.kept for result in again] == [True, False, False]
    assert again[0].mask.stat().st_mtime_ns == stamps[0]
    assert again[0].volume_ml == pytest.approx(first[0].volume_ml, abs=1e-3)
    assert list(summary(tmp_path / "out")) == ["a_flair", "b_flair", "c_flair"]


def test_a_mask_of_another_network_or_other_options_is_neither_used_nor_replaced(small, checkpoint, tmp_path):
    scan, out = write_case(tmp_path, "a"), tmp_path / "out"
    (first,) = segment(small, [scan], out)
    before = first.mask.read_bytes(), (out / "summary.csv").read_bytes()
    for other, options in ((checkpoint, Options()), (small, Options(flips=True)), (small, Options(least_ml=1))):
        with pytest.raises(SettingsError, match="not made by this network with these options"):
            segment(other, [scan], out, options=options)
    assert (first.mask.read_bytes(), (out / "summary.csv").read_bytes()) == before
    (second,) = segment(checkpoint, [scan], out, overwrite=True)
    assert not second.kept
    assert summary(out)["a_flair"]["checkpoint"] not in before[1].decode()
    assert segment(checkpoint, [scan], out, overwrite=True)[0].kept, "so that a stopped run goes on"


def test_a_mask_of_another_scan_is_neither_used_nor_replaced(small, tmp_path):
    scan, out = write_case(tmp_path / "x", "a"), tmp_path / "out"
    (first,) = segment(small, [scan], out)
    before = first.mask.read_bytes(), (out / "summary.csv").read_bytes()
    namesake = write_case(tmp_path / "y", "a", seed=5)
    (refused,) = segment(small, [namesake], out)
    assert "made of another scan or ROI mask" in refused.problem
    (refused,) = segment(small, [scan], out, rois=[tmp_path / "x" / "a_brain.nii.gz"])
    assert "made of another scan or ROI mask" in refused.problem
    assert (first.mask.read_bytes(), (out / "summary.csv").read_bytes()) == before
    (kept,) = segment(small, [scan], out)
    assert kept.kept


def test_a_mask_drawn_by_hand_is_not_replaced_unasked(small, tmp_path):
    scan, out = write_case(tmp_path, "a"), tmp_path / "out"
    (result,) = segment(small, [scan], out)
    result.mask.write_bytes(b"corrected by hand")
    assert segment(small, [scan], out)[0].kept
    assert result.mask.read_bytes() == b"corrected by hand"
    (out / "summary.csv").unlink()
    with pytest.raises(SettingsError, match="is there already"):
        segment(small, [scan], out)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no scan")
    assert segment(small, [bad], out)[0].problem
    (out / "bad_mask.nii.gz").write_bytes(b"drawn by hand where the network failed")
    with pytest.raises(SettingsError, match="is there already"):
        segment(small, [bad], out)


def test_overwriting_leaves_nothing_of_the_other_network_beside_the_new_mask(small, checkpoint, tmp_path):
    scan, out = write_case(tmp_path, "a"), tmp_path / "out"
    segment(small, [scan], out, options=Options(probabilities=True, normal=True))
    assert len(names(out)) == 4
    segment(checkpoint, [scan], out, overwrite=True)
    assert names(out) == ["a_flair_mask.nii.gz", "summary.csv"]


def test_a_foreign_summary_is_not_replaced(small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.csv").write_text("name,age\nx,5\n")
    with pytest.raises(SettingsError, match="not a summary that train segment wrote"):
        segment(small, [write_case(tmp_path, "a")], tmp_path / "out")
    assert (tmp_path / "out" / "summary.csv").read_text() == "name,age\nx,5\n"


def test_a_killed_run_leaves_a_valid_summary_and_the_same_command_goes_on(small, tmp_path):
    scans = tmp_path / "scans"
    for number in range(24):
        write_case(scans, f"s{number:02d}", seed=number, spacing_mm=(3.0, 3.0, 3.0))
    out = tmp_path / "out"
    command = ["segment", "--checkpoint", small, "--out", out, scans, "--pattern", "{case}_flair.nii.gz"]
    with Started("train", *command, "--device", "cpu") as run:
        told = out / "summary.csv"  # of masks whose rows are not in it yet nothing can be said
        wait_for(
            lambda: (told.exists() and any(row["mask"] for row in summary(out).values())) or run.poll() is not None,
            100,
        )
        run.kill()
    rows = summary(out)
    done = [case for case, row in rows.items() if row["mask"]]
    assert 1 <= len(done) < 24
    assert all(read_mask(out / rows[case]["mask"]).array.any() for case in done)
    stopped = [row for row in rows.values() if not row["mask"]]
    assert all("stopped while" in row["problem"] for row in stopped)
    finished = train(*command, "--device", "cpu")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("(was there)") == len(done)
    assert all(row["mask"] and not row["problem"] for row in summary(out).values())
    assert len(summary(out)) == 24


# The command line.


def test_a_file_is_told_what_is_done_before_the_first_scan(small, tmp_path):
    write_case(tmp_path / "scans", "a")
    command = [*(sys.executable, "-m", "train.cli", "segment", "--checkpoint", str(small), "--device", "cpu")]
    began = time.monotonic()
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [*command, str(tmp_path / "scans"), "--out", str(tmp_path / "out")], stdout=log, stderr=log
        ) as run,
    ):
        while not (tmp_path / "log").read_text() and run.poll() is None:
            time.sleep(0.01)
        assert time.monotonic() - began < 20
        assert not (tmp_path / "out").exists(), "long before there is a result"
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == f"loading the network from {small}"
    assert lines[1] == "looking for scans"
    assert "1 scan; 2 masks, labels and results are not taken for scans (1 _brain, 1 _seg)" in lines[2]
    assert lines[3] == "segmenting 1 scan on cpu"


def test_the_command_says_volumes_and_what_to_do_next(checkpoint, tmp_path):
    scan = write_case(tmp_path / "scans", "a")
    command = ["segment", "--checkpoint", str(checkpoint), str(scan), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--clean", "largest", "--least-ml", "0.1", "--format", "nrrd"])
    assert result.exit_code == 0
    assert "a_flair_mask.nrrd" in result.output
    assert " ml -> " in result.output
    assert "summary.csv" in result.output
    assert summary(tmp_path / "out")["a_flair"]["options"] == "clean=largest least_ml=0.1"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--window", "wide"), ("--clean", "smallest"), ("--least-ml", "-1"), ("--format", "png")],
)
def test_a_wrong_value_of_an_option_is_one_sentence(small, tmp_path, option, value):
    command = ["segment", "--checkpoint", str(small), "a.nii.gz", "--out", str(tmp_path / "out"), option, value]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, SettingsError)
    assert option.strip("-").replace("-", "_") in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_the_memory_of_a_scan_serves_the_next():
    lines = (
        "import resource",
        "from train.cli.application import ready_for_many_scans",
        "ready_for_many_scans()",
        "faults = []",
        "for _ in range(4):",
        "    blocks = [bytearray(b'x') * 2**24 for _ in range(4)]",
        "    del blocks",
        "    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)",
        "print(faults[-1] - faults[-2])",
    )
    told = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 100  # of 16 thousand pages
