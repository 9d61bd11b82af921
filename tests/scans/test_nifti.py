"""NIfTI as it is written: other software reads it alike, and a full disk is an error."""

import gzip
import resource

import numpy as np
import pytest
import SimpleITK as sitk

from scans.errors import ScanError
from scans.image.grid import Grid
from scans.image.nifti_bytes import nifti_bytes
from scans.image.volume import write_volume
from tests.made.scan_files import brain, mask

# Axes at no right angle to the scanner's, one of them flipped.
TILTED = Grid((30, 36, 32), (1.5, 1.0, 1.2), (-20.0, 10.0, 5.0), (0.96, -0.28, 0, 0.28, 0.96, 0, 0, 0, -1))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "float32", "float64"])
def test_a_written_scan_is_read_alike_by_other_software(tmp_path, suffix, dtype):
    array = brain(TILTED).array.astype(dtype)
    path = tmp_path / f"scan{suffix}"
    write_volume(brain(TILTED).with_array(array), path)
    image = sitk.ReadImage(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    np.testing.assert_allclose(image.GetOrigin(), TILTED.origin, atol=1e-4)
    np.testing.assert_allclose(image.GetSpacing(), TILTED.spacing_mm[::-1], rtol=1e-6)
    np.testing.assert_allclose(image.GetDirection(), TILTED.direction, atol=1e-6)


def test_a_boolean_mask_is_written_as_numbers(tmp_path):
    lesion = mask(TILTED)
    write_volume(lesion.with_array(lesion.array > 0), tmp_path / "mask.nii.gz")
    again = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "mask.nii.gz"))
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, lesion.array)


@pytest.mark.parametrize("quick", [False, True])
def test_a_scan_gives_the_same_bytes_whenever_it_is_written(quick):
    scan = brain(TILTED)
    packed = nifti_bytes(scan.array, scan.grid, compress=True, quick=quick)
    assert packed == nifti_bytes(scan.array, scan.grid, compress=True, quick=quick)
    assert gzip.decompress(packed) == nifti_bytes(scan.array, scan.grid, compress=False)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_disk_that_refuses_is_an_error_and_leaves_nothing(tmp_path, suffix):
    """A limit on the size of files stands in for a full disk: writing fails with an error of the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(ScanError, match="cannot be written"):
            write_volume(brain(), tmp_path / f"scan{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
