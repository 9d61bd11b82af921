"""Depth: how far each voxel lies below a form's surface, which soft edges, rims and parts are made of."""

import math

import numpy as np
from numba import njit

from synth.tumour.shape import Form, chord, to_sphere
from synth.tumour.surface import estimate

FAR = np.float32(-1e6)  # of voxels that are further outside than asked


def depth(
    form: Form,
    spacing_mm: tuple[float, float, float],
    offset_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
    reach_mm: float,
) -> np.ndarray:
    """Measure how deep each voxel of a box lies inside a form, along the ray from its centre.

    Parameters
    ----------
    form : Form
    spacing_mm : tuple of float
        Voxel sides (z, y, x).
    offset_mm : tuple of float
        From the form's centre to the box's first voxel (z, y, x).
    shape : tuple of int
        Voxels of the box (z, y, x).
    reach_mm : float
        How far outside the form a depth is wanted.

    Returns
    -------
    ndarray of float32, shape `shape`
        In mm: 0 on the surface, positive inside, negative outside, `FAR` beyond the reach.

    Notes
    -----
    The surface is that of the form's table, interpolated; no noise is asked. Voxels outside an ellipsoid around form
    and reach cost nothing, the others a dozen multiplications, two divisions and two roots.
    """
    narrowest = float(np.sqrt((form.inverse**2).sum(axis=1)).max())  # one over the shortest semi-axis
    farthest = float(form.table.max()) + reach_mm * narrowest
    middle = float(form.table.min()) / narrowest
    spacing, offset = np.asarray(spacing_mm, np.float64), np.asarray(offset_mm, np.float64)
    found = np.full(shape, FAR)
    _depth(form.inverse, spacing, offset, form.table, farthest, reach_mm, middle, found)
    return found


@njit(cache=True)
def _depth(
    inverse: np.ndarray, spacing: np.ndarray, offset: np.ndarray, table: np.ndarray,
    farthest: float, reach: float, middle: float, found: np.ndarray,
) -> None:  # fmt: skip
    height, width = found.shape[1], found.shape[2]
    xs = offset[2] + np.arange(width) * spacing[2]
    # Of a plane's voxels near the form, in the space of the unit sphere; then the pieces of rows that they are.
    a, b, c = np.empty(height * width), np.empty(height * width), np.empty(height * width)
    square, rho, share = np.empty(height * width), np.empty(height * width), np.empty(height * width)
    corners, deep = np.empty(height * width, np.int32), np.empty(height * width, np.float32)
    pieces = np.empty((height, 2), np.int64)
    for k in range(len(found)):
        z, count = offset[0] + k * spacing[0], 0
        for j in range(height):
            y = offset[1] + j * spacing[1]
            first, last = chord(inverse, z, y, xs[0], spacing[2], width, farthest * farthest, 1)
            pieces[j, 0], pieces[j, 1] = first, max(first, last)
            own, x = slice(count, count + pieces[j, 1] - first), xs[first : pieces[j, 1]]
            to_sphere(inverse, z, y, x, a[own], b[own], c[own])
            for i in range(len(x)):
                square[count + i] = z * z + y * y + x[i] * x[i]
            count += len(x)
        estimate(table, a[:count], b[:count], c[:count], rho[:count], share[:count], corners[:count])
        _depths(a[:count], b[:count], c[:count], square[:count], rho[:count], reach, middle, deep[:count])
        at = 0
        for j in range(height):
            row = found[k, j, pieces[j, 0] : pieces[j, 1]]
            depths = deep[at : at + len(row)]
            for i in range(len(row)):
                row[i] = depths[i]
            at += len(row)


@njit(cache=True)
def _depths(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, square: np.ndarray, rho: np.ndarray,
    reach: float, middle: float, found: np.ndarray,
) -> None:  # fmt: skip
    """Write how deep points lie: in the space of the unit sphere, and the square of their distance in mm."""
    for i in range(len(found)):
        t = math.sqrt(a[i] * a[i] + b[i] * b[i] + c[i] * c[i])
        deep = math.sqrt(square[i]) * (rho[i] / max(t, 1e-6) - 1.0)
        deep = deep if t >= 1e-6 else middle  # the centre has no direction: its depth is the least it can be
        found[i] = np.float32(deep) if deep >= -reach else FAR
