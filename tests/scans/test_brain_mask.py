import json
import shutil

import numpy as np
import pytest

from scans.catalog.mask_command import told_command, words_of
from scans.catalog.region import Region
from scans.errors import CatalogError, ScanError
from scans.image.brain_mask import brain_mask, check_program, kept_mask
from scans.image.volume import read_grid, read_mask, read_volume
from tests.made.scan_files import save, save_dicom
from tests.made.skulls import Tool, head


@pytest.fixture
def tool(tmp_path):
    return Tool(tmp_path)


@pytest.fixture
def scan(tmp_path):
    return save(head(), tmp_path / "scans" / "a.nii.gz")


def refusal(*given):
    with pytest.raises(ScanError) as caught:
        brain_mask(*given)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def test_a_mask_is_made_of_zeros_and_ones_on_the_scans_own_voxels(tool, scan, tmp_path):
    made = brain_mask(scan, tool.command(), tmp_path / "kept")
    array = read_mask(made).array
    assert np.array_equal(array, read_volume(scan).array > 50)
    assert read_grid(made) == read_grid(scan)
    record = json.loads(made.with_name(made.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
    assert record["scan"] == "a.nii.gz"
    assert record["volume_ml"] == pytest.approx(array.sum() * 0.65025, abs=0.1)


def test_a_mask_is_kept_by_what_is_in_the_scan_and_what_the_command_says(tool, scan, tmp_path):
    kept, command = tmp_path / "kept", tool.command()
    assert kept_mask(scan, command, kept) is None
    made = brain_mask(scan, command, kept)
    renamed = shutil.copy(scan, scan.with_name("b.nii.gz"))
    assert brain_mask(renamed, command, kept) == kept_mask(scan, command, kept) == made
    assert tool.runs == 1
    assert brain_mask(scan, tool.command("like bet"), kept) != made
    save(head(seed=1), scan)
    assert brain_mask(scan, command, kept) != made
    assert tool.runs == 3


def test_a_kept_mask_that_was_damaged_or_left_half_is_made_again(tool, scan, tmp_path):
    made = brain_mask(scan, tool.command(), tmp_path / "kept")
    whole = made.read_bytes()
    made.write_bytes(whole[:-9])
    assert brain_mask(scan, tool.command(), tmp_path / "kept").read_bytes() == whole
    made.with_name(made.name.replace(".nii.gz", ".json")).unlink()  # as where a run died between the two files
    assert kept_mask(scan, tool.command(), tmp_path / "kept") is None
    assert brain_mask(scan, tool.command(), tmp_path / "kept").read_bytes() == whole
    assert tool.runs == 3


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("fails", "ended with exit code 1; it said: set WEIGHTS to their folder"),
        ("fails silently", "ended with exit code 3; it said"),
        ("nothing", "ended well, but wrote no brain mask; check where {mask} stands"),
        ("two", "wrote a.nii.gz, b.nii.gz, and which is the brain mask is not clear"),
        ("shifted", "is not on the grid of"),
        ("smaller", "14 x 18 x 8 voxels against 14 x 18 x 16"),
        ("empty", "is empty; give a mask of your own"),
        ("everything", "has 2622 ml, and brains have 100 to 2500 ml"),
        ("speck", "has 1 ml, and brains have"),
        ("intensities", "values that are not whole numbers"),
        ("killed", "was killed (SIGKILL) before its brain mask was made"),
        ("half", "is no brain mask"),
    ],
)
def test_a_command_that_fails_is_told_in_a_sentence_and_leaves_nothing(tool, scan, tmp_path, how, told):
    sentence = refusal(scan, tool.command(how), tmp_path / "kept")
    assert told in sentence
    assert str(scan) in sentence
    assert "/brain-mask-" not in sentence, "the sentence names a file that is gone"
    assert not list((tmp_path / "kept").iterdir())


def test_a_program_that_is_not_there_is_told_before_any_scan_is_read(scan, tmp_path):
    with pytest.raises(CatalogError, match="there is no such program on this machine"):
        check_program("no_such_tool {scan} {mask}")
    assert "no_such_tool, which is to make its brain mask, cannot be run" in refusal(
        scan, "no_such_tool {scan} {mask}", tmp_path / "kept"
    )
    check_program(None)


@pytest.mark.parametrize("name", ["a; touch HERE.nii.gz", "$(touch HERE).nii.gz", "-m 'x \" y.nii.gz", "{mask}.nii.gz"])
def test_the_name_of_a_file_is_never_an_option_nor_a_command(tool, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = brain_mask(save(head(), tmp_path / "scans" / name), tool.command(), tmp_path / "kept")
    assert read_mask(made).array.any()
    assert not list(tmp_path.rglob("HERE"))


def test_a_tool_sees_nifti_whatever_the_scan_is(tool, tmp_path):
    for scan in (save(head(), tmp_path / "a.nrrd"), save_dicom(head(), tmp_path / "series")):
        mask = read_mask(brain_mask(scan, tool.command("like bet"), tmp_path / "kept"))
        assert mask.same_grid(read_volume(scan))
        assert 500 < mask.array.sum() * 0.65025 < 900


def test_a_scan_that_cannot_be_read_never_comes_to_the_tool(tool, tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no scan")
    refusal(tmp_path / "a.nii.gz", tool.command(), tmp_path / "kept")
    assert tool.runs == 0


def test_a_command_says_where_both_paths_go():
    assert words_of("'my tool' -i {scan} --out={mask}") == ["my tool", "-i", "{scan}", "--out={mask}"]
    for command, told in (
        ("bet {scan}", "where {mask} goes"),
        ("{scan} {mask}", "where {scan} goes"),
        ("bet '{scan} {mask}", "a quote is left open"),
    ):
        with pytest.raises(ValueError, match=told):
            words_of(command)
    assert told_command("python /home/me/strip.py {scan} --to={mask}") == "python strip.py {scan} --to={mask}"


def test_what_is_recorded_of_a_region_never_names_a_command():
    region = Region(name="brain", modality="FLAIR", brain_mask_with="bet {scan} {mask} -m -n")
    assert "brain_mask_with" not in region.model_dump(mode="json")
    assert region.preparation() == Region(name="brain", modality="FLAIR").preparation()
