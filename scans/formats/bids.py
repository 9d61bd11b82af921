"""Scans of a BIDS dataset, and the masks of them that lie in it and in its derivatives, told by their names.

``ancpbids`` takes names apart by the schema of the specification. Its own search of a folder is not used: that also
reads data nobody asked for, follows links in circles, and unpickles a file which the dataset may bring.
"""

import glob
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scans.file_names import nowhere

SOFTWARE = "Layered Tumors"  # as GeneratedBy of what we write names us
# What a file of masks adds to the entities of its scan.
BRAIN = ("desc-brain_mask", "label-brain_mask")
LESIONS = ("label-lesion_mask", "desc-lesion_mask", "label-lesion_roi")
TUMOURS = ("label-tumor_mask", "label-tumour_mask", "desc-tumor_mask", *LESIONS)
_OWN = ("space", "res", "den", "label", "desc")  # entities of what was made of a scan, not of the scan
_SAME = ("orig", "native", "scanner", "individual")  # spaces that are the scan's own
_NAMES = {"T1": "T1w", "T2": "T2w", "PD": "PDw", "T1CE": "ce-*_T1w", "T1C": "ce-*_T1w", "T1GD": "ce-*_T1w"}
_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class BidsFile:
    """An image under a BIDS name.

    Attributes
    ----------
    path : Path
    place : str
        From the folder of the dataset on, with slashes.
    entities : dict of str to str or int
        As the schema reads them: ``run-01`` is ``run-1``.
    suffix : str
    pipeline : str
        Folder below ``derivatives``; empty in the dataset itself.
    """

    path: Path
    place: str
    entities: dict[str, Any]
    suffix: str
    pipeline: str

    @property
    def name(self) -> str:
        """What its derivatives' names begin with: all its entities, without suffix and ending."""
        return self.path.name.split(".")[0].rpartition("_")[0]

    @property
    def person(self) -> tuple[Any, Any]:
        """Subject and session."""
        return self.entities.get("sub"), self.entities.get("ses")


@dataclass(frozen=True)
class FoundScan:
    """A scan in all its modalities, and its masks by role; why it cannot be used, in a sentence, empty if it can."""

    name: str
    images: tuple[BidsFile, ...]
    masks: dict[str, BidsFile]
    problem: str


def name_of_modality(modality: str) -> str:
    """Return what a modality's files are called in BIDS; ``*`` stands for any value.

    >>> name_of_modality("FLAIR"), name_of_modality("T1")
    ('FLAIR', 'T1w')
    """
    return _NAMES.get(modality.upper(), modality)


def modality_of(name: str) -> str:
    """Return what a catalog calls the modality of a BIDS name, whatever entities stand before it.

    >>> modality_of("T1w"), modality_of("acq-3D_FLAIR")
    ('T1', 'FLAIR')
    """
    suffix = name.rpartition("_")[2]
    return next((modality for modality, bids in _NAMES.items() if bids == suffix), suffix)


def find_scans(
    root: Path,
    images: Mapping[str, Sequence[str]],
    masks: Mapping[str, Sequence[str]],
    pipelines: Sequence[str] = (),
) -> list[FoundScan]:
    """Find the scans of a dataset.

    Parameters
    ----------
    root : Path
        Holds ``sub-*`` and may hold ``derivatives``.
    images : mapping of str to sequence of str
        For each modality how its files are named, e.g. ``FLAIR`` or ``acq-3D_FLAIR``; of several the first there is.
    masks : mapping of str to sequence of str
        For each role likewise, e.g. ``desc-brain_mask``.
    pipelines : sequence of str
        Folders below ``derivatives`` to take masks of; all but those that this software made if none is named.

    Returns
    -------
    list of FoundScan
        By name.
    """
    raw, strange = _read_names(root, "")
    made = [file for folder in _pipelines(root, pipelines) for file in _read_names(root, folder)[0]]
    by_person: dict[tuple[Any, Any], list[BidsFile]] = {}
    for file in [*raw, *made]:
        by_person.setdefault(file.person, []).append(file)
    first, *others = images
    found = []
    for of_person in by_person.values():
        own = [file for file in of_person if not file.pipeline]
        scans = _called(own, images[first])
        found += [_found(scan, own, of_person, images, masks) for scan in scans]
        if not scans and any(_called(own, images[modality]) for modality in others):
            there = next(file for modality in others for file in _called(own, images[modality]))
            missing = f"{there.path}: its {first} scan is missing; expected {' or '.join(images[first])} beside it"
            found.append(FoundScan(there.name, (there,), {}, missing))
    suffixes = {_parted(name)[1] for names in images.values() for name in names}
    for path in strange:
        if _stem(path).rpartition("_")[2] in suffixes:
            place = path.relative_to(root).as_posix()
            odd = f"{path} is not named as BIDS names scans (sub-LABEL[_ses-LABEL]..., as its folders are); rename it"
            found.append(FoundScan(_stem(path), (BidsFile(path, place, {}, "", ""),), {}, odd))
    found.sort(key=lambda one: (one.name, one.images[0].place))
    return _of_one_name(found)


def _of_one_name(found: Sequence[FoundScan]) -> list[FoundScan]:
    """Return scans of which no two have one name: where files differ in their ending alone, the first, and why."""
    by_name: dict[str, list[FoundScan]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(one)
    return [alike[0] if len(alike) == 1 else replace(alike[0], problem=_alike(alike)) for alike in by_name.values()]


def _alike(found: Sequence[FoundScan]) -> str:
    first, second = (one.images[0].path for one in found[:2])
    return f"{first} and {second} are one scan by their names; keep one, or tell them apart by acq- or run-"


def description(root: Path) -> dict[str, Any]:
    """Return what a dataset says of itself in ``dataset_description.json``; nothing if it says nothing readable."""
    try:
        said = json.loads((root / "dataset_description.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def made_by_us(root: Path) -> bool:
    """Tell whether a dataset says that this software made it."""
    by = description(root).get("GeneratedBy")
    return isinstance(by, list) and any(isinstance(one, dict) and one.get("Name") == SOFTWARE for one in by)


def _pipelines(root: Path, wanted: Sequence[str]) -> list[str]:
    there = sorted(Path(path).name for path in glob.glob("derivatives/*/", root_dir=root))
    return [name for name in there if (name in wanted if wanted else not made_by_us(root / "derivatives" / name))]


def _read_names(root: Path, pipeline: str) -> tuple[list[BidsFile], list[Path]]:
    """Return the images of a dataset's anatomical folders, and those under names that are none of BIDS."""
    from ancpbids import model_latest
    from ancpbids.utils import parse_bids_name

    base = root / "derivatives" / pipeline if pipeline else root
    files, strange = [], []
    for folders in ("sub-*/anat", "sub-*/ses-*/anat"):
        for found in sorted(glob.glob(f"{folders}/*", root_dir=base)):
            path = base / found
            if not path.name.endswith(_ENDINGS):
                continue
            said = parse_bids_name(path.name)
            entities = said["entities"] if said else {}
            above = "_".join(part for part in Path(found).parts[:-2])
            same = "_".join([*(f"{key}-{value}" for key, value in entities.items()), _stem(path).rpartition("_")[2]])
            if said is None or same != _stem(path) or not f"{same}_".startswith(f"{above}_"):
                strange.append(path)
                continue
            read = {key: model_latest.process_entity_value(key, value) for key, value in entities.items()}
            files.append(BidsFile(path, path.relative_to(root).as_posix(), read, said["suffix"], pipeline))
    return files, strange


def _found(
    scan: BidsFile,
    own: Sequence[BidsFile],
    of_person: Sequence[BidsFile],
    images: Mapping[str, Sequence[str]],
    masks: Mapping[str, Sequence[str]],
) -> FoundScan:
    """Return a scan of the first modality with the others of its session and its masks."""
    problem = nowhere(scan.path)
    together = [scan]
    for modality in list(images)[1:]:
        there = _called(own, images[modality])
        alike = [file for file in there if file.name == scan.name] or there
        if len(alike) == 1:
            together.append(alike[0])
            problem = problem or nowhere(alike[0].path)
        elif not alike:
            expected = " or ".join(images[modality])
            problem = problem or f"{scan.path}: its {modality} scan is missing; expected {expected} beside it"
        else:
            problem = problem or _unclear(scan, modality, alike)
    chosen = {}
    for role, names in masks.items():
        fitting = _masks_of(scan, of_person, names)
        if fitting:
            chosen[role] = fitting[0]
            problem = problem or nowhere(fitting[0].path)
        if len(fitting) > 1:
            problem = problem or _unclear(scan, f"{role} mask", fitting)
    return FoundScan(scan.name, tuple(together), chosen, problem)


def _unclear(scan: BidsFile, what: str, files: Sequence[BidsFile]) -> str:
    return (
        f"{scan.path}: which is its {what} is not clear, {files[0].place} or {files[1].place}; name the pipeline, "
        "with --derivatives or in the catalog's layout, or name the files more closely there"
    )


def _called(files: Sequence[BidsFile], names: Sequence[str]) -> list[BidsFile]:
    """Return the files that the first fitting name means."""
    for name in names:
        wanted, suffix = _parted(name)
        fitting = [file for file in files if file.suffix == suffix and _has(file, wanted)]
        if "ce" not in wanted:  # a scan with a contrast agent must be asked for
            fitting = [file for file in fitting if "ce" not in file.entities]
        if fitting:
            return fitting
    return []


def _parted(name: str) -> tuple[dict[str, str], str]:
    *entities, suffix = name.split("_")
    return dict(entity.split("-", 1) for entity in entities), suffix


def _has(file: BidsFile, wanted: Mapping[str, str]) -> bool:
    return all(
        key in file.entities and value in ("*", str(file.entities[key]), str(file.entities[key]).zfill(len(value)))
        for key, value in wanted.items()
    )


def _masks_of(scan: BidsFile, files: Sequence[BidsFile], names: Sequence[str]) -> list[BidsFile]:
    """Return the masks of a scan that the first fitting name means; more than one where they cannot be told apart.

    A mask repeats entities of its scan. One that tells in its sidecar what it was made of is no mask of another scan.
    """
    for name in names:
        wanted, suffix = _parted(name)
        fitting = [
            file
            for file in files
            if file.suffix == suffix and _has(file, wanted) and _belongs(file, scan, wanted) and _made_of(file, scan)
        ]
        if fitting:
            most = max(map(_closeness, fitting))
            return [file for file in fitting if _closeness(file) == most]
    return []


def _belongs(mask: BidsFile, scan: BidsFile, wanted: Mapping[str, str]) -> bool:
    """Say whether a mask's entities are those of a scan, as far as it repeats them, and on the scan's own voxels."""
    for key, value in mask.entities.items():
        if key not in _OWN and scan.entities.get(key) != value:
            return False
        if key == "space" and value not in (*_SAME, scan.suffix, scan.entities.get("space")):
            return False
        if key in ("res", "den") and scan.entities.get(key) != value:
            return False
        if key == "label" and key not in wanted:
            return False
    # A scan in a standard space has masks that say so too.
    return scan.entities.get("space", "orig") in (*_SAME, mask.entities.get("space"))


def _closeness(mask: BidsFile) -> int:
    """Return how much of its scan's name a mask repeats."""
    return sum(key not in ("label", "desc", "res", "den") for key in mask.entities)


def _made_of(mask: BidsFile, scan: BidsFile) -> bool:
    """Say whether a mask's sidecar allows that it was made of a scan: a mask of the T1w is none of the FLAIR."""
    try:
        said = json.loads((mask.path.parent / f"{_stem(mask.path)}.json").read_text(encoding="utf-8"))
        named = [said.get(key) for key in ("Sources", "RawSources")]
    except (OSError, ValueError, AttributeError):
        return True
    sources = [Path(source) for each in named if isinstance(each, list) for source in each if isinstance(source, str)]
    anatomical = [source for source in sources if source.name.endswith(_ENDINGS) and "_" in source.name]
    suffixes = {_stem(source).rpartition("_")[2] for source in anatomical} - {"mask", "dseg", "probseg"}
    return not suffixes or scan.suffix in suffixes


def _stem(path: Path) -> str:
    ending = next((ending for ending in _ENDINGS if path.name.endswith(ending)), "")
    return path.name.removesuffix(ending)
