"""Place: where a form sits in the normal, and what the ROI leaves of it."""

import math

import numpy as np

from scans.region import Elastic
from synth.philox import Stream
from synth.sample import Box
from synth.shape import Form, half_box, rasterise
from synth.texture import control_displacements, displacement_field


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
        self._control = elastic_control(elastic, elastic_seed) if elastic.enabled and elastic.mask else None
        self._reach = [math.ceil(elastic.max_displacement_mm / side) for side in spacing_mm]
        half = half_box(form, spacing_mm)
        start, shape = tuple(-n for n in half), tuple(2 * n + 1 for n in half)
        voxels = rasterise(form, spacing_mm, start, shape)  # type: ignore[arg-type]
        # The box above is safe, not tight; what follows costs by the voxel, so it works on a tight one.
        hits = [np.flatnonzero(voxels.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        self._voxels = voxels[tuple(slice(hit[0], hit[-1] + 1) for hit in hits)]
        self._start = [first + int(hit[0]) for first, hit in zip(start, hits, strict=True)]
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
        size = self._roi.shape[0]
        tight = [slice(c + s, c + s + n) for c, s, n in zip(centre, self._start, self._voxels.shape, strict=True)]
        if self._control is None:
            box = clip((tight[0], tight[1], tight[2]), [0, 0, 0], size)
            z, y, x = (slice(b.start - t.start, b.stop - t.start) for b, t in zip(box, tight, strict=True))
            voxels = self._voxels[z, y, x]
        else:
            box = clip((tight[0], tight[1], tight[2]), self._reach, size)
            start = tuple(part.start - middle for part, middle in zip(box, centre, strict=True))
            field = displacement_field(self._control, size, box)
            voxels = rasterise(self._form, self._spacing_mm, start, field.shape[1:], field)
        mask = voxels * self._roi[box]
        return box, mask, int(mask.sum()) / self._count


def clip(box: Box, by: list[int], size: int) -> Box:
    """Return a box that reaches `by` voxels (z, y, x) further on each side, cut to the cube."""
    z, y, x = (slice(max(part.start - n, 0), min(part.stop + n, size)) for part, n in zip(box, by, strict=True))
    return z, y, x


def elastic_control(elastic: Elastic, seed: int) -> np.ndarray:
    """Return the displacements in mm of the control points, float64, shape (3, n, n, n)."""
    n = elastic.control_points
    units = Stream(seed, 0).units(3 * n**3)
    return control_displacements(units, n, elastic.max_displacement_mm, elastic.locked_borders)
