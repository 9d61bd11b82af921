"""Which files an image is made of: all of them decide whether a result still belongs to it."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from scans.durable import sha256
from scans.errors import ScanError
from scans.formats.files import content_sha256, files_of
from scans.image.grid import Grid
from tests.made.scan_files import GRID, brain, save, save_dicom

SMALL = Grid((6, 7, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), GRID.direction)
META = "ObjectType = Image\nNDims = 3\nDimSize = 8 7 6\nElementType = MET_FLOAT\nElementDataFile = {}\n"
NRRD = "NRRD0004\ntype: float\ndimension: 3\nsizes: 8 7 6\nencoding: raw\nendian: little\n{}\n"


@pytest.fixture
def slices(tmp_path):
    """Six files of one slice each; what they hold is not looked at."""
    voxels = np.arange(6 * 7 * 8, dtype="<f4").reshape(6, 7, 8)
    paths = []
    for number, one in enumerate(voxels, 1):
        paths.append(tmp_path / f"slice{number:03d}.raw")
        paths[-1].write_bytes(one.tobytes())
    (tmp_path / "whole.bin").write_bytes(voxels.tobytes())
    return paths


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_scan_with_attached_voxels_is_its_own_file(tmp_path, suffix):
    path = save(brain(), tmp_path / f"scan{suffix}")
    assert files_of(path) == (path,)
    assert content_sha256([path]) == sha256(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mhd", META.format("LIST\n" + "\n".join(f"slice{n:03d}.raw" for n in range(1, 7)))),
        ("a.mhd", META.format("LIST 2D\n" + "\n".join(f"slice{n:03d}.raw" for n in range(1, 7)) + "\n")),
        ("a.mhd", META.format("slice%03d.raw 1 6 1")),
        ("a.mhd", META.format("slice%03d.raw")),
        ("a.nhdr", NRRD.format("data file: slice%03d.raw 1 6 1 2")),
        ("a.nhdr", NRRD.format("datafile: LIST 2\n" + "\n".join(f"slice{n:03d}.raw" for n in range(1, 7)))),
    ],
)
def test_every_data_file_of_a_header_counts(tmp_path, slices, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert files_of(path) == (path, *slices)
    # Software that reads these files reads the same ones.
    assert sitk.GetArrayFromImage(sitk.ReadImage(path)).ravel().tolist() == list(range(336))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mhd", META.format("whole.bin")),
        ("a.mha", META.format("whole.bin")),
        ("a.nhdr", NRRD.format("data file: whole.bin")),
        ("a.nhdr", NRRD.format("datafile: ./whole.bin\n")),
        ("a.nrrd", NRRD.format("data file: whole.bin")),
    ],
)
def test_a_data_file_of_any_name_counts(tmp_path, slices, name, text):
    path, voxels = tmp_path / name, tmp_path / "whole.bin"
    path.write_text(text, encoding="utf-8")
    assert [file.resolve() for file in files_of(path)] == [path, voxels]
    before = content_sha256([path])
    changed = bytearray(voxels.read_bytes())
    changed[100] ^= 1
    voxels.write_bytes(changed)
    assert content_sha256([path]) != before


@pytest.mark.parametrize("data", ["absent.raw", "LIST\nslice001.raw\nabsent.raw", "absent%02d.raw 1 6 1"])
@pytest.mark.parametrize(("name", "text"), [("a.mhd", META), ("a.nhdr", NRRD.replace("{}", "data file: {}"))])
def test_a_missing_data_file_is_named(tmp_path, slices, name, text, data):
    path = tmp_path / name
    path.write_text(text.format(data), encoding="utf-8")
    with pytest.raises(ScanError, match=r"absent.*is not there; copy"):
        files_of(path)


def test_a_pair_is_two_files(tmp_path):
    (tmp_path / "scan.hdr").write_bytes(b"header")
    with pytest.raises(ScanError, match=r"no scan\.img beside it"):
        files_of(tmp_path / "scan.hdr")
    (tmp_path / "scan.img").write_bytes(b"voxels")
    assert files_of(tmp_path / "scan.hdr") == (tmp_path / "scan.hdr", tmp_path / "scan.img")


def test_a_series_is_its_slices(tmp_path):
    folder = save_dicom(brain(SMALL), tmp_path / "series")
    (folder / "notes.txt").write_text("not a slice", encoding="utf-8")
    assert files_of(folder) == tuple(sorted(folder.glob("*.dcm")))


def test_the_digest_does_not_depend_on_folder_or_names(tmp_path, slices):
    (tmp_path / "a.mhd").write_text(META.format("LIST\nslice001.raw"), encoding="utf-8")
    shutil.copytree(tmp_path, tmp_path / "again")
    assert content_sha256([tmp_path / "a.mhd"]) == content_sha256([tmp_path / "again" / "a.mhd"])
    one, two = slices[:2]
    assert content_sha256([one, two]) != content_sha256([two, one])
