import os
from collections import Counter

import numpy as np
import pytest
import SimpleITK as sitk

from tests.made.scan_files import brain, mask, save, save_dicom
from train.segmentation.search import holds_labels, search

SCAN = brain()


def held(folder, scans=(), masks=()):
    """Write scans and masks into a folder, and return what is found there."""
    for name in scans:
        save(SCAN, folder / name)
    for name in masks:
        save(mask(), folder / name)
    return search(folder, folder / "out")


def test_masks_and_labels_beside_scans_are_told_from_them_and_counted_by_ending(tmp_path):
    scans = ["p1_flair.nii.gz", "p2_flair.nii.gz", "p3.nrrd", "sub-1_T1w.nii.gz"]
    masks = ["p1_seg.nii.gz", "p2_seg.nii.gz", "p1_brain.nii.gz", "p3_mask.nrrd", "p2_lesions.nii.gz", "p2_liver.mha"]
    found = held(tmp_path, scans, [*masks, "sub-1_desc-brain_mask.nii.gz", "p1_segauto.nii.gz"])
    assert sorted(path.name for path in found.scans.values()) == scans
    counts = {"_seg": 2, "_brain": 1, "_mask": 2, "_lesions": 1, "_liver": 1, "_segauto": 1}
    assert found.left_out == counts
    assert found.not_taken().startswith("8 masks, labels and results are not taken for scans (2 _mask, 2 _seg, ")


def test_folders_of_labels_are_told_from_folders_of_scans(tmp_path):
    found = held(
        tmp_path, ["imagesTr/p_001_0000.nii.gz"], ["labelsTr/p_001.nii.gz", "masks/p.nii.gz", "brain_masks/3f9.nii.gz"]
    )
    assert list(found.scans) == ["imagesTr/p_001_0000"]
    assert found.left_out == {"in labelsTr/": 1, "in masks/": 1, "in brain_masks/": 1}


def test_a_scan_that_is_named_like_a_mask_is_a_scan(tmp_path):
    """``T1_brain`` is what skull stripping makes of ``T1``; a folder called masks may hold scans too."""
    scans = ["T1.nii.gz", "T1_brain.nii.gz", "masks/a.nii.gz", "x_seg.nii.gz", "brain.nii.gz", "seg.nii.gz"]
    found = held(tmp_path, scans)
    assert len(found.scans) == len(scans)
    assert not found.not_taken()


def test_a_file_that_cannot_be_read_is_taken_and_so_named_later(tmp_path):
    save(SCAN, tmp_path / "a.nii.gz")
    (tmp_path / "a_brain.nii.gz").write_bytes(b"no mask, no scan")
    assert list(search(tmp_path, tmp_path / "out").scans) == ["a", "a_brain"]


def test_an_empty_mask_is_a_mask(tmp_path):
    save(mask().with_array(0 * mask().array), tmp_path / "a_tumour.nii.gz")
    found = held(tmp_path, ["a.nii.gz"])
    assert (list(found.scans), found.left_out) == (["a"], {"_tumour": 1})


def test_two_files_of_one_stem_are_two_scans_and_their_results_are_told_from_them(tmp_path):
    found = held(tmp_path, ["p1.nii.gz", "p1.nrrd", "p2.nii.gz", "sub/p1.mha", "p1.nrrd_normal.nii.gz"])
    assert list(found.scans) == ["p1.nii.gz", "p1.nrrd", "p2", "sub/p1"]
    assert found.left_out == {"_normal": 1}


def test_links_to_nothing_are_named_where_they_may_have_led_to_scans(tmp_path):
    for name in ("b.nii.gz", "series", "README.md", "slice.dcm"):
        (tmp_path / name).symlink_to("../.git/annex/objects/none")
    found = held(tmp_path, ["a.nii.gz"])
    assert list(found.scans) == ["a", "b", "series", "slice.dcm"]
    assert list(found.broken) == ["b", "series", "slice.dcm"]
    assert all("is a link to nothing; fetch" in said for said in found.broken.values())


def test_a_stray_slice_or_a_series_hides_no_scan(tmp_path):
    save_dicom(SCAN, tmp_path, skip=tuple(range(1, SCAN.array.shape[0])))
    save_dicom(SCAN, tmp_path / "sub")
    found = held(tmp_path, ["a.nii.gz", "b.nii.gz", "sub/c.nii.gz"])
    assert list(found.scans) == [tmp_path.name, "a", "b", "sub", "sub/c"]


def test_files_of_other_kinds_are_counted_but_not_what_belongs_to_a_scan(tmp_path):
    sitk.WriteImage(SCAN.to_itk(), str(tmp_path / "a.nhdr"))
    sitk.WriteImage(SCAN.to_itk(), str(tmp_path / "b.mhd"))
    assert len(list(tmp_path.iterdir())) == 4, "two headers with a data file each"
    for name in ("c.mnc", "d.mnc", "notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    found = search(tmp_path, tmp_path / "out")
    assert list(found.scans) == ["a", "b"]
    assert found.not_taken() == "3 files of other kinds (2 .mnc, 1 .txt)"


def test_a_name_that_is_not_utf8_gives_a_result_a_name_that_is(tmp_path):
    os.rename(save(SCAN, tmp_path / "t.nii.gz"), os.fsencode(tmp_path) + b"/caf\xe9.nii.gz")
    found = held(tmp_path, ["sub/a.nii.gz"])
    assert list(found.scans) == ["caf%E9", "sub/a"]


def test_cases_of_several_modalities_are_counted_by_ending(tmp_path):
    found = held(tmp_path, ["a_flair.nii.gz", "a_t1ce.nii.gz", "b_flair.nii.gz"])
    assert found.modalities == {"_flair": 2, "_t1ce": 1}
    assert held(tmp_path / "x", ["a_flair.nii.gz", "b_flair.nii.gz", "scan_1.nii.gz", "scan_2.nii.gz"]).modalities == {}


@pytest.mark.parametrize(
    ("values", "labels"), [([0, 1], True), ([0, 1, 2, 4], True), ([0, 0.5, 1], False), (range(200), False)]
)
def test_labels_are_a_few_whole_numbers(values, labels):
    array = np.resize(np.array(list(values), np.float32), (20, 20, 20))
    assert holds_labels(array, 100) is labels


def test_one_grey_value_among_labels_is_seen_wherever_it_lies():
    array = np.zeros((20, 20, 20), np.float32)
    array[3, 5, 6] = 0.25
    assert not holds_labels(array, 100)


@pytest.mark.parametrize(
    ("folder", "endings", "masks"),
    [
        ("brain/tumour", {"flair": 9, "t1": 4, "t1ce": 4, "t2": 4}, {"_brain": 8, "_seg": 8, "_segauto": 1}),
        ("brain/normal", {"flair": 16}, {"_brain": 13, "_lesions": 8}),
        ("liver/normal", {"ct": 2}, {"_liver": 2}),
        ("liver/tumour", {"ct": 1}, {"_liver": 1, "_tumour": 1}),
    ],
)
def test_of_real_folders_exactly_the_scans_are_taken(dev_data, tmp_path, folder, endings, masks):
    found = search(dev_data / folder, tmp_path)
    assert Counter(case.rpartition("_")[2] for case in found.scans) == endings
    assert found.left_out == masks
