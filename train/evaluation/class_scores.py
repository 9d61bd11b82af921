"""What an evaluation scores a network against: each class that it finds, by the labels of a task or dataset."""

import numpy as np

from scans.catalog.catalog import Catalog
from scans.errors import CheckpointError, ScanError
from scans.image.cases import Case
from scans.image.volume import read_masks
from train.cases.classes import TUMOUR, Classes, trained_classes, whole
from train.inference.model import Model


def classes_to_score(model: Model, catalog: Catalog, name: str) -> Classes:
    """Return the labels of each class that a network finds, in the order of its masks.

    Parameters
    ----------
    model : Model
    catalog : Catalog
    name : str
        Of a task, which says them; or of a dataset: those that the network was fine-tuned on there, else whatever the
        label files mark.

    Raises
    ------
    CheckpointError
        If the network finds other classes than are to be scored.
    """
    wanted, data = catalog.task(name), model.record.data
    classes: Classes = wanted.classes
    trained_there = model.record.stage == "finetune" and data.get("dataset") == wanted.dataset
    if name not in catalog.tasks and trained_there and data.get("classes"):
        classes = trained_classes(data, str(model.path))
    if len(classes) == len(model.classes) == 1:
        return dict(zip(TUMOUR, classes.values(), strict=True))
    if set(classes) != set(model.classes):
        raise CheckpointError(
            f"{model.path}: finds {', '.join(model.classes)}, but {name} has the labels of {', '.join(classes)}; "
            "give a --task with the classes that it finds"
        )
    return {each: classes[each] for each in model.classes}


def main_class(classes: Classes) -> str:
    """Return the class that a picture shows and a verdict is about: the one that holds all others, else the first."""
    return whole(classes) or next(iter(classes))


def truths_of(case: Case, classes: Classes) -> dict[str, np.ndarray]:
    """Return the reference mask of each class, bool, on the scan's own grid.

    Raises
    ------
    ScanError
        If there is no label file, or it cannot be read.
    """
    if case.label is None:
        raise ScanError(f"{case.image}: has no label file to score against; see the layout in the catalog")
    masks = read_masks(case.label, classes.values(), kind="label mask")
    return {name: mask.array != 0 for name, mask in zip(classes, masks, strict=True)}
