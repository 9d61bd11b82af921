"""Depth: how far each voxel lies below a form's surface, which soft edges, rims and parts are made of."""

import math

import numpy as np
from numba import njit

from synth.tumour.blend import FULL, INSIDE
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
    return _depth(form.inverse, spacing, offset, shape, form.table, farthest, reach_mm, middle)


@njit(cache=True)
def _depth(
    inverse: np.ndarray, spacing: np.ndarray, offset: np.ndarray, shape: tuple[int, int, int],
    table: np.ndarray, farthest: float, reach: float, middle: float,
) -> np.ndarray:  # fmt: skip
    found = np.full(shape, FAR)
    height, width = shape[1], shape[2]
    xs = offset[2] + np.arange(width) * spacing[2]
    # Of a plane's voxels near the form, in the space of the unit sphere; then the pieces of rows that they are.
    a, b, c = np.empty(height * width), np.empty(height * width), np.empty(height * width)
    square, rho, share = np.empty(height * width), np.empty(height * width), np.empty(height * width)
    corners, deep = np.empty(height * width, np.int32), np.empty(height * width, np.float32)
    pieces = np.empty((height, 2), np.int64)
    for k in range(shape[0]):
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
            first, last = pieces[j, 0], pieces[j, 1]
            found[k, j, first:last] = deep[at : at + last - first]
            at += last - first
    return found


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


@njit(cache=True, inline="always")
def step(at: float) -> float:
    """Rise smoothly from 0 at 0 to 1 at 1."""
    at = min(max(at, 0.0), 1.0)
    return at * at * (3.0 - 2.0 * at)


@njit(cache=True)
def soften(
    deep: np.ndarray, spacing: np.ndarray, offset: np.ndarray, direction: np.ndarray, sharp: float, diffuse: float
) -> np.ndarray:
    """Turn depths into an edge, as a layer keeps it: half of the weight on the surface, `diffuse` mm wide on one side.

    Parameters
    ----------
    deep : ndarray of float32, shape (z, y, x)
        In mm.
    spacing, offset : ndarray of float64, shape (3,)
        Voxel sides, and the first voxel's place from the centre, in mm.
    direction : ndarray of float64, shape (3,)
        Unit vector to the diffuse side.
    sharp, diffuse : float
        Widths in mm, over which the weight rises from 0 to 1.
    """
    edge = np.zeros(deep.shape, np.uint8)
    most = -0.5 * max(sharp, diffuse)
    least = 1e-6 - most  # from here on inwards the weight is 1, however wide the edge
    for k in range(deep.shape[0]):
        z = offset[0] + k * spacing[0]
        for j in range(deep.shape[1]):
            y = offset[1] + j * spacing[1]
            for i in range(deep.shape[2]):
                at = deep[k, j, i]
                if at <= most:
                    continue
                if at >= least:
                    edge[k, j, i] = FULL + INSIDE
                    continue
                width = sharp
                if diffuse != sharp:
                    x = offset[2] + i * spacing[2]
                    length = math.sqrt(z * z + y * y + x * x)
                    along = z * direction[0] + y * direction[1] + x * direction[2]
                    width += (diffuse - sharp) * step(1.25 * along / max(length, 1e-6))
                weight = step(at / width + 0.5)
                edge[k, j, i] = int(weight * FULL + 0.5) + (INSIDE if at >= 0.0 else 0)
    return edge


@njit(cache=True)
def mean_around(deep: np.ndarray, roi: np.ndarray, own: np.ndarray, shell: float, fluid: float) -> float:
    """Return the mean of the normal's tissue in a shell around a tumour; of what lies there, if there is no tissue.

    Parameters
    ----------
    deep : ndarray of float32, shape (z, y, x)
        In mm.
    roi : ndarray of bool, same shape
    own : ndarray of float32, same shape
        The normal.
    shell : float
        Thickness in mm.
    fluid : float
        What is darker is no tissue.
    """
    sums, counts = np.zeros(3), np.zeros(3)  # tissue in the shell, fluid in the shell, under the tumour
    for k in range(deep.shape[0]):
        for j in range(deep.shape[1]):
            for i in range(deep.shape[2]):
                at = deep[k, j, i]
                if at >= -shell and roi[k, j, i]:
                    which = 2 if at >= 0.0 else 1 if own[k, j, i] < fluid else 0
                    sums[which] += own[k, j, i]
                    counts[which] += 1
    for which in range(3):
        if counts[which] > 0:
            return sums[which] / counts[which]
    return 0.0


@njit(cache=True)
def follow(deep: np.ndarray, roi: np.ndarray, smooth: np.ndarray, by_mm: float) -> np.ndarray:
    """Move a surface outward by so many mm for each unit that `smooth` is darker there than its mean inside.

    By no more than one unit's worth. Sums run in a fixed order, in float64.
    """
    total, count = 0.0, 0
    for k in range(deep.shape[0]):
        for j in range(deep.shape[1]):
            for i in range(deep.shape[2]):
                if deep[k, j, i] >= 0.0 and roi[k, j, i]:
                    total += smooth[k, j, i]
                    count += 1
    middle = total / max(count, 1)
    moved = deep.copy()
    for k in range(deep.shape[0]):
        for j in range(deep.shape[1]):
            for i in range(deep.shape[2]):
                moved[k, j, i] += by_mm * min(max(middle - smooth[k, j, i], -1.0), 1.0)
    return moved
