"""Place: where a form sits in the normal, and what the ROI leaves of it."""

import numpy as np

from scans.region import Elastic
from synth.philox import Stream
from synth.shape import Form, half_box, rasterise
from synth.texture import Box, control_displacements, displacement_field


class Stamp:
    """A form cut into voxels once, to be tried at many centres of one normal.

    Parameters
    ----------
    form : Form
    roi : ndarray of bool, shape (z, y, x)
        Where a tumour may be visible.
    spacing_mm : tuple of float
        Voxel sides (z, y, x).
    elastic : Elastic
        With ``mask`` set, the mask is warped as the donor is; it then depends on where it is placed.
    elastic_seed : int
    """

    def __init__(
        self,
        form: Form,
        roi: np.ndarray,
        spacing_mm: tuple[float, float, float],
        elastic: Elastic,
        elastic_seed: int,
    ) -> None:
        self._form, self._roi, self._spacing_mm = form, roi, spacing_mm
        self._warped = elastic.enabled and elastic.mask
        self._control = elastic_control(elastic, elastic_seed) if self._warped else None
        self._half = half_box(form, spacing_mm, elastic.max_displacement_mm if self._warped else 0.0)
        z, y, x = self._half
        self._voxels = rasterise(form, spacing_mm, (-z, -y, -x), (2 * z + 1, 2 * y + 1, 2 * x + 1))
        self._count = int(self._voxels.sum())

    def place(self, centre: tuple[int, int, int]) -> tuple[Box, np.ndarray, float]:
        """Put the form at a centre voxel and cut it to the ROI.

        Parameters
        ----------
        centre : tuple of int
            Centre voxel (z, y, x).

        Returns
        -------
        box : tuple of slice
            Part of the cube that holds the whole form.
        mask : ndarray of uint8, shape of `box`
        kept : float
            Voxels of the mask over voxels of the whole form.
        """
        box, inside = self._clip(centre)
        if self._control is None:
            voxels = self._voxels[inside]
        else:
            z, y, x = (part.start - middle for part, middle in zip(box, centre, strict=True))
            field = displacement_field(self._control, self._roi.shape[0], box)
            voxels = rasterise(self._form, self._spacing_mm, (z, y, x), field.shape[1:], field)
        mask = voxels * self._roi[box]
        return box, mask, int(mask.sum()) / self._count

    def _clip(self, centre: tuple[int, int, int]) -> tuple[Box, Box]:
        """Return the box in the cube, and the same box in the stamp."""
        cube, stamp = [], []
        for middle, half, side in zip(centre, self._half, self._roi.shape, strict=True):
            start, stop = max(middle - half, 0), min(middle + half + 1, side)
            cube.append(slice(start, stop))
            stamp.append(slice(start - middle + half, stop - middle + half))
        return (cube[0], cube[1], cube[2]), (stamp[0], stamp[1], stamp[2])


def elastic_control(elastic: Elastic, seed: int) -> np.ndarray:
    """Return the displacements in mm of the control points, float64, shape (3, n, n, n)."""
    n = elastic.control_points
    units = Stream(seed, 0).units(3 * n**3)
    return control_displacements(units, n, elastic.max_displacement_mm, elastic.locked_borders)
