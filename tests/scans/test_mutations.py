"""Whatever happened to a header, reading ends in a volume or in one sentence: silent, and small in memory.

MUTATIONS sets how many headers of each format are tried.
"""

import gzip
import os
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scans.errors import ScanError
from scans.formats.files import content_sha256
from scans.image.grid import Grid
from scans.image.volume import read_grid, read_mask, read_volume
from tests.made.scan_files import GRID, brain, save_dicom

TRIED = int(os.environ.get("MUTATIONS", "150"))
MOST_MEMORY = 2**25  # bytes beyond what the process held, for files of some kilobytes
SMALL = Grid((6, 7, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), GRID.direction)

NUMBERS = [float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 1e38, -1e-30, 1.0000003, 3.5]
WHOLE = [-1, 0, 1, 2, 127, 255, 32767, -32768, 2**31 - 1, 2**20]
BINARY = [
    *(struct.pack(f"{order}{kind}", number) for order in "<>" for kind in "fd" for number in NUMBERS),
    *(struct.pack(f"{order}q", number)[:size] for order in "<>" for size in (2, 4, 8) for number in WHOLE),
    b"\xff" * 4,
    b"\0" * 8,
]
WORDS = [
    *("-1", "0", "1", "3", "4", "nan", "inf", "-inf", "1e38", "1e-40", "2147483647", "99999999999999999999"),
    *("LOCAL", "LIST", "%", "%d", "%999d", "x%03d.raw", "/dev/zero", "..", "absent.raw", "a.raw"),
    *("raw", "gzip", "bzip2", "hex", "ascii", "True", "False", "none", "little", "caf\xe9", "\0", "::", "=", "#"),
    *("MET_UCHAR", "MET_DOUBLE", "MET_FLOAT_ARRAY", "MET_OTHER", "double", "block", "int8"),
    *("(0,0,0)", "(nan,1,0)", "(1,0,0)", "left-posterior-superior", "3D-right-handed"),
]


@st.composite
def mutated(draw, content: bytes, header: int, text: bool) -> bytes:
    """Return a file whose header was changed in one to four places, or that was cut."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, header - 1))
        kind = draw(st.sampled_from(["word"] * 4 * text + ["value"] * 3 + ["bytes", "insert", "remove", "cut"]))
        if kind == "word" and (tokens := list(re.finditer(rb"[^\s,()]+", content[:header]))):
            token = tokens[at % len(tokens)]
            content = content[: token.start()] + draw(st.sampled_from(WORDS)).encode("latin-1") + content[token.end() :]
        elif kind == "value":
            value = draw(st.sampled_from(BINARY))
            at -= 0 if text else at % 2
            content = content[:at] + value + content[at + len(value) :]
        elif kind == "bytes":
            value = draw(st.binary(min_size=1, max_size=8))
            content = content[:at] + value + content[at + len(value) :]
        elif kind == "insert":
            content = content[:at] + draw(st.binary(min_size=1, max_size=16)) + content[at:]
        elif kind == "remove":
            content = content[:at] + content[at + draw(st.integers(1, 64)) :]
        elif kind == "cut" and draw(st.integers(0, 3)) == 0:
            content = content[: draw(st.integers(0, len(content)))]
    return content


def nifti(kind: type, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image = kind(brain(SMALL).array.T, np.diag([-1.0, 1.0, 1.0, 1.0]))
        image.set_qform(image.affine, 1)
        image.set_sform(image.affine, 1)
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 100))
        nibabel.save(image, folder / name)
        return folder / name

    return make


def mgh(folder: Path) -> Path:
    nibabel.save(nibabel.MGHImage(brain(SMALL).array.T, np.diag([-1.0, 1.0, 1.0, 1.0])), folder / "a.mgh")
    return folder / "a.mgh"


def by_itk(name: str, compress: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        sitk.WriteImage(brain(SMALL).to_itk(), folder / name, compress)
        return folder / name

    return make


def a_slice(folder: Path) -> Path:
    """Return one file of a series of four."""
    scan = brain(Grid((4, 7, 8), SMALL.spacing_mm, SMALL.origin, SMALL.direction))
    return sorted(save_dicom(scan, folder / "series").iterdir())[1]


FORMATS = {  # how to make a file, and the bytes of a binary header
    "nifti1": (nifti(nibabel.Nifti1Image, "a.nii"), 470),
    "nifti1-gzip": (nifti(nibabel.Nifti1Image, "a.nii.gz"), 470),
    "nifti2": (nifti(nibabel.Nifti2Image, "a.nii"), 660),
    "nifti-pair": (nifti(nibabel.Nifti1Pair, "a.hdr"), 352),
    "mgh": (mgh, 284),
    "nrrd": (by_itk("a.nrrd"), None),
    "nrrd-gzip": (by_itk("a.nrrd", True), None),
    "nrrd-detached": (by_itk("a.nhdr"), None),
    "metaimage": (by_itk("a.mha"), None),
    "metaimage-zlib": (by_itk("a.mha", True), None),
    "metaimage-detached": (by_itk("a.mhd"), None),
    "dicom": (a_slice, 780),
}


def text_header(content: bytes) -> int:
    """Return the bytes of a header that is text."""
    return min(content.find(mark) + len(mark) for mark in (b"\n\n", b"LOCAL\n", b".raw\n") if mark in content)


def peak() -> int:
    """Return the most memory this process held since `forget_peak`, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_header_is_read_or_refused_in_a_sentence(tmp_path, capfd, name):
    make, header = FORMATS[name]
    path = make(tmp_path)
    whole = path.read_bytes()
    packed = path.suffix == ".gz"
    if packed:  # the header inside is damaged; damage of the packing is another test's
        whole = gzip.decompress(whole)
    scan = path.parent if name == "dicom" else path
    read_volume(scan)
    outcomes = {"read": 0, "refused": 0}

    @settings(
        max_examples=TRIED, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(mutated(whole, header or text_header(whole), header is None))
    def check(content):
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        before, sentences = forget_peak(), []
        for read in (read_grid, read_volume, read_mask, lambda one: content_sha256([one])):
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                try:
                    read(scan)
                    outcomes["read"] += 1
                except ScanError as error:
                    outcomes["refused"] += 1
                    sentences.append(str(error))
            assert not warned
        assert "\n" not in "".join(sentences)
        "".join(sentences).encode()  # any terminal can print it
        assert peak() - before < MOST_MEMORY
        assert capfd.readouterr() == ("", "")

    check()
    assert min(outcomes.values()) > 0
    if "MUTATIONS" in os.environ:
        with capfd.disabled():
            print(f"\n{name}: {TRIED} mutated headers, {outcomes['read']} reads, {outcomes['refused']} refusals")
