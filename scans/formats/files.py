"""Which files an image is made of, and one digest over their bytes."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from scans.durable import sha256
from scans.errors import ScanError
from scans.formats.nifti import voxels_of_pair
from scans.formats.series import series_files
from scans.formats.text_header import read_text_header
from scans.one_scan import why_not_used

_TEXT_HEADERS = (".mha", ".mhd", ".nrrd", ".nhdr")


def files_of(path: Path) -> tuple[Path, ...]:
    """Return all files a scan or mask is made of, in the order in which they are read.

    Parameters
    ----------
    path : Path
        A file, or a folder with one DICOM series.

    Returns
    -------
    tuple of Path
        The header first. ``.mhd`` and ``.nhdr``, and ``.mha`` and ``.nrrd`` where they say so, with every data file
        they name; ``.hdr`` with its ``.img``; a folder: the slices of its series; any other file: itself.

    Raises
    ------
    ScanError
        If one of them is missing, or the header that should name them is damaged.
    """
    try:
        if path.is_dir():
            return tuple(series_files(path))
        if not path.is_file():
            raise ScanError(f"{path}: no such file; check the path")
        name = path.name.lower()
        if name.endswith(_TEXT_HEADERS):
            return (path, *read_text_header(path).names)
        if name.endswith(".hdr"):
            return (path, voxels_of_pair(path))
    except OSError as error:
        raise ScanError(why_not_used(path, error)) from error
    return (path,)


def content_sha256(paths: Iterable[Path]) -> str:
    """Return a digest over the bytes of all files that some scans or masks are made of; names and places do not count.

    Parameters
    ----------
    paths : iterable of Path
        Files, and folders with one DICOM series.

    Returns
    -------
    str
        Hexadecimal digits; of one image in one file, that file's own SHA-256.

    Raises
    ------
    ScanError
        As `files_of`, or if a file cannot be read.
    """
    images = [[_sha256(file) for file in files_of(path)] for path in paths]
    if len(images) == 1 and len(images[0]) == 1:
        return images[0][0]
    # Lengths are written too: a file must not pass from one image to the next unseen.
    return hashlib.sha256("".join(f"{len(each)} {' '.join(each)}\n" for each in images).encode()).hexdigest()


def _sha256(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise ScanError(why_not_used(file, error)) from error
