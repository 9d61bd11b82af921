"""What to segment: scans named one by one, or found in folders, each with all its modalities and its ROI mask."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scans.series import holds_series
from scans.volume import READ_SUFFIXES
from train.inference import wanted
from train.settings import SettingsError

CASE = "{case}"
_RESULTS = ("_mask", "_probability", "_normal")  # endings of what is written for a case


@dataclass(frozen=True)
class Input:
    """One scan to segment.

    Attributes
    ----------
    case : str
        Names what is written for it, ``OUT/CASE_mask.nii.gz``; a slash stands for a folder.
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
        return ",".join(map(str, self.scans)) or self.case


def find_inputs(
    given: Sequence[str | Path],
    modalities: Sequence[str],
    out: Path,
    *,
    patterns: Sequence[str] = (),
    rois: Sequence[str | Path] = (),
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
        if path.is_dir() and (patterns or not holds_series(path)):
            folders = True
            found = _by_pattern(path, patterns) if patterns else _walk(path, modalities, out)
            if roi_pattern:
                found = [replace(one, roi=path / roi_pattern.replace(CASE, one.case)) for one in found]
                masks = {one.roi for one in found}
                found = [one for one in found if not masks.intersection(one.scans)]
            if not found:
                what = f"matches {' or '.join(patterns)}" if patterns else "is a scan or a DICOM series"
                raise SettingsError(f"{path}: nothing in this folder {what}; check the folder, or give --pattern")
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


def stem(path: Path) -> str:
    """Return a scan's name without the suffix of its format; of a DICOM folder its name."""
    name = path.absolute().name if path.name not in ("", "..") else path.resolve().name  # a link keeps its own name
    suffix = next((s for s in READ_SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


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
    return Input(case, paths, paths[0].parent / roi_pattern.replace(CASE, case) if roi_pattern else None)


def _walk(folder: Path, modalities: Sequence[str], out: Path) -> list[Input]:
    """Return every scan and DICOM series in a folder and the folders in it; not what was written for another."""
    if len(modalities) > 1:
        example = " ".join(f"--pattern '{CASE}_{name.lower()}.nii.gz'" for name in modalities)
        raise SettingsError(f"{folder}: {wanted(modalities)}; say how their files are named, e.g. {example}")
    found = {}
    for here in _folders(folder, out.resolve()):
        files = sorted(file for file in here.iterdir() if file.is_file() and not file.name.startswith("."))
        scans = [file for file in files if file.name.lower().endswith(READ_SUFFIXES)]
        for scan in scans:
            found[scan.parent / stem(scan)] = scan
        if len(files) > len(scans) and holds_series(here):
            found[here] = here
    return [
        Input(name.relative_to(folder).as_posix() if name != folder else stem(folder), (scan,))
        for name, scan in sorted(found.items())
        if not any(scan in found for scan in _sources(name))
    ]


def _folders(folder: Path, out: Path) -> Iterator[Path]:
    """Yield a folder and all in it, through links, each once; hidden ones and `out` are left out."""
    seen: set[Path] = set()
    for here, inner, _ in os.walk(folder, followlinks=True):
        real = Path(here).resolve()
        if real in seen or (real == out and Path(here) != folder):
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield Path(here)


def _sources(name: Path) -> list[Path]:
    """Return the scans that a file of this name (without suffix) may have been written for."""
    endings = [ending for ending in _RESULTS if name.name.endswith(ending)]
    scans = [name.with_name(name.name.removesuffix(ending)) for ending in endings if name.name != ending]
    before, of_modality, _ = name.name.rpartition("_normal_")
    return scans + ([name.with_name(before)] if of_modality and before else [])


def _by_pattern(folder: Path, patterns: Sequence[str]) -> list[Input]:
    """Return the cases that the first pattern finds in a folder, with the files of the others."""
    matcher = re.compile(_expression(patterns[0]))
    matches = (matcher.fullmatch(Path(path).as_posix()) for path in glob.glob(_any(patterns[0]), root_dir=folder))
    cases = sorted({match["case"] for match in matches if match})
    inputs = []
    for case in cases:
        paths, problem = [], ""
        for pattern in patterns:
            exact = pattern.replace(CASE, case)
            files = sorted(glob.glob(_any(pattern, case), root_dir=folder))
            if len(files) != 1:
                problem = problem or (
                    f"{folder}: {' and '.join(files[:2]) or 'no file'} {'match' if files else 'matches'} {exact}; "
                    "each modality of a scan needs one file"
                )
            paths += [folder / file for file in files[:1]]
        inputs.append(Input(case, tuple(paths), problem=problem))
    return inputs


def _any(pattern: str, case: str | None = None) -> str:
    """Return a pattern for ``glob``, of which '*' is the only wildcard."""
    star = "*" if case is None else glob.escape(case)
    return "*".join(star.join(glob.escape(part) for part in piece.split(CASE)) for piece in pattern.split("*"))


def _expression(pattern: str) -> str:
    """Return a regular expression for a pattern; a case's name neither holds a slash nor starts with a dot."""
    named = re.escape(pattern).replace(re.escape("*"), "[^/]*")
    named = named.replace(re.escape(CASE), r"(?P<case>[^/.][^/]*)", 1)
    return named.replace(re.escape(CASE), "(?P=case)")
