"""3D rotation (Taleb et al. 2020): tell by which of ten rotations the scan was turned."""

import numpy as np

from train.data.random_bits import Draws
from train.proxies.classifier import Classification
from train.proxies.normals import NormalScan

PLANES = ((1, 2), (0, 2), (0, 1))  # the axes of (z, y, x) that a rotation about z, y or x mixes
CLASSES = 1 + 3 * len(PLANES)  # not at all; by 90, 180 or 270 degrees about each axis


def rotate(volume: np.ndarray, label: int) -> np.ndarray:
    """Turn a cube, shape (..., z, y, x), by rotation 0 (not at all) to 9.

    1 to 3 are quarter turns about z, 4 to 6 about y, 7 to 9 about x.
    """
    if label == 0:
        return volume
    axis, quarters = divmod(label - 1, 3)
    first, second = (volume.ndim - 3 + along for along in PLANES[axis])
    return np.rot90(volume, quarters + 1, axes=(first, second))


class Rotation(Classification):
    """All ten rotations are equally likely."""

    classes = CLASSES

    def example(self, scan: NormalScan, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Return the turned scan, float32 (1, C, z, y, x), and the number of its rotation."""
        label = draws.integer(0, CLASSES - 1)
        return np.ascontiguousarray(rotate(scan.voxels, label))[None], np.array(label)
