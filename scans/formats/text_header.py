"""The text that NRRD and MetaImage files begin with: its fields, and the files in which it says the voxels are.

SimpleITK tells neither. Both are needed before it reads: a result belongs to the bytes of all files of an image,
and a header that claims more voxels than there are must not be believed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scans.errors import ScanError

_MOST_BYTES = 2**22  # of a header; the longest known have some hundred thousand, of diffusion gradients
_NUMBERED = re.compile(r"%0?\d{0,2}d")


@dataclass(frozen=True)
class TextHeader:
    """A header of NRRD or MetaImage.

    Attributes
    ----------
    form : {"NRRD", "MetaImage"}
    fields : dict of str to str
        By name, in small letters; the first of a name counts.
    offset : int
        Bytes before the first voxel, where the voxels are attached.
    names : tuple of Path
        The files the voxels are in, where they are not attached.
    """

    form: str
    fields: dict[str, str]
    offset: int
    names: tuple[Path, ...]


def read_text_header(path: Path) -> TextHeader:
    """Read the header of an NRRD or MetaImage file.

    Raises
    ------
    ScanError
        If it is no such header, has no end, or names files that are not there.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_MOST_BYTES)
    form = "NRRD" if head.startswith(b"NRRD") else "MetaImage"
    separator = rb":(?!=)" if form == "NRRD" else rb"[=:]"
    fields: dict[str, str] = {}
    data_file, at = "", 0
    for line in head.splitlines(keepends=True):
        at += len(line)
        if form == "NRRD" and at > len(line) and not line.strip():
            break
        key, found, value = _split(line, separator)
        if found and key not in fields:
            fields[key] = value
        if found and key in ("elementdatafile", "data file", "datafile"):
            data_file = value
            if form == "MetaImage" or value.startswith("LIST"):
                break
    else:
        # The header of NRRD files without attached voxels may end with its file.
        if not (form == "NRRD" and data_file):
            raise ScanError(f"{path} has no whole {form} header; export it again, or give it the suffix of what it is")
    attached = not data_file or (form == "MetaImage" and data_file.upper() == "LOCAL")
    names = () if attached else tuple(_named(path, data_file, head[at:], fields))
    return TextHeader(form, fields, at, names)


def _split(line: bytes, separator: bytes) -> tuple[str, bool, str]:
    if line.startswith(b"#"):
        return "", False, ""
    parts = re.split(separator, line, maxsplit=1)
    if len(parts) < 2:
        return "", False, ""
    # Names of files are bytes; those that are not UTF-8 must still be found.
    key, value = (part.decode("utf-8", "surrogateescape").strip() for part in parts)
    return key.lower(), True, value


def _named(path: Path, data_file: str, rest: bytes, fields: dict[str, str]) -> Iterator[Path]:
    """Yield the files a header names, as one name, a list on lines of its own, or a numbered pattern."""
    if data_file.split()[0] == "LIST":
        names: Iterator[str] = (line.decode("utf-8", "surrogateescape").strip() for line in rest.splitlines())
    elif _NUMBERED.search(data_file):
        names = _numbered(path, data_file, fields)
    else:
        names = iter([data_file])
    found = False
    for name in filter(None, names):
        file = path.parent / name
        if "\0" in name or not file.is_file():
            raise ScanError(f"{path} names {file}, which is not there; copy the header's data files along with it")
        found = True
        yield file
    if not found:
        raise ScanError(f"{path} names no file with its voxels; export it again")


def _numbered(path: Path, data_file: str, fields: dict[str, str]) -> Iterator[str]:
    pattern, *numbers = data_file.split()
    try:
        before, form, after = re.split(f"({_NUMBERED.pattern})", pattern, maxsplit=1)
        bounds = [int(number) for number in numbers[:3]]
        if len(bounds) < 2:  # MetaImage: from 1, or from the number given, one file a slice
            first = bounds[0] if bounds else 1
            bounds = [first, first + int(fields["dimsize"].split()[-1]) - 1]
        first, last, step = (*bounds, 1)[:3]
        for number in range(first, last + (1 if step > 0 else -1), step):
            yield "".join((before, form % number, after))
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise ScanError(f"{path} names its data files in a way that makes no sense; export it again") from error
