"""Cases: find a dataset's scans on disk, and read one with its masks."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from scans.dataset import MASK_ROLES, Dataset
from scans.errors import ScanError
from scans.region import Region
from scans.volume import Volume, check_same_grid, read_mask, read_volume


@dataclass(frozen=True)
class Case:
    """The files of one scan; a mask that is not there is None.

    ``problem`` says, in a sentence, why the files cannot be told apart; empty if they can.
    """

    name: str
    dataset: str
    image: Path
    roi: Path | None = None
    lesion: Path | None = None
    label: Path | None = None
    problem: str = ""

    def files(self) -> dict[str, Path]:
        """Return the files there are, by role."""
        paths = {"image": self.image, "roi": self.roi, "lesion": self.lesion, "label": self.label}
        return {role: path for role, path in paths.items() if path is not None}


@dataclass(frozen=True)
class Scan:
    """A case's volumes; the masks (uint8, 0 or 1) lie on the image's grid."""

    volume: Volume
    roi: Volume | None = None
    lesion: Volume | None = None
    label: Volume | None = None


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
    images: dict[str, list[Path]] = {}
    for pattern in dataset.layout.image:
        of_pattern: dict[str, list[Path]] = {}
        matcher = re.compile(_expression(pattern))
        for found in sorted(glob.glob(pattern.replace("{case}", "*"), root_dir=root)):
            match = matcher.fullmatch(Path(found).as_posix())
            path = root / found
            if match and path.is_dir() == (dataset.layout.kind == "dicom"):
                of_pattern.setdefault(match["case"], []).append(path)
        for case, paths in of_pattern.items():
            images.setdefault(case, paths)
    return [_case(case, images[case], dataset, name, root) for case in sorted(images)]


def read_case(case: Case, dataset: Dataset, region: Region) -> Scan:
    """Read a scan and its masks.

    Raises
    ------
    ScanError
        If a file cannot be used, a mask that must be there is missing, or one is on another grid.
    """
    check_files(case, dataset, region)
    volume = read_volume(case.image)
    values = {
        "roi": dataset.roi_values or region.roi.values,
        "lesion": dataset.lesion_values,
        "label": dataset.label_values,
    }
    masks = {}
    for role, path in case.files().items():
        if role != "image":
            masks[role] = read_mask(path, values[role], kind=f"{role} mask")
            check_same_grid(masks[role], volume, path, case.image)
    return Scan(volume, **masks)


def check_files(case: Case, dataset: Dataset, region: Region) -> None:
    """Stop if a case's files cannot be told apart, or a mask that must be there is missing.

    Raises
    ------
    ScanError
    """
    if case.problem:
        raise ScanError(case.problem)
    required = set(dataset.layout.required) | ({"roi"} if region.roi.kind == "label" else set())
    for role in sorted(required - set(case.files())):
        patterns = [p.replace("{case}", case.name) for p in getattr(dataset.layout, role) or ()]
        expected = f"expected at {' or '.join(patterns)} under {dataset.root}" if patterns else "give it a pattern"
        raise ScanError(f"{case.image}: its {role} mask is missing; {expected}")


def _case(case: str, images: list[Path], dataset: Dataset, name: str, root: Path) -> Case:
    problem = _ambiguity(images)
    masks: dict[str, Path] = {}
    for role in MASK_ROLES:
        for pattern in getattr(dataset.layout, role) or ():
            found = sorted(glob.glob(pattern.replace("{case}", glob.escape(case)), root_dir=root))
            if found:
                problem = problem or _ambiguity([root / file for file in found])
                masks[role] = root / found[0]
                break
    return Case(name=case, dataset=name, image=images[0], problem=problem, **masks)


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
