"""Scans as other software writes them: what it reads is read, and what is not sure is refused in a true sentence."""

import gzip
import os
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from scans.catalog.region import Region
from scans.errors import ScanError, printable
from scans.formats.files import content_sha256
from scans.image.grid import Grid
from scans.image.preparation import prepare, prepare_modalities
from scans.image.volume import Volume, check_same_grid, read_grid, read_mask, read_masks, read_volume, write_volume
from tests.made.scan_files import GRID, brain, ellipsoid, mask, of_itk, save, save_dicom

AFFINE = np.array([[-1.2, 0, 0, 20], [0, 1.0, 0, -10], [0, 0, 1.5, 5], [0, 0, 0, 1]])
REGION = Region.model_validate({"name": "test", "modality": "noise", "roi": {"most_ml": None}})
QFORM_CODE, QUATERNION, PIXDIM, OFFSET, SLOPE = 252, 256, 76, 108, 112  # bytes of NIfTI-1


def foreign(path, kind=nibabel.Nifti1Image, codes=(1, 2), extensions=()):
    """Write a scan with nibabel, and return its path."""
    image = kind(brain().array.T, AFFINE)
    image.set_qform(AFFINE, codes[0])
    image.set_sform(AFFINE, codes[1])
    for content in extensions:
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(4, content))  # 4: AFNI
    nibabel.save(image, path)
    return path


def damaged(path, at, *numbers, order="<f"):
    content = bytearray(path.read_bytes())
    content[at : at + struct.calcsize(order) * len(numbers)] = b"".join(struct.pack(order, n) for n in numbers)
    path.write_bytes(content)
    return path


def refusal(path, read=read_volume) -> str:
    with pytest.raises(ScanError) as caught:
        read(path)
    return str(caught.value)


# Headers of NIfTI.


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("sizes", [(1,), (190,), (5000, 3), (2**20,)])
def test_extensions_of_a_header_are_read_past(tmp_path, kind, suffix, sizes):
    path = foreign(tmp_path / f"scan{suffix}", kind, extensions=[b"<AFNI/>" * (n // 7) + b"x" for n in sizes])
    assert nibabel.load(path).dataobj.offset > 352
    np.testing.assert_array_equal(read_volume(path).array, brain().array)
    assert read_grid(path).matches(read_grid(foreign(tmp_path / "plain.nii")), 1e-4)


@pytest.mark.parametrize("content", [b"\xff" * 500, b"\x07\0\0\0\x04\0\0\0" + b"x" * 100])
def test_what_extends_a_header_may_be_anything(tmp_path, content):
    """Between the header and the voxels stands what is no extension: of no size, or of one that does not fit."""
    path = foreign(tmp_path / "scan.nii")
    whole = path.read_bytes()
    path.write_bytes(whole[:348] + b"\1\0\0\0" + content + whole[352:])
    damaged(path, OFFSET, 352.0 + len(content))
    np.testing.assert_array_equal(read_volume(path).array, brain().array)


@pytest.mark.parametrize("codes", [(1, 2), (3, 0), (0, 4), (0, 0)])
def test_a_mask_repeats_the_geometry_of_a_scan_with_extensions(tmp_path, codes):
    path = foreign(tmp_path / "scan.nii.gz", codes=codes, extensions=[b"x" * 5000])
    write_volume(mask(read_grid(path)), tmp_path / "mask.nii.gz", like=path)
    scan, made = (nibabel.load(one).header for one in (path, tmp_path / "mask.nii.gz"))
    for field in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(made[field], scan[field])
    np.testing.assert_array_equal(made["pixdim"][:4], scan["pixdim"][:4])


@pytest.mark.parametrize("offset", [float("inf"), float("nan"), -352.0, 0.0, 347.0, 1e30, 2**20])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_voxels_at_an_impossible_place_are_refused(tmp_path, offset, suffix):
    path = damaged(foreign(tmp_path / "scan.nii"), OFFSET, offset)
    if suffix == ".nii.gz":
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "scan.nii").read_bytes()))
    assert "again" in refusal(path)


@pytest.mark.parametrize("longer", [1.0000003, 1.0009])
def test_a_quaternion_longer_than_1_by_rounding_is_read(tmp_path, longer):
    half_turn = np.diag([1.2, -1.0, -1.5, 1.0])  # about x: the quaternion is (0, 1, 0, 0)
    image = nibabel.Nifti1Image(brain().array.T, half_turn)
    image.set_qform(half_turn, 1)
    image.set_sform(half_turn, 1)
    nibabel.save(image, tmp_path / "scan.nii")
    expected = read_grid(tmp_path / "scan.nii")
    damaged(tmp_path / "scan.nii", QUATERNION, longer, 0.0, 0.0)
    assert read_grid(tmp_path / "scan.nii").matches(expected, 1e-3)
    damaged(tmp_path / "scan.nii", QFORM_CODE + 2, 0, order="<h")  # the qform alone
    assert read_volume(tmp_path / "scan.nii").grid.matches(expected, 1e-3)


@pytest.mark.parametrize("quaternion", [(1.5, 0, 0), (float("nan"), 0, 0), (float("inf"), 0, 0)])
def test_a_quaternion_that_is_no_rotation_gives_way_to_a_sound_sform(tmp_path, quaternion):
    expected = read_grid(foreign(tmp_path / "scan.nii"))
    damaged(tmp_path / "scan.nii", QUATERNION, *quaternion)
    assert read_volume(tmp_path / "scan.nii").grid == expected
    damaged(tmp_path / "scan.nii", QFORM_CODE + 2, 0, order="<h")
    assert "damaged qform" in refusal(tmp_path / "scan.nii")


def test_a_sform_of_zeros_gives_way_to_a_sound_qform(tmp_path):
    expected = read_grid(foreign(tmp_path / "scan.nii"))
    damaged(tmp_path / "scan.nii", 280, *[0.0] * 12)
    assert read_grid(tmp_path / "scan.nii").matches(expected, 1e-6)
    damaged(tmp_path / "scan.nii", QFORM_CODE, 0, order="<h")
    assert "maps no volume" in refusal(tmp_path / "scan.nii")


@pytest.mark.parametrize(("handed", "as_if"), [(0.0, 1.0), (3.0, 1.0), (-2.0, -1.0)])
def test_handedness_counts_by_its_sign_and_0_as_1(tmp_path, handed, as_if):
    path = foreign(tmp_path / "scan.nii", codes=(1, 0))
    damaged(path, PIXDIM, as_if)
    expected = read_volume(path)
    damaged(path, PIXDIM, handed)
    assert read_volume(path).grid == expected.grid
    assert expected.same_grid(of_itk(sitk.ReadImage(path)), 1e-4)


@pytest.mark.parametrize("slope", [1e38, float("nan"), float("inf")])
def test_any_slope_is_read_or_refused_without_a_warning(tmp_path, slope, recwarn):
    path = damaged(foreign(tmp_path / "scan.nii"), SLOPE, slope)
    if slope == 1e38:
        assert "NaN or infinite" in refusal(path)
    else:
        np.testing.assert_array_equal(read_volume(path).array, brain().array)
    assert not recwarn.list


# A header without form codes.


@pytest.fixture
def unplaced(tmp_path):
    return foreign(tmp_path / "scan.nii.gz", codes=(0, 0))


def mask_by_itk(scan, path):
    image = sitk.GetImageFromArray(mask().array)
    image.CopyInformation(sitk.ReadImage(scan))
    sitk.WriteImage(image, path)
    return path


def mask_by_nibabel(scan, path):
    nibabel.save(nibabel.Nifti1Image(mask().array.T, nibabel.load(scan).affine), path)
    return path


def mask_with_its_header(scan, path):
    nibabel.save(nibabel.Nifti1Image(mask().array.T, None, nibabel.load(scan).header), path)
    return path


@pytest.mark.parametrize("make", [mask_by_itk, mask_by_nibabel, mask_with_its_header])
@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nrrd"])
def test_a_mask_made_on_a_scan_without_form_codes_lies_on_it(tmp_path, unplaced, make, name):
    path = make(unplaced, tmp_path / "mask.nii.gz")
    if name == "mask.nrrd":
        sitk.WriteImage(sitk.ReadImage(path), tmp_path / name)
    scan, made = read_volume(unplaced), read_mask(tmp_path / name)
    check_same_grid(made, scan, path, unplaced)
    check_same_grid(read_grid(tmp_path / name), read_grid(unplaced), path, unplaced)
    expected = prepare(scan, None, scan.with_array(mask().array), REGION, 32)
    found = prepare(scan, None, made, REGION, 32)
    np.testing.assert_array_equal(found.lesion, expected.lesion)
    np.testing.assert_array_equal(found.intensity, expected.intensity)


def test_modalities_without_form_codes_come_into_one_cube(tmp_path, unplaced):
    scan = read_volume(unplaced)
    stated = Volume(scan.array, scan.spacing_mm, (0.0, 0.0, 0.0), GRID.direction)  # as ITK would write it
    first, second = prepare_modalities([scan, stated], None, [REGION] * 2, 32, [None] * 2)
    np.testing.assert_array_equal(first.intensity, second.intensity)


def test_a_mask_elsewhere_is_refused_whatever_the_scan_states(tmp_path, unplaced):
    moved = Volume.on(Grid(GRID.shape, GRID.spacing_mm, (9.0, 0.0, 0.0), GRID.direction), mask().array)
    save(moved, tmp_path / "mask.nii.gz")
    with pytest.raises(ScanError, match="voxels apart"):
        check_same_grid(read_mask(tmp_path / "mask.nii.gz"), read_volume(unplaced), tmp_path, unplaced)


def test_a_scan_without_form_codes_lies_as_nibabel_has_it(unplaced):
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ nibabel.load(unplaced).affine
    np.testing.assert_allclose(read_grid(unplaced).affine, affine, atol=1e-5)


# Other formats.


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_freesurfer_volumes_are_read(tmp_path, suffix, dtype):
    array = brain().array.astype(dtype)
    nibabel.save(nibabel.MGHImage(array.T, AFFINE), tmp_path / f"scan{suffix}")
    scan = read_volume(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(scan.array, array.astype(np.float32))
    assert scan.grid.matches(read_grid(foreign(tmp_path / "scan.nii")), 1e-4)
    assert read_grid(tmp_path / f"scan{suffix}") == scan.grid


def test_a_freesurfer_volume_that_states_no_place_or_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "scan.mgh"
    nibabel.save(nibabel.MGHImage(brain().array.T, AFFINE), path)
    content = path.read_bytes()
    damaged(path, 28, 0, order=">h")
    assert "mri_convert" in refusal(path)
    path.write_bytes(content[:-5000])
    assert "cut off" in refusal(path)


def test_a_pair_of_nifti_is_read(tmp_path):
    path = foreign(tmp_path / "scan.hdr", nibabel.Nifti1Pair)
    scan = read_volume(path)
    np.testing.assert_array_equal(scan.array, brain().array)
    assert scan.grid == read_grid(foreign(tmp_path / "scan.nii"))
    before = content_sha256([path])
    damaged(tmp_path / "scan.img", 5000, 7.0)
    assert content_sha256([path]) != before
    assert "scan.hdr" in refusal(tmp_path / "scan.img")
    write_volume(mask(scan.grid), tmp_path / "mask.nii.gz", like=path)
    assert nibabel.load(tmp_path / "mask.nii.gz").header["sform_code"] == 2
    (tmp_path / "scan.img").unlink()
    assert "scan.img" in refusal(path)


def test_analyze_is_refused_with_what_converts_it(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(brain().array.T, np.eye(4)), tmp_path / "scan.hdr")
    assert "left from right; convert it" in refusal(tmp_path / "scan.hdr")


def test_dicom_of_several_frames_is_refused_with_what_converts_it(tmp_path):
    image = brain().with_array(brain().array.astype(np.uint16)).to_itk()
    (tmp_path / "series").mkdir()
    sitk.WriteImage(image, tmp_path / "series" / "enhanced.dcm")
    assert "30 frames" in refusal(tmp_path / "series")
    assert "dcm2niix" in refusal(tmp_path / "series", read_grid)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_colours_vectors_and_complex_numbers_are_called_what_they_are(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    for channels, dtype, what in [(3, np.uint8, "RGB colours"), (4, np.uint8, "RGBA"), (3, np.float32, "vectors (3")]:
        image = sitk.GetImageFromArray(np.zeros((5, 6, 7, channels), dtype), isVector=True)
        sitk.WriteImage(image, path)
        assert what in refusal(path)
    for kind, what in [(np.complex64, "complex"), ([("R", "u1"), ("G", "u1"), ("B", "u1")], "RGB colours")]:
        nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), kind), np.eye(4)), tmp_path / "scan.nii.gz")
        assert what in refusal(tmp_path / "scan.nii.gz")


# Masks, names, and what is said.


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_negative_label_is_refused(tmp_path, dtype, suffix):
    labels = mask().array.astype(dtype)
    labels[0, 0, 0] = -1
    path = save(brain().with_array(labels), tmp_path / f"labels{suffix}")
    assert "the label -1" in refusal(path, read_mask)
    assert "the label -1" in refusal(path, lambda one: read_masks(one, [(1,), (2,)]))


@pytest.fixture
def strange(tmp_path):
    """A name of bytes that are not UTF-8."""
    return tmp_path / os.fsdecode(b"caf\xe9")


def test_nifti_of_any_name_is_read(strange):
    for suffix in (".nii.gz", ".nii"):
        path = strange.with_name(strange.name + suffix)
        foreign(path.with_name("scan" + suffix)).rename(path)
        np.testing.assert_array_equal(read_volume(path).array, brain().array)
        write_volume(mask(read_grid(path)), path.with_name(strange.name + "_mask.nii.gz"), like=path)
        assert len(content_sha256([path])) == 64


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".mgz"])
def test_a_sentence_about_any_name_can_be_printed(strange, suffix):
    path = strange.with_name(strange.name + suffix)
    path.write_bytes(b"NRRD0004\ntype: float\n\n")
    sentence = refusal(path)
    assert r"caf\xe9" in sentence
    sentence.encode("utf-8")


def test_a_series_in_a_folder_of_any_name_is_refused_in_a_sentence(strange):
    save_dicom(brain(Grid((4, 7, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), GRID.direction)), strange.parent / "series")
    (strange.parent / "series").rename(strange)
    assert "not UTF-8" in refusal(strange)


def test_a_volume_is_written_under_any_name(strange):
    path = strange.with_name(strange.name + ".nrrd")
    write_volume(brain(), path)
    assert list(strange.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("scan.nii", "scan.nii"),
        ("Schädel-头.nii", "Schädel-头.nii"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("two\nlines\x1b[31m", r"two\nlines\x1b[31m"),
        ("\ud800\u202e", r"\ud800\u202e"),
    ],
)
def test_a_name_is_shown_as_it_is_or_escaped(text, shown):
    assert printable(text) == shown
    assert str(ScanError(text)) == shown


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "scan.nrrd")
    assert "no file" in refusal(tmp_path / "scan.nrrd")
    (tmp_path / "scan.nhdr").write_text("NRRD0004\ndata file: /dev/zero\n\n", encoding="utf-8")
    assert "not there" in refusal(tmp_path / "scan.nhdr")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300 + ".nii"))


def test_an_roi_too_thin_for_the_cube_is_told_as_such():
    lattice = np.zeros((96, 96, 96), np.float32)
    lattice[1:95:3, 10:80:3, 1:95] = 5
    lattice[10:80:3, 1:95, 1:95:3] = 7
    scan = Volume(lattice, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), GRID.direction)
    with pytest.raises(ScanError, match="thinner than a voxel") as caught:
        prepare(scan, None, None, REGION, 16)
    assert "lesion" not in str(caught.value)


def test_lesions_that_fill_the_roi_are_told_as_such():
    inside = brain().with_array(ellipsoid(GRID.shape).astype(np.uint8))
    with pytest.raises(ScanError, match="its lesions leave nothing of the ROI"):
        prepare(brain(), inside, inside.with_array(np.ones(GRID.shape, np.uint8)), REGION, 32)
