"""Clean a label map, class by class: connected parts, the largest of them, those large enough."""

import numpy as np

from scans.image.box import tight_box
from scans.image.components import keep_parts
from scans.image.volume import Volume
from train.cases.classes import TUMOUR, Classes, labels_of, masks_of, outside_in


def clean(
    labels: Volume, classes: Classes = TUMOUR, *, largest: bool = False, of_largest: float = 0.0, least_ml: float = 0.0
) -> Volume:
    """Leave out parts of each class; what lies in another class is cleaned within what is left of that.

    Parameters
    ----------
    labels : Volume
        Label map in the scan's own grid; of a single class 0 and 1.
    classes : Classes
    largest : bool
        Keep the largest part alone.
    of_largest : float
        Keep parts of at least this share of the largest one's volume.
    least_ml : float
        Keep parts of at least this volume.

    Returns
    -------
    Volume
        On the same grid.
    """
    if not labels.array.any():
        return labels
    box = tight_box(labels.array)
    masks = masks_of(labels.array[box], classes)
    for inner, outer in outside_in(classes).items():
        masks[inner] &= masks[outer].all(axis=0)
        keep_parts(
            masks[inner],
            largest=largest,
            of_largest=of_largest,
            least_ml=least_ml,
            voxel_mm3=labels.grid.voxel_mm3,
        )
    cleaned = labels_of(masks, classes)
    whole = labels.with_array(np.zeros(labels.array.shape, cleaned.dtype))
    whole.array[box] = cleaned
    return whole
