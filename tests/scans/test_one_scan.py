import gzip

import pytest

from scans.errors import CatalogError, ScanError
from scans.one_scan import one_scan


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("w2 should be positive,\n but is -1"), r"ValueError: w2 should be positive, but is -1"),
        (OverflowError("cannot convert float infinity to integer"), "OverflowError"),
        (KeyError(), r"a\.nii cannot be used \(KeyError\)"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (RuntimeError("Failed to allocate memory for image."), "not enough memory"),
        (
            PermissionError(13, "Permission denied", "b.img"),
            r"b\.img cannot be read \(Permission denied\); check the file",
        ),
        (gzip.BadGzipFile("Not a gzipped file"), r"a\.nii cannot be used \(BadGzipFile: Not a gzipped file\); copy"),
    ],
)
def test_whatever_goes_wrong_with_a_scan_is_one_sentence_that_names_it(error, said):
    with pytest.raises(ScanError, match=said) as told, one_scan("a.nii"):
        raise error
    assert "\n" not in str(told.value)
    assert "a.nii" in str(told.value) or getattr(error, "filename", None) in str(told.value)
    assert told.value.__cause__ is error, "who looks for the fault finds it"


def test_a_message_of_thousands_of_letters_is_cut():
    with pytest.raises(ScanError) as told, one_scan("a.nii"):
        raise ValueError("x" * 10_000)
    assert len(str(told.value)) < 400


def test_what_is_a_sentence_already_passes_as_it_is():
    with pytest.raises(CatalogError, match=r"^give one$"), one_scan("a.nii"):
        raise CatalogError("give one")


def test_a_stop_by_the_user_stops():
    with pytest.raises(KeyboardInterrupt), one_scan("a.nii"):
        raise KeyboardInterrupt
