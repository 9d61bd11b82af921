"""Cases: find a dataset's scans on disk, and read one with its masks."""

import glob
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scans.catalog.dataset import Dataset
from scans.catalog.layout import MASK_ROLES, BidsLayout, MaskRole
from scans.catalog.region import Region
from scans.errors import ScanError
from scans.file_names import in_utf8, nowhere
from scans.formats.bids import find_scans
from scans.image.brain_mask import brain_mask, kept_mask
from scans.image.volume import READ_SUFFIXES, Volume, check_same_grid, read_mask, read_volume


@dataclass(frozen=True)
class Case:
    """The files of one scan; a mask that is not there is None.

    ``images`` has one a modality, in the dataset's order. ``made_with`` is the command that made ``roi``, empty if the
    dataset brought it. ``problem`` says, in a sentence, why the files cannot be
    told apart, are not there, or which modality is missing; empty if all is well. ``name`` holds UTF-8 alone, see
    `scans.file_names.in_utf8`.
    """

    name: str
    dataset: str
    images: tuple[Path, ...]
    roi: Path | None = None
    lesion: Path | None = None
    label: Path | None = None
    problem: str = ""
    made_with: str = ""

    @property
    def image(self) -> Path:
        """The first modality's file."""
        return self.images[0]

    def files(self) -> dict[str, Path]:
        """Return the files there are, by role; ``image`` is the first modality's."""
        paths = {"image": self.image, "roi": self.roi, "lesion": self.lesion, "label": self.label}
        return {role: path for role, path in paths.items() if path is not None}


@dataclass(frozen=True)
class Scan:
    """A case's volumes, one a modality, and its masks (uint8, 0 or 1), all on one grid."""

    volumes: tuple[Volume, ...]
    roi: Volume | None = None
    lesion: Volume | None = None
    label: Volume | None = None

    @property
    def volume(self) -> Volume:
        """The first modality."""
        return self.volumes[0]


def source_name(dataset: str, case: str) -> str:
    """Return the name of the source that is prepared of a case, safe as the name of a folder."""
    return f"{quote(dataset, safe='')}--{quote(case, safe='')}"


def find_cases(dataset: Dataset, name: str) -> list[Case]:
    """Find the scans of a dataset on disk.

    Parameters
    ----------
    dataset : Dataset
    name : str
        Of the dataset.

    Returns
    -------
    list of Case
        Sorted by name; empty if the root is not there (see `Dataset.status`).
    """
    root = dataset.root.folder()
    if root is None or not root.is_dir():
        return []
    if isinstance(dataset.layout, BidsLayout):
        return _bids_cases(dataset, dataset.layout, name, root)
    found = {modality: _images(dataset, modality, root) for modality in dataset.modalities}
    return [
        _case(case, {modality: images.get(case, []) for modality, images in found.items()}, dataset, name, root)
        for case in sorted(set().union(*found.values()))
    ]


def _bids_cases(dataset: Dataset, layout: BidsLayout, name: str, root: Path) -> list[Case]:
    """Return the cases of a BIDS dataset; one is called after the entities of its scan."""
    images = {modality: dataset.images(modality) for modality in dataset.modalities}
    masks = {str(role): dataset.masks(role) for role in MASK_ROLES}
    cases = []
    for found in find_scans(root, images, masks, layout.derivatives):
        paths: dict[str, Any] = {role: mask.path for role, mask in found.masks.items()}
        scans = tuple(scan.path for scan in found.images)
        cases.append(Case(in_utf8(found.name), name, scans, problem=found.problem, **paths))
    return cases


def _images(dataset: Dataset, modality: str, root: Path) -> dict[str, list[Path]]:
    """Return the files of one modality by case; more than one where they cannot be told apart."""
    images: dict[str, list[Path]] = {}
    for pattern in dataset.images(modality):
        of_pattern: dict[str, list[Path]] = {}
        for case, path in _matches(pattern, root):
            if _counts(path, dataset):
                of_pattern.setdefault(case, []).append(path)
        if (folder := folder_of_case(pattern)) is not None:
            for case, path in _matches(folder, root):
                if is_lost_folder(path):
                    of_pattern.setdefault(case, []).append(path)
        for case, paths in of_pattern.items():
            images.setdefault(case, paths)
    return images


def _matches(pattern: str, root: Path) -> list[tuple[str, Path]]:
    """Return what lies at a pattern, by name, with the case of each."""
    expression = re.compile(expression_of(pattern))
    found = sorted(glob.glob(pattern.replace("{case}", "*"), root_dir=root))
    matches = ((expression.fullmatch(Path(path).as_posix()), root / path) for path in found)
    return [(match["case"], path) for match, path in matches if match]


def folder_of_case(pattern: str) -> str | None:
    """Return the pattern of a case's own folder: where that is a link to nothing, no file in it matches."""
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts, 1) if "{case}" in part)
    return "/".join(parts[:first]) if first < len(parts) else None


def is_lost_folder(path: Path) -> bool:
    """Say whether a path is a link to nothing that is not called like a file."""
    return bool(nowhere(path)) and not path.name.lower().endswith(READ_SUFFIXES)


def _counts(path: Path, dataset: Dataset) -> bool:
    """Say whether what a pattern matches stands for a scan: also a link to nothing, which is then named."""
    if path.is_dir() or nowhere(path):
        return dataset.layout.kind == "dicom" or path.name.lower().endswith(READ_SUFFIXES)
    return dataset.layout.kind == "files"


def with_brain_mask(case: Case, dataset: Dataset) -> Case:
    """Return a case with a brain mask that the dataset's command makes, or made before, if it has no ROI of its own.

    Raises
    ------
    ScanError
        As `scans.image.brain_mask.brain_mask`.
    """
    command = dataset.brain_mask_with
    if not command or case.roi is not None or case.problem:
        return case
    return replace(case, roi=brain_mask(case.image, command, Path(dataset.brain_masks)), made_with=command)


def with_kept_mask(case: Case, dataset: Dataset) -> Case | None:
    """Return what `with_brain_mask` would, running nothing; None if the mask would have to be made."""
    command = dataset.brain_mask_with
    if not command or case.roi is not None or case.problem:
        return case
    kept = kept_mask(case.image, command, Path(dataset.brain_masks))
    return replace(case, roi=kept, made_with=command) if kept else None


def read_case(case: Case, dataset: Dataset, region: Region) -> Scan:
    """Read a scan and its masks; its brain mask is made first, where the dataset says how.

    Raises
    ------
    ScanError
        If a file cannot be used, a modality or a mask that must be there is missing, or one is on another grid.
    """
    check_files(case, dataset, region)
    case = with_brain_mask(case, dataset)
    volumes = tuple(read_volume(image) for image in case.images)
    for volume, image in zip(volumes[1:], case.images[1:], strict=True):
        check_same_grid(volume, volumes[0], image, case.image)
    values = {
        "roi": None if case.made_with else dataset.roi_values or region.roi.values,
        "lesion": dataset.lesion_values,
        "label": dataset.label_values,
    }
    masks = {}
    for role, path in case.files().items():
        if role != "image":
            masks[role] = read_mask(path, values[role], kind=f"{role} mask")
            check_same_grid(masks[role], volumes[0], path, case.image)
    return Scan(volumes, **masks)


def check_files(case: Case, dataset: Dataset, region: Region) -> None:
    """Stop if a case's files cannot be told apart, or a modality or mask that must be there is missing.

    Raises
    ------
    ScanError
    """
    if case.problem:
        raise ScanError(case.problem)
    required: set[MaskRole] = {*dataset.layout.required, *(("roi",) if region.roi.kind == "label" else ())}
    if dataset.brain_mask_with:
        required -= {"roi"}
    for role in sorted(required - set(case.files())):
        patterns = dataset.masks(role)
        expected = _expected(patterns, case.name, dataset) if patterns else "give it a pattern"
        raise ScanError(f"{case.image}: its {role} mask is missing; {expected}")


def _expected(patterns: tuple[str, ...], case: str, dataset: Dataset) -> str:
    return f"expected at {' or '.join(p.replace('{case}', case) for p in patterns)} under {dataset.root}"


def _case(case: str, images: dict[str, list[Path]], dataset: Dataset, name: str, root: Path) -> Case:
    there = tuple(paths[0] for paths in images.values() if paths)
    problem = ""
    for modality, paths in images.items():
        if not paths:
            expected = _expected(dataset.images(modality), case, dataset)
            problem = problem or f"{there[0]}: its {modality} scan is missing; {expected}"
        problem = problem or _trouble(paths, dataset.layout.kind == "files")
    masks: dict[str, Any] = {}
    for role in MASK_ROLES:
        for pattern in dataset.masks(role):
            found = sorted(glob.glob(pattern.replace("{case}", glob.escape(case)), root_dir=root))
            if found:
                problem = problem or _trouble([root / file for file in found], True)
                masks[role] = root / found[0]
                break
    return Case(name=in_utf8(case), dataset=name, images=there, problem=problem, **masks)


def _trouble(paths: list[Path], are_files: bool) -> str:
    """Say why the file or folder that a pattern means cannot be told or is not there; empty if all is well."""
    if len(paths) > 1:
        return (
            f"{paths[0]} and {paths[1]} match the same pattern of the catalog; keep one, or make the pattern stricter"
        )
    if are_files and any(path.is_dir() for path in paths):
        return f"{paths[0]} is a folder under the name of a file; take the file out of it"
    return next((said for path in paths if (said := nowhere(path))), "")


def expression_of(pattern: str) -> str:
    """Return a regular expression for a pattern; a case's name neither holds a slash nor starts with a dot."""
    expression, seen = "", False
    for part in re.split(r"(\{case\}|\*)", pattern):
        if part == "{case}":
            expression += "(?P=case)" if seen else r"(?P<case>[^/.][^/]*)"
            seen = True
        else:
            expression += "[^/]*" if part == "*" else re.escape(part)
    return expression
