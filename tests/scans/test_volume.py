import gzip
import tracemalloc

import nibabel
import numpy as np
import pytest

from scans.errors import ScanError
from scans.image.grid import Grid
from scans.image.volume import Volume, check_same_grid, read_grid, read_mask, read_volume, write_volume
from tests.made.scan_files import GRID, brain, mask, of_itk, save, save_dicom, save_nifti


def refusal(path, read=read_volume) -> str:
    with pytest.raises(ScanError) as caught:
        read(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    scan = brain()
    path = save(scan, tmp_path / f"scan{suffix}")
    again = read_volume(path)
    np.testing.assert_array_equal(again.array, scan.array)
    assert again.same_grid(scan, tolerance=1e-4)
    assert again.array.dtype == np.float32
    assert read_grid(path).matches(scan.grid, 1e-4)
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "no temporary file is left"


def test_oblique_and_flipped_geometry_survives_a_file(tmp_path):
    c, s = np.cos(0.3), np.sin(0.3)
    for name, direction in {"oblique": (c, -s, 0, s, c, 0, 0, 0, 1), "flipped": (-1, 0, 0, 0, 0, 1, 0, 1, 0)}.items():
        scan = brain(Grid(GRID.shape, GRID.spacing_mm, GRID.origin, direction))
        again = read_volume(save(scan, tmp_path / f"{name}.nii.gz"))
        np.testing.assert_allclose(again.grid.affine, scan.grid.affine, atol=1e-4)


def test_real_geometry_is_as_simpleitk_reads_it(dev_data):
    import SimpleITK as sitk

    for path in [*dev_data.glob("brain/normal/*_flair.nii.gz"), *dev_data.glob("liver/*/*_ct.nii.gz")]:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        image = reader.Execute()
        scan = read_volume(path)
        assert scan.same_grid(of_itk(image), tolerance=1e-2)
        np.testing.assert_allclose(scan.array, sitk.GetArrayViewFromImage(image), rtol=1e-6)


def test_singleton_fourth_axis_is_dropped(tmp_path):
    array = np.random.default_rng(0).random((8, 9, 10, 1)).astype(np.float32)
    assert read_volume(save_nifti(array, tmp_path / "scan.nii.gz")).array.shape == (10, 9, 8)


def test_header_scaling_is_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(1000, dtype=np.int16).reshape(10, 10, 10), np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    image.to_filename(tmp_path / "ct.nii.gz")
    assert read_volume(tmp_path / "ct.nii.gz").array[0, 0, :2].tolist() == pytest.approx(
        nibabel.load(tmp_path / "ct.nii.gz").get_fdata()[:2, 0, 0].tolist()
    )


def test_big_endian_is_read(tmp_path):
    array = np.arange(1000, dtype=">i2").reshape(10, 10, 10)
    nibabel.Nifti1Image(array, np.eye(4), nibabel.Nifti1Header(endianness=">")).to_filename(tmp_path / "big.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "big.nii").array, array.T)


@pytest.mark.parametrize("share", [0.5, 0.999])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_truncated_file_is_refused(tmp_path, suffix, share):
    path = save(brain(), tmp_path / f"scan{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "again" in refusal(path)


def test_a_packed_header_that_claims_more_than_gzip_can_have_packed_is_refused_before_there_is_room_for_it(tmp_path):
    path = save(brain(), tmp_path / "scan.nii.gz")
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([1200, 1200, 1200], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content), 1))
    tracemalloc.start()
    assert f"{len(content)} of {352 + 4 * 1200**3} bytes are there" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_missing_gzip_trailer_is_refused(tmp_path):
    path = save(brain(), tmp_path / "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:-5])
    assert "cut off" in refusal(path)


def test_flipped_bit_is_refused(tmp_path):
    path = save(brain(), tmp_path / "scan.nii.gz")
    content = bytearray(path.read_bytes())
    content[-2000] ^= 16
    path.write_bytes(bytes(content))
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("content", [b"hello" * 500, gzip.compress(b"hello" * 500, mtime=0), b""])
def test_garbage_is_refused(tmp_path, content):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    assert "again" in refusal(path)


def test_missing_file_and_unknown_suffix_are_named(tmp_path):
    assert "no such scan" in refusal(tmp_path / "absent.nii.gz")
    (tmp_path / "scan.jpg").write_bytes(b"x")
    assert ".nii.gz" in refusal(tmp_path / "scan.jpg")


@pytest.mark.parametrize("shape", [(8, 9, 10, 3), (8, 9)])
def test_four_and_two_dimensions_are_refused(tmp_path, shape):
    path = save_nifti(np.random.default_rng(0).random(shape).astype(np.float32), tmp_path / "scan.nii.gz")
    assert f"is {len(shape)}D" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_counted(tmp_path, value):
    scan = brain()
    scan.array[3, 4, 5:7] = value
    assert "2 voxels are NaN" in refusal(save(scan, tmp_path / "scan.nii.gz"))


def test_constant_and_tiny_scans_are_refused(tmp_path):
    flat = brain().with_array(np.full(GRID.shape, 7, np.float32))
    assert "every voxel is 7" in refusal(save(flat, tmp_path / "flat.nii.gz"))
    tiny = np.random.default_rng(0).random((20, 20, 3)).astype(np.float32)
    assert "only 20 x 20 x 3" in refusal(save_nifti(tiny, tmp_path / "tiny.nii.gz"))


@pytest.mark.parametrize("spacing", [0.0, -2.0, np.nan])
def test_impossible_spacing_is_refused(tmp_path, spacing):
    path = save(brain(), tmp_path / "scan.nii")
    content = bytearray(path.read_bytes())
    content[80:84] = np.float32(spacing).tobytes()
    path.write_bytes(bytes(content))
    assert "true spacing" in refusal(path)


def test_zero_spacing_in_metaimage_is_refused(tmp_path):
    path = save(brain(), tmp_path / "scan.mha")
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1.2", b"ElementSpacing = 0.0"))
    refusal(path)


def test_axes_not_quite_orthonormal_are_straightened(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[0, 1] = 0.01
    path = save_nifti(np.random.default_rng(0).random((8, 9, 10)).astype(np.float32), tmp_path / "scan.nii.gz", affine)
    scan = read_volume(path)
    direction = np.reshape(scan.direction, (3, 3))
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(scan.spacing_mm, (3, 2, 1), atol=1e-4)
    scan.to_itk()


def test_sheared_axes_are_refused(tmp_path):
    affine = np.eye(4)
    affine[1, 2] = 0.2
    path = save_nifti(np.random.default_rng(0).random((8, 9, 10)).astype(np.float32), tmp_path / "scan.nii.gz", affine)
    assert "right angles" in refusal(path)


def test_disagreeing_qform_and_sform_are_refused(tmp_path):
    image = nibabel.Nifti1Image(np.random.default_rng(0).random((8, 9, 10)).astype(np.float32), np.eye(4))
    moved = np.eye(4)
    moved[0, 3] = 5
    image.set_sform(np.eye(4), 1)
    image.set_qform(moved, 1)
    image.to_filename(tmp_path / "scan.nii.gz")
    assert "5.0 mm apart" in refusal(tmp_path / "scan.nii.gz")


def test_colour_is_refused(tmp_path):
    colour = np.zeros((8, 9, 10), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "one real number" in refusal(save_nifti(colour, tmp_path / "scan.nii.gz"))


def test_labels_become_a_mask(tmp_path):
    labels = brain().with_array((np.arange(np.prod(GRID.shape)).reshape(GRID.shape) % 4).astype(np.uint8))
    path = save(labels, tmp_path / "labels.nii.gz")
    assert read_mask(path).array.mean() == pytest.approx(0.75)
    assert read_mask(path, (2,)).array.mean() == pytest.approx(0.25)
    assert read_mask(path, (9,)).array.sum() == 0


def test_whole_float_labels_are_accepted_and_shares_refused(tmp_path):
    labels = mask().array.astype(np.float32) * 2
    assert read_mask(save(brain().with_array(labels), tmp_path / "f.nii.gz"), (2,)).array.sum() == mask().array.sum()
    assert "whole numbers" in refusal(save(brain().with_array(labels * 0.3), tmp_path / "p.nii.gz"), read_mask)


def test_masks_on_another_grid_are_refused(tmp_path):
    scan = brain()
    moved = Volume.on(Grid(GRID.shape, GRID.spacing_mm, (0.0, 10.0, 5.0), GRID.direction), mask().array)
    smaller = scan.with_array(mask().array[1:])
    for other, difference in ((moved, "20.0 voxels apart"), (smaller, "32 x 36 x 29 voxels against 32 x 36 x 30")):
        with pytest.raises(ScanError, match=difference):
            check_same_grid(other, scan, tmp_path / "mask.nii.gz", tmp_path / "scan.nii.gz")


def test_dicom_series_is_read_in_hounsfield_units(tmp_path):
    c, s = np.cos(0.1), np.sin(0.1)
    grid = Grid((12, 16, 14), (2.5, 0.8, 0.8), (1.0, 2.0, 3.0), (1, 0, 0, 0, c, -s, 0, s, c))
    scan = brain(grid)
    scan = scan.with_array(np.rint(scan.array) - 50)
    folder = save_dicom(scan, tmp_path / "series")
    again = read_volume(folder)
    np.testing.assert_array_equal(again.array, scan.array)
    assert again.same_grid(scan, tolerance=0.01)
    assert read_grid(folder).matches(scan.grid, 0.01)


def test_dicom_series_with_a_hole_or_company_is_refused(tmp_path):
    scan = brain(Grid((12, 16, 14), (2.5, 0.8, 0.8), (1.0, 2.0, 3.0), GRID.direction))
    assert "missing" in refusal(save_dicom(scan, tmp_path / "hole", skip=(5,)))
    save_dicom(scan, tmp_path / "two")
    assert "2 DICOM series" in refusal(save_dicom(scan, tmp_path / "two", series="2"))
    (tmp_path / "none").mkdir()
    assert "no DICOM series" in refusal(tmp_path / "none")


def test_write_that_fails_leaves_nothing(tmp_path):
    for path in (tmp_path / "absent" / "scan.nii.gz", tmp_path / "scan.jpg"):
        with pytest.raises(ScanError):
            write_volume(brain(), path)
    assert list(tmp_path.iterdir()) == []
