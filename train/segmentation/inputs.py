"""What to segment: scans named one by one, or found in folders, each with all its modalities and its ROI mask."""

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scans.errors import printable
from scans.file_names import in_utf8, nowhere
from scans.image.cases import expression_of, folder_of_case, is_lost_folder
from train.inference.model import wanted
from train.segmentation.search import counted, listed, search, stem
from train.settings import SettingsError

CASE = "{case}"


@dataclass(frozen=True)
class Input:
    """One scan to segment.

    Attributes
    ----------
    case : str
        Names what is written for it, ``OUT/CASE_mask.nii.gz``; a slash stands for a folder. UTF-8 alone.
    scans : tuple of Path
        One a modality, in the network's order: a file, or the folder of a DICOM series.
    roi : Path or None
    problem : str
        Why its files cannot be told, in a sentence; empty if they can.
    """

    case: str
    scans: tuple[Path, ...]
    roi: Path | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """How a user would name it: the paths of its modalities."""
        return printable(",".join(map(str, self.scans)) or self.case)


def find_inputs(
    given: Sequence[str | Path],
    modalities: Sequence[str],
    out: Path,
    *,
    patterns: Sequence[str] = (),
    rois: Sequence[str | Path] = (),
    say: Callable[[str], None] = lambda sentence: None,
) -> list[Input]:
    """Find the scans that a user means.

    Parameters
    ----------
    given : sequence of str or Path
        Files; the modalities of one scan joined by commas; folders of one DICOM series; folders of scans, which are
        searched with all folders in them.
    modalities : sequence of str
        What the network takes, in its order.
    out : Path
        Where masks go: not searched.
    patterns : sequence of str
        How files are named below each folder, one a modality, e.g. ``{case}_flair.nii.gz`` or ``{case}/t1.nii.gz``.
    rois : sequence of str or Path
        ROI masks, one for each scan in their order; or one pattern with ``{case}``, from the scan's folder.
    say : callable
        Told what of a folder was taken for a scan and what not.

    Returns
    -------
    list of Input
        In the order given, those of a folder by name.

    Raises
    ------
    SettingsError
        If what is given does not fit together, or there is nothing in a folder.
    """
    if patterns and len(patterns) != len(modalities):
        raise SettingsError(f"{len(patterns)} --pattern; {wanted(modalities)}, so give one for each")
    for pattern in patterns:
        if CASE not in pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts or "**" in pattern:
            raise SettingsError(f"--pattern {pattern}: write it from the folder on, with {CASE} in it and '*' at most")
    roi_pattern = str(rois[0]) if len(rois) == 1 and CASE in str(rois[0]) else None
    inputs: list[Input] = []
    folders = False
    for text in given:
        path = Path(text)
        if path.is_dir() and patterns:
            folders = True
            found = _by_pattern(path, patterns, roi_pattern)
            if not found:
                what = " or ".join(patterns)
                raise SettingsError(
                    f"{path}: nothing in this folder matches {what}; check the folder, or give --pattern"
                )
            inputs += found
        elif path.is_dir():
            found = _searched(path, modalities, out, roi_pattern, say)
            folders |= [one.scans for one in found] != [(path,)]
            inputs += found
        else:
            inputs.append(_named(text, modalities, roi_pattern))
    if patterns and not folders:
        raise SettingsError("--pattern says how files are named in a folder: give a folder, or leave it out")
    if rois and not roi_pattern:
        if len(rois) != len(inputs):
            also = f"; for a folder write one pattern, e.g. --roi {CASE}_brain.nii.gz" if folders else ""
            raise SettingsError(
                f"{len(rois)} --roi masks for {len(inputs)} scans: give one for each, in the same order{also}"
            )
        inputs = [replace(one, roi=Path(roi)) for one, roi in zip(inputs, rois, strict=True)]
    return inputs


def _named(text: str | Path, modalities: Sequence[str], roi_pattern: str | None) -> Input:
    """Return the scan whose files are named, joined by commas unless a file's own name has them."""
    path = Path(text)
    paths = (path,) if path.exists() else tuple(Path(part.strip()) for part in str(text).split(",") if part.strip())
    if len(paths) != len(modalities):
        example = ",".join(f"{name}.nii.gz" for name in modalities)
        joined = f"; join the files of one scan by commas: {example}" if len(modalities) > 1 else ""
        files = f"{len(paths)} files" if len(paths) != 1 else "one file"
        raise SettingsError(f"{text}: {files}, but {wanted(modalities)}{joined}")
    case = stem(paths[0])
    roi = paths[0].parent / roi_pattern.replace(CASE, case) if roi_pattern else None
    return Input(in_utf8(case), paths, roi, _broken(paths))


def _broken(paths: Sequence[Path]) -> str:
    """Say which of some files is a link to nothing; empty if none is."""
    return next((said for path in paths if (said := nowhere(path))), "")


def _searched(
    folder: Path, modalities: Sequence[str], out: Path, roi_pattern: str | None, say: Callable[[str], None]
) -> list[Input]:
    """Return every scan and DICOM series in a folder and the folders in it; not masks, labels and results."""
    if len(modalities) > 1:
        example = " ".join(f"--pattern '{CASE}_{name.lower()}.nii.gz'" for name in modalities)
        raise SettingsError(f"{folder}: {wanted(modalities)}; say how their files are named, e.g. {example}")
    found = search(folder, out)
    alone = list(found.scans.values()) == [folder]  # the folder of one series
    inputs = []
    for case, scan in found.scans.items():
        named = stem(scan) if scan == folder else (scan.parent / stem(scan)).relative_to(folder).as_posix()
        roi = (folder.parent if alone else folder) / roi_pattern.replace(CASE, named) if roi_pattern else None
        inputs.append(Input(case, (scan,), roi, found.broken.get(case, "")))
    given = {one.roi for one in inputs}
    found.left_out["of --roi"] += sum(scan in given for scan in found.scans.values())
    inputs = [one for one in inputs if not given.intersection(one.scans)]
    if not inputs:
        besides = f" ({told})" if (told := found.not_taken()) else ""
        nothing = f"nothing in this folder is a scan or a DICOM series{besides}"
        raise SettingsError(f"{folder}: {nothing}; check the folder, or give --pattern")
    if not alone:
        choice = "--pattern chooses otherwise" if found.left_out.total() else ""
        taken = f"{printable(folder)}: {counted(len(inputs), 'scan')}"
        say("; ".join(filter(None, [taken, found.not_taken(), choice])))
    if found.modalities:
        say(
            f"{printable(folder)}: cases have several scans each ({listed(found.modalities)}), and this network takes "
            f"{modalities[0]}; to take those alone give --pattern, e.g. '{CASE}_{modalities[0].lower()}.nii.gz'"
        )
    return inputs


def _by_pattern(folder: Path, patterns: Sequence[str], roi_pattern: str | None) -> list[Input]:
    """Return the cases that any of the patterns finds in a folder, with the files of all of them."""
    cases = set().union(*(_cases(folder, pattern) for pattern in patterns))
    inputs = []
    for case in sorted(cases):
        paths, problem = [], ""
        for pattern in patterns:
            exact = pattern.replace(CASE, case)
            files = sorted(glob.glob(_any(pattern, case), root_dir=folder))
            if len(files) != 1:
                lost = folder / (folder_of_case(pattern) or CASE).replace(CASE, case)
                problem = (
                    problem
                    or nowhere(lost)
                    or (
                        f"{folder}: {' and '.join(files[:2]) or 'no file'} {'match' if files else 'matches'} {exact}; "
                        "each modality of a scan needs one file"
                    )
                )
            paths += [folder / file for file in files[:1]]
        roi = folder / roi_pattern.replace(CASE, case) if roi_pattern else None
        inputs.append(Input(in_utf8(case), tuple(paths), roi, problem or _broken(paths)))
    masks = {one.roi for one in inputs}
    return [one for one in inputs if not masks.intersection(one.scans)]


def _cases(folder: Path, pattern: str) -> set[str]:
    """Return the names that stand for {case} in a folder; also of those whose own folder is a link to nothing."""
    cases = set()
    for where in filter(None, (pattern, folder_of_case(pattern))):
        matcher = re.compile(expression_of(where))
        for path in glob.glob(_any(where), root_dir=folder):
            match = matcher.fullmatch(Path(path).as_posix())
            if match and (where == pattern or is_lost_folder(folder / path)):
                cases.add(match["case"])
    return cases


def _any(pattern: str, case: str | None = None) -> str:
    """Return a pattern for ``glob``, of which '*' is the only wildcard."""
    star = "*" if case is None else glob.escape(case)
    return "*".join(star.join(glob.escape(part) for part in piece.split(CASE)) for piece in pattern.split("*"))
