"""A scan cut into 3 by 3 by 3 patches that do not touch, and what proxy tasks on them share."""

import numpy as np

from train.data.random_bits import Draws
from train.proxies.classifier import SMALLEST, Classification, Classifier
from train.settings import Network, SettingsError

ACROSS = 3
COUNT = ACROSS**3
CENTRE = COUNT // 2


def patch_side(size: int) -> int:
    """Return the side of a patch in voxels: six sevenths of a cell, so that edges do not tell who neighbours whom.

    Raises
    ------
    SettingsError
        If cubes of `size` voxels have no room for patches that the encoder can take.
    """
    cell = size // ACROSS
    if cell < SMALLEST:
        raise SettingsError(
            f"the corpus has sides of {size} voxels; cut into {ACROSS} they are smaller than {SMALLEST}, the least "
            "that the encoder takes; choose another --proxy or a corpus of larger cubes"
        )
    return max(SMALLEST, cell * 6 // 7)


def cut(volume: np.ndarray, draws: Draws) -> np.ndarray:
    """Cut a patch out of each cell, at a random place in it.

    Parameters
    ----------
    volume : ndarray, shape (C, z, y, x)
        A cube.
    draws : Draws

    Returns
    -------
    ndarray, shape (27, C, side, side, side)
        In the order of cells, x fastest.
    """
    cell, side = volume.shape[-1] // ACROSS, patch_side(volume.shape[-1])
    patches = []
    for place in np.ndindex(ACROSS, ACROSS, ACROSS):
        starts = [along * cell + draws.integer(0, cell - side) for along in place]
        z, y, x = (slice(start, start + side) for start in starts)
        patches.append(volume[:, z, y, x])
    return np.stack(patches)


class PatchTask(Classification):
    """What proxy tasks on patches have in common.

    Parameters
    ----------
    size : int
        Voxels along a side of the scans.
    """

    def __init__(self, size: int) -> None:
        self._side = patch_side(size)

    def side(self, size: int) -> int:
        """Return the side of a patch."""
        return self._side

    def network(self, settings: Network, sources: int) -> Classifier:
        """Return a classifier with random weights; refuse InstanceNorm of a single voxel, which has no deviation."""
        if settings.norm == "instance" and self._side < 2 * SMALLEST:
            raise SettingsError(
                f"--norm instance: pieces of {self._side} voxels leave one voxel at the deepest level; "
                "take a corpus of larger cubes, or --norm batch"
            )
        return super().network(settings, sources)
