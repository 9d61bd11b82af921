"""Masks of DICOM series as DICOM SEG: the voxels NIfTI would have, on the slices they were found in."""

import csv
import shutil
import subprocess

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from scans.formats.series import series_files
from scans.image.volume import read_volume, write_volume
from tests.made.real_scans import head
from tests.made.scan_files import save_dicom
from tests.made.tiny_checkpoint import save_bright
from train.cases.classes import masks_of
from train.cli.application import app
from train.segmentation.inputs import find_inputs
from train.segmentation.outputs import Options
from train.segmentation.segment import segment

STATED = {  # what a scanner states and a segmentation repeats
    "0008|0020": "20260102",
    "0008|0030": "101112",
    "0008|0050": "A1",
    "0010|0010": "Doe^Jane",
    "0010|0020": "P1",
    "0010|0030": "19700102",
    "0010|0040": "F",
    "0018|0050": "2.5",
    "0020|0010": "S1",
    "0020|0011": "7",
    "0020|0052": "1.2.826.0.1.3680043.2.1125.77",
}
CLASSES = {"whole tumour": [1, 2], "Kernödem": [2]}
SEG = Options(format="dicom-seg")


@pytest.fixture(scope="module", autouse=True)
def _libraries():
    """Import what takes a second where these tests run, and not wherever tests are collected."""
    global highdicom, pydicom
    highdicom, pydicom = pytest.importorskip("highdicom"), pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors", size=32)


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """Return a network of two classes, one in the other."""
    data = {"dataset": "heads", "task": "nested", "classes": CLASSES}
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    return save_bright(path, levels=(1.3, 2.0), size=32, stage="finetune", data=data)


def oblique():
    scan, _, _ = head((4.0, 2.9, 3.1))
    turned = Rotation.from_euler("xyz", [10, -7, 4], degrees=True).as_matrix()
    return type(scan)(scan.array, scan.spacing_mm, (11.5, -40.25, 7.0), tuple(turned.ravel()))


def save_backwards(scan, folder):
    """Write a series whose slices are named and numbered from the other end."""
    save_dicom(scan, folder, more=STATED)
    files = sorted(folder.iterdir())
    for number, file in enumerate(reversed(files)):
        one = pydicom.dcmread(file)
        one.InstanceNumber = number + 1
        one.save_as(folder / f"a{number:03d}.dcm")
        file.unlink()
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    root = tmp_path_factory.mktemp("series")
    return {
        "oblique": save_dicom(oblique(), root / "oblique", more=STATED),
        "backwards": save_backwards(head((4.0, 2.9, 3.1))[0], root / "backwards"),
    }


@pytest.fixture(scope="module")
def written(series, checkpoint, nested, tmp_path_factory):
    """Return of each series and network the mask as NIfTI and as DICOM SEG."""
    found = {}
    for (name, folder), network in [(each, one) for each in series.items() for one in (checkpoint, nested)]:
        out = tmp_path_factory.mktemp("out")
        (nifti,) = segment(network, [folder], out / "nifti", device="cpu")
        (dicom,) = segment(network, [folder], out / "dicom", options=SEG, device="cpu")
        assert [nifti.problem, dicom.problem] == ["", ""]
        found[name, "one" if network == checkpoint else "two"] = nifti.mask, dicom.mask
    return found


EACH = [(name, classes) for name in ("oblique", "backwards") for classes in ("one", "two")]


def segments_of(path, folder):
    """Return the segments of a file on the slices that they refer to, bool (K, z, y, x)."""
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in series_files(folder)]
    found = highdicom.seg.segread(path).get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    return np.moveaxis(found, -1, 0) != 0


@pytest.mark.parametrize(("name", "classes"), EACH)
def test_each_segment_is_voxel_by_voxel_what_nifti_has(written, series, name, classes):
    nifti, dicom = written[name, classes]
    labels = read_volume(nifti)
    wanted = {"tumour": None} if classes == "one" else CLASSES
    np.testing.assert_array_equal(segments_of(dicom, series[name]), masks_of(labels.array, wanted))
    segmentation = highdicom.seg.segread(dicom)
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == list(wanted)


@pytest.mark.parametrize(("name", "classes"), EACH)
def test_each_segment_lies_where_nifti_has_it_by_its_own_positions(written, name, classes):
    nifti, dicom = written[name, classes]
    labels = read_volume(nifti)
    there = highdicom.seg.segread(dicom).get_volume(segment_numbers=[1])
    zyx = np.argwhere(there.array[..., 0] != 0)
    points = (np.c_[zyx, np.ones(len(zyx))] @ there.affine.T)[:, :3]
    xyz = np.argwhere(labels.array != 0)[:, ::-1]
    wanted = (np.c_[xyz, np.ones(len(xyz))] @ labels.grid.affine.T)[:, :3]
    assert len(points) == len(wanted) > 100
    np.testing.assert_allclose(*(each[np.lexsort(np.round(each, 2).T)] for each in (points, wanted)), atol=0.01)


def test_it_says_what_it_marks_by_whom_and_of_which_slices(written, series):
    segmentation = pydicom.dcmread(written["oblique", "one"][1])
    slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in series_files(series["oblique"])]
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "PatientSex", "StudyDate"):
        assert segmentation.get(name) == slices[0].get(name), name
    (of,) = segmentation.ReferencedSeriesSequence
    assert of.SeriesInstanceUID == slices[0].SeriesInstanceUID
    referred = {one.ReferencedSOPInstanceUID for one in of.ReferencedInstanceSequence}
    assert referred == {one.SOPInstanceUID for one in slices}
    (segment_of,) = segmentation.SegmentSequence
    assert segment_of.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
    assert segment_of.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert segment_of.SegmentAlgorithmType == "AUTOMATIC"
    (algorithm,) = segment_of.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == "Layered Tumors brain"
    with open(written["oblique", "one"][1].parent / "summary.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert algorithm.AlgorithmVersion == row["checkpoint"]
    assert row["mask"] == "oblique_mask.dcm"


def test_a_rerun_gives_the_same_object_but_for_the_time_and_other_options_another(
    checkpoint, series, written, tmp_path
):
    def told(path):
        one = pydicom.dcmread(path)
        for name in ("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime"):
            delattr(one, name)
        del one.ContributingEquipmentSequence[0].ContributionDateTime
        return one

    before = told(written["oblique", "one"][1])
    assert told(segment(checkpoint, [series["oblique"]], tmp_path / "again", options=SEG)[0].mask) == before
    cleaned = SEG.model_copy(update={"clean": "largest", "probabilities": True})
    (other,) = segment(checkpoint, [series["oblique"]], tmp_path / "other", options=cleaned)
    assert told(other.mask).SOPInstanceUID != before.SOPInstanceUID
    assert (tmp_path / "other" / "oblique_probability.nii.gz").exists(), "numbers between 0 and 1 stay NIfTI"
    assert segment(checkpoint, [series["oblique"]], tmp_path / "other", options=cleaned)[0].kept


def test_a_scan_that_is_no_series_is_told_in_one_sentence(checkpoint, series, tmp_path):
    (tmp_path / "scans").mkdir()
    write_volume(head()[0], tmp_path / "scans" / "a.nii.gz")
    arguments = ["segment", "--checkpoint", str(checkpoint), "--format", "dicom-seg", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "scans" / "a.nii.gz")])
    assert "a.nii.gz is no DICOM series" in str(result.exception)
    assert not (tmp_path / "out").exists()
    shutil.copytree(series["oblique"], tmp_path / "scans" / "b")
    nifti, dicom = segment(checkpoint, [tmp_path / "scans"], tmp_path / "out", options=SEG)
    assert "a.nii.gz is no DICOM series" in nifti.problem
    assert dicom.mask == tmp_path / "out" / "b_mask.dcm"


def test_a_series_without_a_frame_of_reference_is_told_in_one_sentence(checkpoint, tmp_path):
    folder = save_dicom(head()[0], tmp_path / "series")
    (result,) = segment(checkpoint, [folder], tmp_path / "out", options=SEG)
    assert "do not state FrameOfReferenceUID" in result.problem
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_what_a_scanner_left_out_may_be_missing_and_a_mask_may_be_empty(tmp_path):
    nothing = save_bright(tmp_path / "best.safetensors", levels=(1000.0,), size=16)
    folder = save_dicom(head()[0], tmp_path / "series", more={"0020|0052": "1.2.3", "0010|0040": "U"})
    (result,) = segment(nothing, [folder], tmp_path / "out", options=SEG)
    assert not result.problem
    assert result.volume_ml == 0
    assert not segments_of(result.mask, folder).any()


def test_a_segmentation_beside_its_series_is_no_scan_and_hides_none(checkpoint, series, written, tmp_path):
    shutil.copytree(series["oblique"], tmp_path / "scans" / "a")
    before = read_volume(tmp_path / "scans" / "a").array
    for folder in ("a", "", "alone"):
        (tmp_path / "scans" / folder).mkdir(exist_ok=True)
        shutil.copy(written["oblique", "one"][1], tmp_path / "scans" / folder)
    said = []
    (one,) = find_inputs([tmp_path / "scans"], ("FLAIR",), tmp_path / "out", say=said.append)
    assert one.scans == (tmp_path / "scans" / "a",)
    assert "3 masks, labels and results are not taken for scans (3 DICOM SEG)" in said[0]
    np.testing.assert_array_equal(read_volume(tmp_path / "scans" / "a").array, before)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy, of Debian's dicom3tools, is not installed")
@pytest.mark.parametrize(("name", "classes"), EACH)
def test_dciodvfy_finds_no_error(written, name, classes):
    told = subprocess.run(["dciodvfy", written[name, classes][1]], capture_output=True, text=True)
    assert "Segmentation" in told.stdout + told.stderr
    assert [line for line in told.stderr.splitlines() if line.startswith("Error")] == []
    assert told.returncode == 0
