"""Brain masks of scans that wear their skull: made by a command that the user names, checked, and kept.

A mask is kept under a digest of the scan's bytes and of the command, whatever the scan is called: a second run, or
another dataset with the same scan, does not make it again.
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from scans.catalog.mask_command import MASK, SCAN, words_of
from scans.durable import sha256, write_bytes, write_text
from scans.errors import CatalogError, ScanError
from scans.file_names import in_utf8
from scans.formats.files import content_sha256
from scans.image.volume import (
    READ_SUFFIXES,
    Volume,
    check_same_grid,
    read_grid,
    read_mask,
    read_volume,
    write_volume,
)
from scans.writing import make_folder

_LEAST_ML, _MOST_ML = 100, 2500  # from a brain before birth to more than the largest: of people
_LONGEST_S = 4 * 3600  # a network on one core may take half an hour
_MOST_SAID = 200  # letters of what a command said last


def check_program(command: str | None) -> None:
    """Stop if the program of a command is not on this machine, before any scan is read.

    Raises
    ------
    CatalogError
    """
    if command and shutil.which(program := words_of(command)[0]) is None:
        raise CatalogError(
            f"brain masks are to be made with {program}, and there is no such program on this machine; install it, "
            "or write its whole path"
        )


def is_needed(command: str | None, rois: Iterable[Path | None]) -> bool:
    """Tell whether a command has masks to make: for a scan without an ROI mask.

    Parameters
    ----------
    command : str or None
        None: none is to be run.
    rois : iterable of Path or None
        One a scan.
    """
    return bool(command) and any(roi is None for roi in rois)


def kept_mask(scan: Path, command: str, folder: Path) -> Path | None:
    """Return the mask of a scan that an earlier run made by the same command, None if there is none, or it is damaged.

    Parameters
    ----------
    scan : Path
        A file, or the folder of a DICOM series.
    command : str
    folder : Path
        Where masks are kept.

    Raises
    ------
    ScanError
        If the scan cannot be read.
    """
    return _sound(folder / f"{_digest(scan, command)}.nii.gz")


def brain_mask(scan: Path, command: str, folder: Path) -> Path:
    """Return the brain mask of a scan; make it if it is not kept.

    Parameters
    ----------
    scan : Path
        A file, or the folder of a DICOM series.
    command : str
        See `scans.catalog.mask_command.words_of`. It is run without a shell on a copy of the scan as ``scan.nii.gz``,
        so no name of a file is ever read as an option or a command.
    folder : Path
        Where masks are kept; made if it is not there.

    Returns
    -------
    Path
        A mask of 0 and 1, uint8, on the scan's own voxels.

    Raises
    ------
    ScanError
        If the scan cannot be read, the command fails, or what it wrote is no mask of a brain on the scan's grid.
    WriteError
        If nothing can be written to the folder.
    """
    kept = folder / f"{_digest(scan, command)}.nii.gz"
    if _sound(kept):
        return kept
    make_folder(folder)
    with tempfile.TemporaryDirectory(prefix="brain-mask-") as temporary:
        copy, wanted = Path(temporary) / "scan.nii.gz", Path(temporary) / "out" / "mask.nii.gz"
        wanted.parent.mkdir()
        _copy(scan, copy)
        places = {SCAN: str(copy), MASK: str(wanted)}
        words = [_filled(word, places) for word in words_of(command)]
        _run(words, Path(temporary) / "said.txt", scan)
        mask = _checked(_written(wanted.parent, words[0], scan), words[0], scan)
        made = Path(temporary) / "kept.nii.gz"
        write_volume(mask, made, like=scan)
        content = made.read_bytes()
    record = {
        "scan": in_utf8(scan.name),
        "command": command,
        "volume_ml": round(_ml(mask), 1),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        write_bytes(kept, content)
        write_text(_record(kept), json.dumps(record, indent=1) + "\n")  # last: without it the mask does not count
    except OSError as error:
        raise ScanError(f"{kept} cannot be written ({error.strerror}); choose another --brain-masks") from error
    return kept


def _digest(scan: Path, command: str) -> str:
    return hashlib.sha256(f"{content_sha256([scan])}\n{shlex.join(words_of(command))}".encode()).hexdigest()


def _record(mask: Path) -> Path:
    return mask.with_name(f"{mask.name.removesuffix('.nii.gz')}.json")


def _sound(mask: Path) -> Path | None:
    """Return a kept mask if its bytes are those that were written."""
    try:
        known = json.loads(_record(mask).read_text(encoding="utf-8"))["sha256"]
        return mask if sha256(mask) == known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _copy(scan: Path, copy: Path) -> None:
    """Write a scan of any format as NIfTI, which all tools take, under a name that none misreads."""
    read_grid(scan)  # says what is wrong with a file that no tool should see
    if scan.is_file() and scan.name.lower().endswith(".nii.gz"):
        shutil.copyfile(scan, copy)  # a copy, no link: some tools run in containers that see one folder
    else:
        write_volume(read_volume(scan), copy, like=scan)


def _filled(word: str, places: dict[str, str]) -> str:
    for place, path in places.items():
        word = word.replace(place, path)
    return word


def _run(words: Sequence[str], log: Path, scan: Path) -> None:
    program = Path(words[0]).name
    try:
        with log.open("wb") as said:
            # A session of its own: what the command starts ends with it.
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                code = process.wait(timeout=_LONGEST_S)
            except subprocess.TimeoutExpired as error:
                hours = _LONGEST_S // 3600
                raise ScanError(
                    f"{scan}: {program} made no brain mask in {hours} hours; try it by hand on this scan"
                ) from error
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    except OSError as error:
        raise ScanError(
            f"{scan}: {words[0]}, which is to make its brain mask, cannot be run ({error.strerror}); "
            "install it, or write its whole path"
        ) from error
    if code < 0:
        raise ScanError(
            f"{scan}: {program} was killed ({signal.Signals(-code).name}) before its brain mask was made; "
            "if memory was short, start fewer workers"
        )
    if code:
        last = f"it said: {last}" if (last := _last_line(log)) else "it said nothing"
        raise ScanError(f"{scan}: {program} made no brain mask and ended with exit code {code}; {last}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:_MOST_SAID] if said else ""


def _written(folder: Path, program: str, scan: Path) -> Path:
    """Return the file that the command wrote: the one asked for, or, as some tools name their masks, the only one."""
    if (asked := folder / "mask.nii.gz").is_file():
        return asked
    files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(READ_SUFFIXES))
    if len(files) == 1:
        return files[0]
    name = Path(program).name
    if not files:
        raise ScanError(f"{scan}: {name} ended well, but wrote no brain mask; check where {MASK} stands in the command")
    told = ", ".join(path.name for path in files)
    raise ScanError(f"{scan}: {name} wrote {told}, and which is the brain mask is not clear; ask it for the mask alone")


def _checked(written: Path, program: str, scan: Path) -> Volume:
    """Return what a command wrote as a mask on the scan's own grid."""
    name = Path(program).name
    try:
        mask = read_mask(written, kind="brain mask")
    except ScanError as error:
        told = str(error).replace(str(written), "its file")
        raise ScanError(f"{scan}: what {name} wrote is no brain mask: {told}") from error
    grid = read_grid(scan)
    check_same_grid(mask, grid, Path(f"the brain mask that {name} made"), scan)
    mask = Volume.on(grid, mask.array)
    volume = _ml(mask)
    if not volume:
        raise ScanError(f"{scan}: the brain mask that {name} made is empty; give a mask of your own for this scan")
    if not _LEAST_ML <= volume <= _MOST_ML:
        raise ScanError(
            f"{scan}: the brain mask that {name} made has {volume:.0f} ml, and brains have {_LEAST_ML} to "
            f"{_MOST_ML} ml; look at it, or give a mask of your own for this scan"
        )
    return mask


def _ml(mask: Volume) -> float:
    return float(mask.array.sum(dtype="int64")) * mask.grid.voxel_mm3 / 1000
