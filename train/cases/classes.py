"""Several classes in one label map, and back: a class is a set of label values, and classes may lie in one another.

BraTS marks oedema by 2, the core by 1, its enhancing part by 4; the whole tumour is all three, the core 1 and 4. A
network has a mask for each class. A voxel gets the label that stands for just the classes found there. Where no label
does, because a part was found outside of what it is a part of, the innermost class decides, as in BraTS: enhancing
tumour outside the core becomes 4, which is core and whole tumour too. The masks that count, for volumes and scores, are
those read back from the label map through the same classes; writing them again gives the same map.
"""

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from scans.catalog.settings import one_line
from scans.catalog.task import Label
from scans.errors import CheckpointError
from train.settings import Network, recorded

Classes = Mapping[str, tuple[int, ...] | None]  # label values of each class by name; None: any but 0
TUMOUR: Classes = {"tumour": None}  # what a network with one mask finds: its label map is 0 and 1

_RECORDED = TypeAdapter(dict[str, tuple[Label, ...] | None])
_WRITTEN = (np.uint8, np.int16, np.uint16, np.int32)


def recorded_classes(network: dict[str, Any], data: Mapping[str, Any], where: str) -> Classes:
    """Return the classes of a record's network, in the order of its masks; `TUMOUR` for a single one.

    Parameters
    ----------
    network, data
        Of the record.
    where : str
        The checkpoint, for errors.

    Raises
    ------
    CheckpointError
        If several masks are not named, each with its labels.
    """
    masks = recorded(Network, network, where).classes
    if masks == 1:
        return TUMOUR
    classes = trained_classes(data, where)
    if len(classes) != masks or () in classes.values():
        raise CheckpointError(f"{where}: its record is damaged ({len(classes)} classes with labels, {masks} masks)")
    return classes


def trained_classes(data: Mapping[str, Any], where: str) -> Classes:
    """Return the classes that a network was fine-tuned on, as its record names them.

    Raises
    ------
    CheckpointError
        If they are not names with labels.
    """
    try:
        return _RECORDED.validate_python(data.get("classes"))
    except ValidationError as error:
        raise CheckpointError(f"{where}: its record is damaged (classes: {one_line(error)})") from error


def labels_of(masks: np.ndarray, classes: Classes) -> np.ndarray:
    """Return the label map of some masks.

    Parameters
    ----------
    masks : ndarray of bool, shape (K, z, y, x)
        One a class.
    classes : Classes

    Returns
    -------
    ndarray of uint8, or of the first of int16, uint16 and int32 that holds all labels, shape (z, y, x)
        0 where no class is found.
    """
    stands_for = _label_of_classes(classes)
    ranges = [(kind, np.iinfo(kind)) for kind in _WRITTEN]
    kind = next(k for k, r in ranges if all(r.min <= label <= r.max for label in stands_for.values()))
    written = np.zeros(masks.shape[1:], kind)
    found = masks.any(axis=0)
    codes = np.zeros(np.count_nonzero(found), np.uint64)
    for position, mask in enumerate(masks):
        codes |= mask[found].astype(np.uint64) << np.uint64(position)
    each, where = np.unique(codes, return_inverse=True)
    found_in = (frozenset(p for p in range(len(classes)) if int(code) >> p & 1) for code in each)
    wanted = [_label(classes_there, stands_for, classes) for classes_there in found_in]
    written[found] = np.array(wanted, written.dtype)[where] if wanted else 0
    return written


def masks_of(labels: np.ndarray, classes: Classes) -> np.ndarray:
    """Return the mask of each class in a label map, bool (K, z, y, x)."""
    return np.stack([labels != 0 if some is None else np.isin(labels, some) for some in classes.values()])


def outside_in(classes: Classes) -> dict[int, list[int]]:
    """Return the position of each class, outer ones first, with the positions of those it lies in."""
    values = list(classes.values())
    ordered = sorted(range(len(values)), key=lambda position: _rank(values, position))
    return {
        inner: [outer for outer in ordered[:place] if _within(values[inner], values[outer])]
        for place, inner in enumerate(ordered)
    }


def whole(classes: Classes) -> str | None:
    """Return the name of the class that all others lie in; None if there is none."""
    named = ((name, some) for name, some in classes.items())
    return next((name for name, some in named if all(_within(each, some) for each in classes.values())), None)


def _within(inner: tuple[int, ...] | None, outer: tuple[int, ...] | None) -> bool:
    return outer is None or (inner is not None and set(inner) <= set(outer))


def _rank(values: list[tuple[int, ...] | None], position: int) -> tuple[float, int]:
    """Order classes from the outermost to the innermost: by the number of labels, then as they are listed."""
    some = values[position]
    return -float("inf") if some is None else -len(set(some)), position


def _label_of_classes(classes: Classes) -> dict[frozenset[int], int]:
    """Return the label that stands for each set of classes (positions), the smallest where several do."""
    values = list(classes.values())
    named = sorted({label for some in values if some is not None for label in some})
    if None in values:
        named.append(next(label for label in count(1) if label not in named))
    found: dict[frozenset[int], int] = {}
    for label in named:
        inside = (p for p, some in enumerate(values) if (label != 0 if some is None else label in some))
        found.setdefault(frozenset(inside), label)
    return found


def _label(found: frozenset[int], stands_for: dict[frozenset[int], int], classes: Classes) -> int:
    """Return the label of a voxel in which these classes were found, one at least."""
    if found in stands_for:
        return stands_for[found]
    values = list(classes.values())
    innermost = max(found, key=lambda position: _rank(values, position))
    return min((len(of), label) for of, label in stands_for.items() if innermost in of)[1]
