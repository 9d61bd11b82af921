"""Blur: a Gaussian over a box of the cube, where a form is.

A form fills half of its box, so its tissue is made where it is wanted: in a part of each row along x, from the first
voxel to one past the last, int32, shape (z, y, 2). Every voxel has there the bits it has when all are made.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from scans.image.box import Box, clip, sides_of, within

Three = tuple[float, float, float]

NONE = 2**30, -(2**30)  # of a row without a voxel: both ends out of reach
_BLOCK = 1024  # voxels whose sums stay in the core's cache


class Blur:
    """A Gaussian blur over a box of the cube, cut at four standard deviations.

    Parameters
    ----------
    sigma_vox : tuple of float
        Standard deviations in voxels (z, y, x): mm divided by the voxel's side, so that anisotropic voxels
        are blurred evenly in space.
    box : tuple of slice
        Where a blur is wanted (z, y, x).
    size : int
        Voxels along a side of the cube.
    wanted : ndarray of int32, shape (z, y, 2)
        Of `box`: the part of each row in which it is wanted, see `rows_of`.

    Attributes
    ----------
    wide : tuple of slice
        The box of what is blurred: as far as the blur reaches, within the cube.
    """

    def __init__(self, sigma_vox: Three, box: Box, size: int, wanted: np.ndarray) -> None:
        self.wide = clip(box, [blur_radius(sigma) for sigma in sigma_vox], size)
        self._sigma, self._inner, self._wanted = sigma_vox, within(box, self.wide), wanted

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """Of `wide`: the part of each row that the blur draws of, int32, shape (z, y, 2)."""
        radii = [blur_radius(sigma) for sigma in self._sigma]
        rows = self._wanted
        for axis in (2, 1, 0):
            rows = _widen(rows, axis, radii[axis])
        z, y, x = _there(self._inner, radii, sides_of(self.wide))
        return np.clip(rows[z, y] - np.int32(x.start), 0, np.int32(x.stop - x.start))

    def __call__(self, texture: np.ndarray) -> np.ndarray:
        """Return the blur of what lies in the wider box: float32, shape of the box; some number where none is wanted.

        At the cube's edge, the edge voxel goes on.
        """
        return _blurred(texture, self._sigma, self._inner, self._wanted)


def gaussian_blur(texture: np.ndarray, sigma_vox: Three, inner: Box | None = None) -> np.ndarray:
    """Blur all of an array, as `Blur` does a box of the cube.

    Parameters
    ----------
    texture : ndarray of float32, shape (z, y, x)
    sigma_vox : tuple of float
        Standard deviations in voxels (z, y, x).
    inner : tuple of slice, optional
        The part wanted; all of it if not given.

    Returns
    -------
    ndarray of float32, shape of `inner`
        As ``scipy.ndimage.gaussian_filter(mode="nearest", truncate=4)``.
    """
    z, y, x = inner or tuple(slice(0, side) for side in texture.shape)
    return _blurred(texture, sigma_vox, (z, y, x), whole_rows(sides_of((z, y, x))))


def blur_radius(sigma_vox: float) -> int:
    """Return how many voxels away a Gaussian of `sigma_vox` still reaches."""
    return int(4.0 * sigma_vox + 0.5)


def whole_rows(shape: Sequence[int]) -> np.ndarray:
    """Return all of each row of an array of shape `shape`."""
    rows = np.empty((shape[0], shape[1], 2), np.int32)
    rows[:] = 0, shape[2]
    return rows


def _blurred(texture: np.ndarray, sigma_vox: Three, inner: Box, wanted: np.ndarray) -> np.ndarray:
    radii = [blur_radius(sigma) for sigma in sigma_vox]
    z, y, x = _there(inner, radii, texture.shape)
    texture = np.ascontiguousarray(texture[clip(inner, radii, texture.shape)])
    return _blur(
        texture, (z.start, y.start, x.start), _weights(sigma_vox[0]), _weights(sigma_vox[1]), _weights(sigma_vox[2]),
        wanted, inner[2].stop - inner[2].start,
    )  # fmt: skip


def _there(inner: Box, radii: Sequence[int], shape: Sequence[int]) -> Box:
    """Return which part of a box widened by `radii` an array of shape `shape` fills, counted from its corner."""
    corner = [slice(part.start - radius, 0) for part, radius in zip(inner, radii, strict=True)]
    return within(clip(inner, radii, shape), corner)


def _weights(sigma: float) -> np.ndarray:
    radius = blur_radius(sigma)
    if radius == 0:
        return np.ones(1, np.float32)
    weights = np.array([math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)])
    # float32 here and not later: exp differs in the last bit of a float64 between machines
    return (weights / math.fsum(weights)).astype(np.float32)


@njit(cache=True)
def rows_of(voxels: np.ndarray) -> np.ndarray:
    """Return the part of each row that holds its voxels: int32, shape (z, y, 2)."""
    depth, height, width = voxels.shape
    rows = np.empty((depth, height, 2), np.int32)
    for k in range(depth):
        for j in range(height):
            first, last = 0, width
            while first < width and not voxels[k, j, first]:
                first += 1
            while last > first and not voxels[k, j, last - 1]:
                last -= 1
            rows[k, j, 0], rows[k, j, 1] = (first, last) if first < last else NONE
    return rows


@njit(cache=True)
def _widen(rows: np.ndarray, axis: int, radius: int) -> np.ndarray:
    """Return of which rows, from `radius` before the first one on, a blur along one axis draws."""
    depth, height = rows.shape[0] + 2 * radius * (axis == 0), rows.shape[1] + 2 * radius * (axis == 1)
    wide = np.empty((depth, height, 2), np.int32)
    for k in range(depth):
        for j in range(height):
            low, high = NONE
            if axis == 2:
                low, high = rows[k, j, 0], rows[k, j, 1] + 2 * radius
            elif axis == 1:
                for near in range(max(j - 2 * radius, 0), min(j + 1, rows.shape[1])):
                    low, high = min(low, rows[k, near, 0]), max(high, rows[k, near, 1])
            else:
                for near in range(max(k - 2 * radius, 0), min(k + 1, rows.shape[0])):
                    low, high = min(low, rows[near, j, 0]), max(high, rows[near, j, 1])
            wide[k, j, 0], wide[k, j, 1] = low, high
    return wide


@njit(cache=True)
def _blur(
    texture: np.ndarray, before: tuple[int, int, int], along_z: np.ndarray, along_y: np.ndarray, along_x: np.ndarray,
    rows: np.ndarray, width: int,
) -> np.ndarray:  # fmt: skip
    """Blur plane by plane, along z, y and x, from a plane's first row to its last: what a plane needs stays in cache.

    Rows lie one behind the other, so that a plane is one long row: short ones would cost several times as much.
    `before` is how far the blur reaches beyond the array's first voxel.
    """
    depth, height = rows.shape[0], rows.shape[1]
    planes, lines, across = texture.shape
    more, wide = len(along_y) - 1, width + len(along_x) - 1
    source, blurred = texture.reshape(-1), np.zeros((depth, height, width), np.float32)
    tall, flat = np.empty((height + more) * across, np.float32), np.empty(height * across, np.float32)
    long, done = np.empty(height * wide, np.float32), np.empty(height * wide, np.float32)
    by_z, by_y = np.empty(len(along_z), np.int64), np.arange(len(along_y)) * across
    by_x = np.arange(len(along_x))
    for k in range(depth):
        first, last = 0, height
        while first < height and rows[k, first, 0] >= rows[k, first, 1]:
            first += 1
        while last > first and rows[k, last - 1, 0] >= rows[k, last - 1, 1]:
            last -= 1
        if first == last:
            continue
        low, high = max(first - before[1], 0), min(last + more - before[1], lines)
        for tap in range(len(along_z)):  # beyond the first and the last plane these go on
            by_z[tap] = (min(max(k + tap - before[0], 0), planes - 1) * lines + low) * across
        start = (low + before[1] - first) * across
        _sum(source, by_z, along_z, tall[start:], (high - low) * across)
        stop = start + (high - low) * across
        for i in range(start):  # and so do the first and the last row
            tall[i] = tall[start + i % across]
        for i in range(stop, (last - first + more) * across):
            tall[i] = tall[i - across]
        _sum(tall, by_y, along_y, flat, (last - first) * across)
        rowed = flat
        if across != wide:
            rowed = long
            for j in range(last - first):
                row, own = long[j * wide : (j + 1) * wide], flat[j * across : (j + 1) * across]
                for i in range(before[2]):
                    row[i] = own[0]
                for i in range(across):
                    row[before[2] + i] = own[i]
                for i in range(before[2] + across, wide):
                    row[i] = own[across - 1]
        _sum(rowed, by_x, along_x, done, (last - first) * wide - (wide - width))
        for j in range(last - first):
            for i in range(width):
                blurred[k, first + j, i] = done[j * wide + i]
    return blurred


@njit(cache=True)
def _sum(source: np.ndarray, starts: np.ndarray, weights: np.ndarray, target: np.ndarray, count: int) -> None:
    """Write the weighted sum of `count` values from each start on; one value as it is."""
    taps = len(weights)
    for low in range(0, count, _BLOCK):
        n = min(_BLOCK, count - low)
        sums = target[low : low + n]
        if taps == 1:
            a = source[starts[0] + low : starts[0] + low + n]
            for i in range(n):
                sums[i] = a[i]
            continue
        for i in range(n):
            sums[i] = 0.0
        for tap in range(0, taps - 3, 4):  # several at a time: a sum is fetched and put back less often
            a, b = source[starts[tap] + low :], source[starts[tap + 1] + low :]
            c, d = source[starts[tap + 2] + low :], source[starts[tap + 3] + low :]
            p, q, r, s = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
            for i in range(n):
                sums[i] = (((sums[i] + p * a[i]) + q * b[i]) + r * c[i]) + s * d[i]
        for tap in range(taps // 4 * 4, taps):
            a, p = source[starts[tap] + low :], weights[tap]
            for i in range(n):
                sums[i] += p * a[i]
