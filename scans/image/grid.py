"""A grid: where the voxels of a volume lie in space."""

from dataclasses import dataclass

import numpy as np

from scans.image.box import Box


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie.

    Attributes
    ----------
    shape : tuple of int
        Voxels along (z, y, x).
    spacing_mm : tuple of float
        Voxel spacing (z, y, x) in mm.
    origin : tuple of float
        Centre of the first voxel, (x, y, z) in mm, LPS.
    direction : tuple of float
        ITK's nine direction cosines, row major: columns are the axes x, y, z.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @property
    def affine(self) -> np.ndarray:
        """Map from voxel indices (x, y, z) to (x, y, z) in mm, float64, shape (4, 4)."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.direction, (3, 3)) * np.array(self.spacing_mm[::-1])
        affine[:3, 3] = self.origin
        return affine

    @property
    def itk_direction(self) -> tuple[float, ...]:
        """The direction cosines to 12 digits: a cosine of 1e-300 makes ITK's inverse wrong, without an error."""
        return tuple(np.round(self.direction, 12).tolist())

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in mm³."""
        return float(np.prod(self.spacing_mm))

    def part(self, box: Box) -> "Grid":
        """Return the grid of the voxels in a box (z, y, x)."""
        z, y, x = box
        origin = self.affine @ [x.start, y.start, z.start, 1.0]
        ox, oy, oz = origin[:3].tolist()
        shape = (z.stop - z.start, y.stop - y.start, x.stop - x.start)
        return Grid(shape, self.spacing_mm, (ox, oy, oz), self.direction)

    def corners(self) -> np.ndarray:
        """Return the centres of the eight corner voxels, (x, y, z) in mm, float64, shape (8, 3)."""
        z, y, x = (n - 1 for n in self.shape)
        indices = np.array([[i, j, k, 1.0] for i in (0, x) for j in (0, y) for k in (0, z)])
        return (indices @ self.affine.T)[:, :3]

    @property
    def readings(self) -> tuple["Grid", ...]:
        """Where the voxels lie to one software or another: here only."""
        return (self,)

    def distance_voxels(self, other: "Grid") -> float:
        """Return how far apart the two grids' corners are at most, in voxels of the finer side."""
        pairs = ((a.corners(), b.corners()) for a in self.readings for b in other.readings)
        return min(float(np.linalg.norm(a - b, axis=1).max()) for a, b in pairs) / min(self.spacing_mm)

    def matches(self, other: "Grid", tolerance: float = 0.1) -> bool:
        """Tell whether the voxels of `other` lie on these, within `tolerance` voxels."""
        return self.shape == other.shape and self.distance_voxels(other) <= tolerance


class UnplacedGrid(Grid):
    """The grid of a file that does not state where its voxels lie: nibabel's reading, which ITK does not share.

    Masks that either made of such a scan lie on its voxels.
    """

    @property
    def readings(self) -> tuple[Grid, ...]:
        """The grid as nibabel has it, and as ITK has it."""
        return self, Grid(self.shape, self.spacing_mm, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
