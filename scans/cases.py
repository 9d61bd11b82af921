"""Cases: find a dataset's scans on disk, and read one with its masks."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from scans.dataset import MASK_ROLES, Dataset
from scans.errors import ScanError
from scans.region import Region
from scans.volume import Volume, check_same_grid, read_mask, read_volume


@dataclass(frozen=True)
class Case:
    """The files of one scan; a mask that is not there is None.

    ``images`` has one a modality, in the dataset's order. ``problem`` says, in a sentence, why the files cannot be
    told apart, or which modality is missing; empty if all is well.
    """

    name: str
    dataset: str
    images: tuple[Path, ...]
    roi: Path | None = None
    lesion: Path | None = None
    label: Path | None = None
    problem: str = ""

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
    found = {modality: _images(dataset, modality, root) for modality in dataset.modalities}
    return [
        _case(case, {modality: images.get(case, []) for modality, images in found.items()}, dataset, name, root)
        for case in sorted(set().union(*found.values()))
    ]


def _images(dataset: Dataset, modality: str, root: Path) -> dict[str, list[Path]]:
    """Return the files of one modality by case; more than one where they cannot be told apart."""
    images: dict[str, list[Path]] = {}
    for pattern in dataset.images(modality):
        of_pattern: dict[str, list[Path]] = {}
        matcher = re.compile(_expression(pattern))
        for found in sorted(glob.glob(pattern.replace("{case}", "*"), root_dir=root)):
            match = matcher.fullmatch(Path(found).as_posix())
            path = root / found
            if match and path.is_dir() == (dataset.layout.kind == "dicom"):
                of_pattern.setdefault(match["case"], []).append(path)
        for case, paths in of_pattern.items():
            images.setdefault(case, paths)
    return images


def read_case(case: Case, dataset: Dataset, region: Region) -> Scan:
    """Read a scan and its masks.

    Raises
    ------
    ScanError
        If a file cannot be used, a modality or a mask that must be there is missing, or one is on another grid.
    """
    check_files(case, dataset, region)
    volumes = tuple(read_volume(image) for image in case.images)
    for volume, image in zip(volumes[1:], case.images[1:], strict=True):
        check_same_grid(volume, volumes[0], image, case.image)
    values = {
        "roi": dataset.roi_values or region.roi.values,
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
    required = set(dataset.layout.required) | ({"roi"} if region.roi.kind == "label" else set())
    for role in sorted(required - set(case.files())):
        patterns = getattr(dataset.layout, role)
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
        problem = problem or _ambiguity(paths)
    masks: dict[str, Path] = {}
    for role in MASK_ROLES:
        for pattern in getattr(dataset.layout, role) or ():
            found = sorted(glob.glob(pattern.replace("{case}", glob.escape(case)), root_dir=root))
            if found:
                problem = problem or _ambiguity([root / file for file in found])
                masks[role] = root / found[0]
                break
    return Case(name=case, dataset=name, images=there, problem=problem, **masks)


def _ambiguity(paths: list[Path]) -> str:
    if len(paths) < 2:
        return ""
    return f"{paths[0]} and {paths[1]} match the same pattern of the catalog; keep one, or make the pattern stricter"


def _expression(pattern: str) -> str:
    """Return a regular expression for a pattern; a case's name neither holds a slash nor starts with a dot."""
    expression, seen = "", False
    for part in re.split(r"(\{case\}|\*)", pattern):
        if part == "{case}":
            expression += "(?P=case)" if seen else r"(?P<case>[^/.][^/]*)"
            seen = True
        else:
            expression += "[^/]*" if part == "*" else re.escape(part)
    return expression
