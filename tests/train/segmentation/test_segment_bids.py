"""Datasets of BIDS become derivatives; scans that wear their skull are masked on the way."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from scans.errors import UserError
from scans.image.volume import read_mask, read_volume
from tests.made.bids import mistakes, write_dataset, write_head, write_json, write_scan
from tests.made.real_scans import head as stripped
from tests.made.skulls import Tool, with_skull
from tests.made.tiny_checkpoint import REGION, save_bright
from train.cli.application import app
from train.segmentation.outputs import Options
from train.segmentation.segment import segment
from train.settings import SettingsError

SPACING = (4.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors", size=16)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a dataset of two people: one stripped, in two sessions; one with skull and a brain mask."""
    root = write_dataset(tmp_path_factory.mktemp("bids") / "study", DatasetDOI="doi:10.18112/x")
    write_head(root, "sub-01_ses-a_FLAIR", seed=1, spacing_mm=SPACING)
    write_head(root, "sub-01_ses-b_run-2_FLAIR", seed=2, spacing_mm=SPACING)
    scan, _, brain = stripped(seed=3, spacing_mm=SPACING)
    write_scan(root, "sub-02_FLAIR", with_skull(scan))
    write_scan(root, "derivatives/strip/sub-02_desc-brain_mask", brain)
    return root


@pytest.fixture(scope="module")
def derivatives(study, checkpoint):
    """Segment the dataset, by the command line, into its own derivatives; return their folder and what was there."""
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    result = CliRunner().invoke(app, ["segment", "--bids", str(study), "--checkpoint", str(checkpoint), "--normal"])
    assert (result.exit_code, result.exception) == (0, None)
    assert "3 scans, 1 of them with a brain mask" in result.stderr
    return study / "derivatives" / "layered-tumors", before


def test_derivatives_are_as_bids_wants_them(derivatives):
    folder, _ = derivatives
    assert mistakes(folder) == []
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*_label-tumor_mask.nii.gz")}
    assert made == {
        "sub-01/ses-a/anat/sub-01_ses-a_label-tumor_mask.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_run-2_label-tumor_mask.nii.gz",
        "sub-02/anat/sub-02_label-tumor_mask.nii.gz",
    }
    said = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
    assert said["GeneratedBy"][0]["Name"] == "Layered Tumors"
    assert said["SourceDatasets"] == [{"URL": "../..", "DOI": "doi:10.18112/x"}]


def test_the_dataset_itself_stays_as_it_was(derivatives, study):
    folder, before = derivatives
    after = {path: path.read_bytes() for path in study.rglob("*") if path.is_file() and folder not in path.parents}
    assert after == before
    assert not list(folder.rglob("participants*"))


def test_a_sidecar_says_what_made_its_image(derivatives, study):
    folder, _ = derivatives
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    row = rows["sub-02/anat/sub-02"]
    said = json.loads((folder / "sub-02/anat/sub-02_label-tumor_mask.json").read_text(encoding="utf-8"))
    assert said["Network"]["SHA256"] == row["checkpoint"]
    assert said["Network"]["Origin"].endswith(".safetensors")
    assert said["ScanSHA256"] == row["scan_sha256"]
    assert said["TumorVolumeMl"] == float(row["volume_ml"])
    assert said["Options"] == "probabilities normal"
    assert said["Sources"] == [
        "bids:raw:sub-02/anat/sub-02_FLAIR.nii.gz",
        "bids:raw:derivatives/strip/sub-02/anat/sub-02_desc-brain_mask.nii.gz",
    ]
    assert str(study) not in json.dumps(said)
    normal = json.loads((folder / "sub-02/anat/sub-02_desc-normal_FLAIR.json").read_text(encoding="utf-8"))
    assert normal["SkullStripped"] is False


def test_masks_are_those_that_scans_named_one_by_one_get(derivatives, study, checkpoint, tmp_path):
    folder, _ = derivatives
    scan = study / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz"
    roi = study / "derivatives" / "strip" / "sub-02" / "anat" / "sub-02_desc-brain_mask.nii.gz"
    segment(checkpoint, [scan], tmp_path, rois=[roi], options=Options(probabilities=True))
    for ours, plain in (("label-tumor_mask", "mask"), ("label-tumor_probseg", "probability")):
        found = (folder / "sub-02" / "anat" / f"sub-02_{ours}.nii.gz").read_bytes()
        assert found == (tmp_path / f"sub-02_FLAIR_{plain}.nii.gz").read_bytes()


def test_a_second_run_keeps_what_is_there(derivatives, study, checkpoint):
    folder, _ = derivatives
    results = segment(checkpoint, [], folder, bids=study, options=Options(normal=True))
    assert [result.kept for result in results] == [True] * 3


def test_several_classes_are_one_label_map_with_a_table(study, tmp_path):
    classes = {"whole tumour": [1, 2], "core": [1]}
    data = {"dataset": "x", "task": "y", "classes": classes, "training": ["a"], "test": ["b"]}
    several = save_bright(tmp_path / "two.safetensors", size=16, levels=(1.0, 2.0), stage="finetune", data=data)
    segment(several, [], tmp_path / "out", bids=study, pipelines=["strip"])
    anat = tmp_path / "out" / "sub-02" / "anat"
    assert {path.name.removeprefix("sub-02_") for path in anat.glob("*.nii.gz")} == {
        "desc-tumor_dseg.nii.gz", "label-wholetumour_probseg.nii.gz", "label-core_probseg.nii.gz",
    }  # fmt: skip
    table = (anat / "sub-02_desc-tumor_dseg.tsv").read_text(encoding="utf-8")
    assert table == "index\tname\n1\twhole tumour and core\n2\twhole tumour\n"
    assert mistakes(tmp_path / "out") == []


def test_derivatives_are_written_where_they_may_lie_alone(derivatives, study, checkpoint, tmp_path):
    folder, _ = derivatives
    write_json(tmp_path / "theirs" / "dataset_description.json", {"Name": "x", "GeneratedBy": [{"Name": "fMRIPrep"}]})
    write_scan(tmp_path / "bare", "sub-01_FLAIR", stripped(spacing_mm=SPACING)[0])
    other = write_dataset(tmp_path / "other")
    write_head(other, "sub-01_FLAIR", spacing_mm=SPACING)
    for raw, out, told in (
        (study, study, "lies in the dataset itself"),
        (study, study / "masks", "lies in the dataset itself"),
        (study, tmp_path / "theirs", "this software did not make"),
        (study, tmp_path / "bare", "holds sub-* and no dataset_description.json"),
        (other, folder, "derivatives of another dataset"),
    ):
        with pytest.raises(SettingsError) as caught:
            segment(checkpoint, [], out, bids=raw)
        assert told in str(caught.value)


def test_what_does_not_go_with_a_dataset_of_bids_is_said(study, checkpoint, tmp_path):
    for given, told in (
        ({"scans": ["a.nii.gz"]}, "--bids finds scans and masks by itself"),
        ({"options": Options(format="nrrd")}, "BIDS has images as nii.gz"),
        ({"suffixes": ["T1w"]}, "no scan in its anat folders is called T1w"),
        ({"suffixes": ["FLAIR", "T1w"]}, "2 --suffix"),
        ({"suffixes": ["FLAIR.nii"]}, "--suffix 'FLAIR.nii' is no end of a BIDS name"),
        ({"bids": tmp_path}, "there is no sub-"),
    ):
        with pytest.raises(UserError) as caught:
            segment(checkpoint, **{"scans": [], "out": tmp_path / "out", "bids": study, **given})
        assert told in str(caught.value)
    for words, told in (([], "give --bids DATASET"), (["a.nii.gz", "--suffix", "FLAIR"], "belong to --bids")):
        assert told in str(CliRunner().invoke(app, ["segment", *words]).exception)


def test_a_scan_with_its_skull_is_segmented_by_a_mask_that_a_command_makes(study, checkpoint, tmp_path):
    tool, scan = Tool(tmp_path), study / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz"
    roi = study / "derivatives" / "strip" / "sub-02" / "anat" / "sub-02_desc-brain_mask.nii.gz"
    masked = Options(brain_mask_with=tool.command(), brain_masks=tmp_path / "kept")
    (refused,) = segment(checkpoint, [scan], tmp_path / "refused")
    assert "not skull-stripped" in refused.problem
    assert "--brain-mask-with" in refused.problem
    (made,) = segment(checkpoint, [scan], tmp_path / "made", options=masked)
    (given,) = segment(checkpoint, [scan], tmp_path / "given", rois=[roi])
    assert not made.problem
    assert np.array_equal(read_mask(made.mask).array, read_mask(given.mask).array)
    (kept,) = segment(checkpoint, [scan], tmp_path / "made", options=masked)
    assert (kept.kept, tool.runs) == (True, 1)
    failing = Options(brain_mask_with=tool.command("killed"), brain_masks=tmp_path / "kept")
    (failed,) = segment(checkpoint, [scan], tmp_path / "failed", options=failing)
    assert "was killed (SIGKILL) before its brain mask was made" in failed.problem
    (own,) = segment(checkpoint, [scan], tmp_path / "own", rois=[roi], options=failing)
    assert not own.problem, "a scan that brings a mask needs none"


def test_a_checkpoint_never_says_what_is_run(study, tmp_path):
    tool, scan = Tool(tmp_path), study / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz"
    hostile = save_bright(tmp_path / "x.safetensors", {**REGION, "brain_mask_with": tool.command()}, size=16)
    (result,) = segment(hostile, [scan], tmp_path / "out")
    assert "not skull-stripped" in result.problem
    assert tool.runs == 0
    assert read_volume(scan).array.min() > 0
