"""Texture: tau(donor), the donor's tissue made into a tumour's (Zhang et al. 2021, Sec. III-A, Eqs. 3 and 4).

Every kernel works on a box of the network cube, and gives there what it would give on the whole cube.
"""

import math

import numpy as np
from numba import njit

from synth.sample import Box


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


def displacement_field(control_mm: np.ndarray, size: int, box: Box) -> np.ndarray:
    """Evaluate a cubic B-spline deformation over a box.

    Parameters
    ----------
    control_mm : ndarray of float64, shape (3, n, n, n)
        Displacements (z, y, x) of the control points. They span the cube from face to face with ``n - 3``
        cells an axis, as a ``BSplineTransform`` of order 3 in SimpleITK over that domain.
    size : int
        Voxels along a side of the cube.
    box : tuple of slice
        Part of the cube (z, y, x).

    Returns
    -------
    ndarray of float32, shape (3, *box)
        Displacement in mm.

    Notes
    -----
    Separable: the weights of an axis are computed once per plane, not per voxel.
    """
    field = control_mm
    for axis, part in enumerate(box, start=1):
        weights = _bspline_weights(np.arange(part.start, part.stop), size, control_mm.shape[1])
        field = np.moveaxis(_contract(weights, np.moveaxis(field, axis, 0)), 0, axis)
    return np.ascontiguousarray(field, np.float32)


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
    spacing_mm: tuple[float, float, float],
    shift: tuple[int, int, int],
    displacement_mm: np.ndarray | None,
) -> np.ndarray:
    """Sample the donor at displaced positions, linearly; beyond its cube, its edge goes on.

    Parameters
    ----------
    donor : ndarray of float32, shape (z, y, x)
    box : tuple of slice
        Where the texture is wanted.
    spacing_mm : tuple of float
        Voxel sides (z, y, x) of the frame in which displacements are meant.
    shift : tuple of int
        Added to every position, voxels (z, y, x).
    displacement_mm : ndarray of float32, shape (3, *box), or None

    Returns
    -------
    ndarray of float32, shape of `box`
    """
    starts = np.array([part.start + offset for part, offset in zip(box, shift, strict=True)], np.int64)
    if displacement_mm is None:
        z, y, x = (
            np.clip(start + np.arange(part.stop - part.start), 0, side - 1)
            for start, part, side in zip(starts, box, donor.shape, strict=True)
        )
        return donor[np.ix_(z, y, x)]
    return _warp(donor, starts, np.asarray(spacing_mm, np.float64), displacement_mm)


def gaussian_blur(texture: np.ndarray, sigma_vox: tuple[float, float, float]) -> np.ndarray:
    """Blur by a Gaussian cut at four standard deviations; at the edge, the edge voxel goes on.

    Parameters
    ----------
    texture : ndarray of float32, shape (z, y, x)
    sigma_vox : tuple of float
        Standard deviations in voxels (z, y, x): mm divided by the voxel's side, so that anisotropic voxels
        are blurred evenly in space.

    Returns
    -------
    ndarray of float32, same shape
        As ``scipy.ndimage.gaussian_filter(mode="nearest", truncate=4)``.
    """
    for axis, sigma in enumerate(sigma_vox):
        if blur_radius(sigma):
            texture = np.moveaxis(
                _blur_first_axis(np.ascontiguousarray(np.moveaxis(texture, axis, 0)), _gaussian_weights(sigma)), 0, axis
            )
    return np.ascontiguousarray(texture)


def blur_radius(sigma_vox: float) -> int:
    """Return how many voxels away a Gaussian of `sigma_vox` still reaches."""
    return int(4.0 * sigma_vox + 0.5)


def _gaussian_weights(sigma: float) -> np.ndarray:
    radius = blur_radius(sigma)
    weights = np.array([math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)])
    # float32 here and not later: exp differs in the last bit of a float64 between machines
    return (weights / math.fsum(weights)).astype(np.float32)


def _bspline_weights(positions: np.ndarray, size: int, control_points: int) -> np.ndarray:
    """Return each control point's weight at each voxel, float64, shape (len(positions), control_points)."""
    cells = control_points - 3
    u = (positions + 0.5) * (cells / size)  # the cube's face is half a voxel beyond its first centre
    cell = np.minimum(np.floor(u).astype(int), cells - 1)
    t = u - cell
    basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1)
    weights = np.zeros((len(positions), control_points))
    for k in range(4):
        weights[np.arange(len(positions)), cell + k] = basis[:, k] / 6.0
    return weights


def _contract(weights: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Sum over the first axis of `field` in a fixed order: a matrix product's order is the library's choice."""
    shape = (weights.shape[0], *field.shape[1:])
    return _weighted_sums(weights, np.ascontiguousarray(field.reshape(field.shape[0], -1))).reshape(shape)


@njit(cache=True)
def _weighted_sums(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    sums = np.zeros((weights.shape[0], rows.shape[1]))
    for i in range(weights.shape[0]):
        for k in range(weights.shape[1]):
            weight = weights[i, k]
            if weight != 0.0:
                for j in range(rows.shape[1]):
                    sums[i, j] += weight * rows[k, j]
    return sums


@njit(cache=True)
def _blur_first_axis(texture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    depth = texture.shape[0]
    radius = len(weights) // 2
    rows = texture.reshape(depth, -1)
    blurred = np.zeros_like(rows)
    for i in range(depth):
        for k in range(len(weights)):
            source = min(max(i + k - radius, 0), depth - 1)
            weight = weights[k]
            for j in range(rows.shape[1]):
                blurred[i, j] += weight * rows[source, j]
    return blurred.reshape(texture.shape)


@njit(cache=True)
def _warp(donor: np.ndarray, starts: np.ndarray, spacing: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    depth, height, width = donor.shape
    warped: np.ndarray = np.empty(displacement.shape[1:], np.float32)
    for k in range(warped.shape[0]):
        for j in range(warped.shape[1]):
            for i in range(warped.shape[2]):
                z = min(max(starts[0] + k + displacement[0, k, j, i] / spacing[0], 0.0), depth - 1.0)
                y = min(max(starts[1] + j + displacement[1, k, j, i] / spacing[1], 0.0), height - 1.0)
                x = min(max(starts[2] + i + displacement[2, k, j, i] / spacing[2], 0.0), width - 1.0)
                z0, y0, x0 = min(int(z), depth - 2), min(int(y), height - 2), min(int(x), width - 2)
                fz, fy, fx = z - z0, y - y0, x - x0
                near = (1 - fy) * ((1 - fx) * donor[z0, y0, x0] + fx * donor[z0, y0, x0 + 1]) + fy * (
                    (1 - fx) * donor[z0, y0 + 1, x0] + fx * donor[z0, y0 + 1, x0 + 1]
                )
                far = (1 - fy) * ((1 - fx) * donor[z0 + 1, y0, x0] + fx * donor[z0 + 1, y0, x0 + 1]) + fy * (
                    (1 - fx) * donor[z0 + 1, y0 + 1, x0] + fx * donor[z0 + 1, y0 + 1, x0 + 1]
                )
                warped[k, j, i] = (1 - fz) * near + fz * far
    return warped
