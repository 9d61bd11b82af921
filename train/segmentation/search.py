"""Search a folder for scans: what lies in it, what of it is a scan, and one line about what is not.

Folders hold more than scans: labels, masks of the organ, results of an earlier run. Names tell most of them apart, and
where a name might be a scan's as well, its voxels do.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scans.errors import UserError, printable
from scans.file_names import in_utf8, nowhere
from scans.formats.files import files_of
from scans.formats.series import SEGMENTATIONS, holds_series, sop_class
from scans.image.volume import READ_SUFFIXES, read_mask, read_volume
from scans.one_scan import one_scan

_RESULTS = ("_mask", "_probability", "_normal")  # endings of what is written for a case
_MASK = re.compile(r"(seg|segmentation|mask|label|labelmap|lesion|roi)s?\d*")  # a word that no scan ends in
_PERHAPS = re.compile(  # `scan_brain` is a mask to some, and the skull-stripped scan to others
    r"(seg|mask|label|lesion|roi|annot|truth|gt|gtv|ctv|tumou?r|brain|skull|organ|liver|lung|kidney|pancreas|spleen|"
    r"prostate|breast|heart|body|aseg|aparc)\w*"
)
_MASK_FOLDER = re.compile(r"(brain_)?(seg|mask|label|lesion|roi|annot)\w*")  # labelsTr; what --brain-masks keeps
_MODALITY = re.compile(r"(flair|t1|t2|pd|dwi|adc|swi|ct|cta|pet)\w*|0\d{3}")  # 0001: nnU-Net's channels
_MOST_LABELS = 128  # different values of a label map; a scan of 8 bits has more
_MOST_TOLD = 6  # kinds of files in one line
_SAMPLED = 7  # every n-th voxel tells a scan from a label map


@dataclass(frozen=True)
class Search:
    """What a folder holds.

    Attributes
    ----------
    scans : dict of str to Path
        Files and folders of one DICOM series by what their results are named after, in the order of these names.
    broken : dict of str to str
        Of scans that are not there to be read, why.
    left_out : Counter of str
        How many masks, labels and results there are, by ending.
    others : Counter of str
        Files of other kinds, by suffix.
    modalities : Counter of str
        How many scans there are, by ending, where cases have several.
    """

    scans: dict[str, Path]
    broken: dict[str, str]
    left_out: Counter[str]
    others: Counter[str]
    modalities: Counter[str]

    def not_taken(self) -> str:
        """Say what was not taken for a scan; empty if there is nothing."""
        count = counted(self.left_out.total(), "mask, label or result is", "masks, labels and results are")
        said = [f"{count} not taken for scans ({listed(self.left_out)})"] if self.left_out.total() else []
        if self.others:
            said.append(f"{counted(self.others.total(), 'file')} of other kinds ({listed(self.others)})")
        return "; ".join(said)


def search(folder: Path, out: Path) -> Search:
    """Search a folder, and all in it, for scans.

    Parameters
    ----------
    folder : Path
    out : Path
        Where masks go: not searched.
    """
    found: list[Path] = []
    broken: dict[Path, str] = {}
    others: Counter[str] = Counter()
    segmentations = 0  # results of ours among them
    for here in _folders(folder, out.resolve()):
        entries = sorted(entry for entry in here.iterdir() if not entry.name.startswith("."))
        gone = {entry: said for entry in entries if (said := nowhere(entry)) and _may_be_scan(entry)}
        files = [entry for entry in entries if entry.is_file()]
        scans = [file for file in files if _readable(file)]
        rest = set(files) - set(scans)
        marked = {file for file in rest if sop_class(file) in SEGMENTATIONS}
        segmentations += len(marked)
        rest -= marked
        if rest and _is_series(here):
            found.append(here)
        elif rest:
            rest -= set(_belonging(scans))
            others.update("".join(file.suffixes[-2:]).lower() or file.name for file in rest)
        broken |= gone
        found += [*scans, *gone]
    scans, left_out = _parted(found)
    left_out += Counter({"DICOM SEG": segmentations})
    names = _named(scans, folder)
    return Search(
        names,
        {name: broken[path] for name, path in names.items() if path in broken},
        left_out,
        others,
        _modalities(scans),
    )


def stem(path: Path) -> str:
    """Return a scan's name without the suffix of its format; of a DICOM folder its name."""
    name = path.absolute().name if path.name not in ("", "..") else path.resolve().name  # a link keeps its own name
    suffix = next((s for s in READ_SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


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


def _readable(path: Path) -> bool:
    return path.name.lower().endswith(READ_SUFFIXES)


def _may_be_scan(link: Path) -> bool:
    """Say whether a link to nothing may have led to a scan, or to a folder of scans."""
    return _readable(link) or link.suffix.lower() in ("", ".dcm", ".ima")


def _is_series(folder: Path) -> bool:
    try:
        with one_scan(folder):
            return holds_series(folder)
    except UserError:
        return False


def _belonging(scans: Iterable[Path]) -> Iterator[Path]:
    """Yield the data files of headers."""
    for scan in scans:
        try:
            with one_scan(scan):
                yield from files_of(scan)
        except UserError:
            continue  # told when it is read


def _parted(found: list[Path]) -> tuple[list[Path], Counter[str]]:
    """Part scans from masks, labels and results, which are counted by ending."""
    names = {path.parent / stem(path) for path in found} | set(found)  # two of one stem are named with their suffix
    cases = names | {name.with_name(before) for name in names if (before := _before_modality(name.name))}
    scans, left_out = [], Counter[str]()
    for path in sorted(found, key=lambda path: (path.parent / stem(path), path.name)):
        written_for = _sources(path.parent / stem(path))
        if names.intersection(written_for) or (path.is_file() and _is_mask(path, cases)):
            left_out[_ending(path)] += 1
        else:
            scans.append(path)
    return scans, left_out


def _sources(name: Path) -> list[Path]:
    """Return the scans that a file of this name (without suffix) may have been written for."""
    endings = [ending for ending in _RESULTS if name.name.endswith(ending)]
    scans = [name.with_name(name.name.removesuffix(ending)) for ending in endings if name.name != ending]
    before, of_modality, _ = name.name.rpartition("_normal_")
    return scans + ([name.with_name(before)] if of_modality and before else [])


def _parts(name: str) -> tuple[str, str]:
    """Part a name before its last word: ``("a_t1", "seg")`` of ``a_t1_seg``; ``("", name)`` of one word."""
    match = re.fullmatch(r"(.*[^_\-. ])[_\-. ]+([^_\-. ]+)", name)
    return (match[1], match[2].lower()) if match else ("", name.lower())


def _before_modality(name: str) -> str:
    """Return the name of a scan's case; empty if a mask's or no other word comes after it."""
    case, ending = _parts(name)
    return "" if _MASK.fullmatch(ending) or _PERHAPS.fullmatch(ending) else case


def _ending(path: Path) -> str:
    """Return how a mask is counted: by its last word, one that lies in a folder of masks by the folder."""
    case, ending = _parts(stem(path))
    named = case and (_MASK.fullmatch(ending) or _PERHAPS.fullmatch(ending) or f"_{ending}" in _RESULTS)
    if named:
        return f"_{ending}"
    return f"in {path.parent.name}/" if _MASK_FOLDER.fullmatch(path.parent.name.lower()) else "results"


def _is_mask(path: Path, cases: set[Path]) -> bool:
    """Say whether a file is a mask or label: by its name beside a scan of its case, else by its voxels too."""
    case, ending = _parts(stem(path))
    if case and _MASK.fullmatch(ending):
        return path.parent / case in cases or _is_label_file(path)
    named = (case and _PERHAPS.fullmatch(ending)) or _MASK_FOLDER.fullmatch(path.parent.name.lower())
    return bool(named) and _is_label_file(path)


def _is_label_file(path: Path) -> bool:
    """Say whether a file holds a few whole numbers; False if it cannot be read: reading it as a scan says why."""
    try:
        with one_scan(path):
            if not read_mask(path).array.any():
                return True
            return holds_labels(read_volume(path).array, _MOST_LABELS)
    except UserError:
        return False


def holds_labels(array: np.ndarray, most: int) -> bool:
    """Say whether an array, shape (z, y, x), holds whole numbers alone, at most so many different ones."""
    values = array.ravel()
    for some in (values[:: _SAMPLED**2], values[::_SAMPLED], values):  # samples first: fast, and enough for a scan
        labels = np.unique(some)
        if labels.size > most or not np.array_equal(labels, np.rint(labels)):
            return False
    return True


def _named(scans: list[Path], folder: Path) -> dict[str, Path]:
    """Return scans by what their results are named after: the path without suffix, with it where two would be alike."""
    plain = [path.parent / stem(path) for path in scans]
    counts = Counter(plain)
    names = [name if counts[name] == 1 else path for name, path in zip(plain, scans, strict=True)]
    told = [stem(folder) if name == folder else name.relative_to(folder).as_posix() for name in names]
    return dict(zip(map(in_utf8, told), scans, strict=True))


def _modalities(scans: list[Path]) -> Counter[str]:
    """Count scans by ending, if some case has several that are called after modalities."""
    of_case: dict[Path, list[str]] = {}
    for path in scans:
        case, ending = _parts(stem(path))
        if case and _MODALITY.fullmatch(ending):
            of_case.setdefault(path.parent / case, []).append(ending)
    endings = of_case.values() if any(len(set(each)) > 1 for each in of_case.values()) else ()
    return Counter(f"_{ending}" for each in endings for ending in each)


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``1 scan``, ``2 scans``."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def listed(counts: Counter[str]) -> str:
    """Return ``9 _brain, 8 _seg``, the most first; of many the first six."""
    kinds = sorted(((what, count) for what, count in counts.items() if count), key=lambda kind: (-kind[1], kind[0]))
    told = [f"{count} {printable(what)}" for what, count in kinds]
    return ", ".join(told[:_MOST_TOLD]) + (f" and {len(told) - _MOST_TOLD} more kinds" if told[_MOST_TOLD:] else "")
