"""3D relative patch location (Taleb et al. 2020): tell on which of 26 sides of the centre a patch lies."""

import numpy as np

from train.data.random_bits import Draws
from train.proxies.normals import NormalScan
from train.proxies.patches import CENTRE, COUNT, PatchTask, cut


class PatchLocation(PatchTask):
    """The 27 cells of a scan but the one in the middle are equally likely.

    Parameters
    ----------
    size : int
        Voxels along a side of the scans.
    """

    pieces = 2
    classes = COUNT - 1

    def example(self, scan: NormalScan, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Return the central patch and another, float32 (2, C, side, side, side), and which cell that is from.

        Cells are counted without the central one, 0 to 25.
        """
        patches = cut(scan.voxels, draws)
        label = draws.integer(0, self.classes - 1)
        cell = label if label < CENTRE else label + 1
        return patches[[CENTRE, cell]], np.array(label)
