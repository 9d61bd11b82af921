"""Texture: tau(donor), the donor's tissue made into a tumour's (Zhang et al. 2021, Sec. III-A, Eqs. 3 and 4).

Every kernel works on a box of the network cube, and gives there what it would give on the whole cube.
"""

import numpy as np
from numba import njit

from scans.image.box import Box
from synth.tumour.blur import whole_rows


def linear_transform(texture: np.ndarray, ratio: float, normal_mean: float, donor_mean: float) -> np.ndarray:
    """Scale intensities so that the donor's mean becomes ``ratio`` times the normal's (Eq. 4).

    Parameters
    ----------
    texture : ndarray of float32
        Raw, non-negative intensities of the donor.
    ratio : float
        r of Eq. 4.
    normal_mean, donor_mean : float
        Mean raw intensity over the ROI of either source.

    Returns
    -------
    ndarray of float32, same shape
    """
    return texture * np.float32(ratio * normal_mean / donor_mean)


def displacement_field(control: np.ndarray, size: int, box: Box) -> np.ndarray:
    """Evaluate a cubic B-spline deformation over a box.

    Parameters
    ----------
    control : ndarray of float64, shape (3, n, n, n)
        Displacements (z, y, x) of the control points. They span the cube from face to face with ``n - 3``
        cells an axis, as a ``BSplineTransform`` of order 3 in SimpleITK over that domain.
    size : int
        Voxels along a side of the cube.
    box : tuple of slice
        Part of the cube (z, y, x).

    Returns
    -------
    ndarray of float32, shape (3, *box)
        Displacement, in the unit of `control`.
    """
    planes, cell, weights = _spline(control, size, box)
    field = np.zeros((3, len(cell), *planes.shape[2:]), np.float32)
    for tap in range(4):
        field += weights[tap][None, :, None, None] * planes[:, cell + tap]
    return field


def control_displacements(
    units: np.ndarray, control_points: int, max_displacement_mm: float, locked_borders: int
) -> np.ndarray:
    """Spread uniform numbers over the control points that may move.

    Parameters
    ----------
    units : ndarray of float64, shape (3 * control_points**3,)
        Uniform over [0, 1).
    control_points : int
        Along each axis.
    max_displacement_mm : float
        Largest displacement along an axis.
    locked_borders : int
        Outer layers of control points that stay put. Two: those outside the cube and those on its faces.

    Returns
    -------
    ndarray of float64, shape (3, n, n, n)
        Displacements (z, y, x) in mm.
    """
    n = control_points
    control = ((2.0 * units - 1.0) * max_displacement_mm).reshape(3, n, n, n)
    free = np.zeros((n, n, n), bool)
    inner = slice(locked_borders, n - locked_borders)
    free[inner, inner, inner] = True
    return np.where(free, control, 0.0)


def warp(
    donor: np.ndarray,
    box: Box,
    shift: tuple[int, int, int],
    control_vox: np.ndarray | None,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Sample the donor at displaced positions, linearly; beyond its cube, its edge goes on.

    Parameters
    ----------
    donor : ndarray of float32, shape (size, size, size)
    box : tuple of slice
        Where the texture is wanted.
    shift : tuple of int
        Added to every position, voxels (z, y, x).
    control_vox : ndarray of float64, shape (3, n, n, n), or None
        Control points of the elastic deformation, in voxels, see `displacement_field`.
    rows : ndarray of int32, shape (z, y, 2), optional
        Of the box: where the texture is wanted, see `synth.tumour.blur`; all of it if not given.

    Returns
    -------
    ndarray of float32, shape of `box`
        Where none is wanted, some finite number.

    Notes
    -----
    The spline is separable: it is summed over y and x once per box (16 multiplications for each of n planes), over z
    at each voxel (12), all in float32. Tested against `displacement_field` and SimpleITK.
    """
    z, y, x = (
        np.arange(part.start + offset, part.stop + offset, dtype=np.float32)
        for part, offset in zip(box, shift, strict=True)
    )
    if control_vox is None:
        at = (np.clip(axis, 0, side - 1).astype(int) for axis, side in zip((z, y, x), donor.shape, strict=True))
        return donor[np.ix_(*at)]
    rows = whole_rows((len(z), len(y), len(x))) if rows is None else rows
    return _warp(donor, z, y, x, *_spline(control_vox, donor.shape[0], box), rows)


def _spline(control: np.ndarray, size: int, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a spline summed over y and x of a box, and the planes and weights that z takes of it."""
    (cell, weights), *others = (_bspline(part, size, control.shape[1]) for part in box)
    return _planes(control.astype(np.float32), *others[0], *others[1]), cell, weights


def _bspline(part: slice, size: int, control_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of the four control points that move each voxel, and their weights, float32 (4, voxels)."""
    cells = control_points - 3
    u = (np.arange(part.start, part.stop) + 0.5) * (cells / size)  # the cube's face is half a voxel before its centre
    cell = np.minimum(np.floor(u).astype(int), cells - 1)
    t = u - cell
    basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
    return cell, (basis / 6.0).astype(np.float32)


@njit(cache=True)
def _planes(
    control: np.ndarray, cell_y: np.ndarray, weight_y: np.ndarray, cell_x: np.ndarray, weight_x: np.ndarray
) -> np.ndarray:
    """Sum the spline over y and x: float32, shape (3, n, y, x)."""
    n = control.shape[1]
    rows = np.empty((3, n, n, len(cell_x)), np.float32)
    planes: np.ndarray = np.empty((3, n, len(cell_y), len(cell_x)), np.float32)
    for axis in range(3):
        for k in range(n):
            for j in range(n):
                for i in range(len(cell_x)):
                    row, c = control[axis, k, j], cell_x[i]
                    rows[axis, k, j, i] = (
                        weight_x[0, i] * row[c] + weight_x[1, i] * row[c + 1]
                        + weight_x[2, i] * row[c + 2] + weight_x[3, i] * row[c + 3]
                    )  # fmt: skip
            for j in range(len(cell_y)):
                c = cell_y[j]
                w0, w1, w2, w3 = weight_y[0, j], weight_y[1, j], weight_y[2, j], weight_y[3, j]
                for i in range(len(cell_x)):
                    planes[axis, k, j, i] = (
                        w0 * rows[axis, k, c, i] + w1 * rows[axis, k, c + 1, i]
                        + w2 * rows[axis, k, c + 2, i] + w3 * rows[axis, k, c + 3, i]
                    )  # fmt: skip
    return planes


@njit(cache=True, inline="always")
def _clamp(position: np.float32, edge: np.float32) -> np.float32:
    return min(max(position, np.float32(0)), edge)


@njit(cache=True)
def _warp(
    donor: np.ndarray, zs: np.ndarray, ys: np.ndarray, xs: np.ndarray,
    planes: np.ndarray, cell: np.ndarray, weights: np.ndarray, rows: np.ndarray,
) -> np.ndarray:  # fmt: skip
    size = donor.shape[0]
    edge, inner = np.float32(size - 1), np.int32(size - 2)
    voxels, width = donor.reshape(-1), len(xs)
    # Unsigned, so that no index is tested for counting from the end.
    one, below, behind = np.uintp(1), np.uintp(size), np.uintp(size * size)
    warped: np.ndarray = np.zeros((len(zs), len(ys), width), np.float32)
    corner = np.empty(width, np.int32)
    fz, fy, fx = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for k in range(len(zs)):
        n, w0, w1, w2, w3 = cell[k], weights[0, k], weights[1, k], weights[2, k], weights[3, k]
        for j in range(len(ys)):
            wanted = rows[k, j, 1] - rows[k, j, 0]
            if wanted <= 0:
                continue
            z0s, z1s, z2s, z3s = planes[0, n, j], planes[0, n + 1, j], planes[0, n + 2, j], planes[0, n + 3, j]
            y0s, y1s, y2s, y3s = planes[1, n, j], planes[1, n + 1, j], planes[1, n + 2, j], planes[1, n + 3, j]
            x0s, x1s, x2s, x3s = planes[2, n, j], planes[2, n + 1, j], planes[2, n + 2, j], planes[2, n + 3, j]
            # Two passes a row: the arithmetic of positions is vectorised, and costs as much for a part as for all;
            # the gathering of voxels cannot be.
            for i in range(width):
                z = _clamp(zs[k] + (((w0 * z0s[i] + w1 * z1s[i]) + w2 * z2s[i]) + w3 * z3s[i]), edge)
                y = _clamp(ys[j] + (((w0 * y0s[i] + w1 * y1s[i]) + w2 * y2s[i]) + w3 * y3s[i]), edge)
                x = _clamp(xs[i] + (((w0 * x0s[i] + w1 * x1s[i]) + w2 * x2s[i]) + w3 * x3s[i]), edge)
                z0, y0, x0 = min(np.int32(z), inner), min(np.int32(y), inner), min(np.int32(x), inner)
                fz[i], fy[i], fx[i] = z - np.float32(z0), y - np.float32(y0), x - np.float32(x0)
                corner[i] = (z0 * np.int32(size) + y0) * np.int32(size) + x0
            row, first = warped[k, j], np.uintp(rows[k, j, 0])
            for step in range(wanted):
                own = first + np.uintp(step)
                at, x, y, z = np.uintp(corner[own]), fx[own], fy[own], fz[own]
                a, b, c, d = voxels[at], voxels[at + one], voxels[at + below], voxels[at + below + one]
                at += behind
                e, f, g, h = voxels[at], voxels[at + one], voxels[at + below], voxels[at + below + one]
                a, c, e, g = a + x * (b - a), c + x * (d - c), e + x * (f - e), g + x * (h - g)
                a, e = a + y * (c - a), e + y * (g - e)
                row[own] = a + z * (e - a)
    return warped
