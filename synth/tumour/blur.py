"""Blur: a Gaussian over a box of the cube, where a form is.

A form fills half of its box, so its tissue is made where it is wanted: in a part of each row along x, from the first
voxel to one past the last, int32, shape (z, y, 2). Every voxel has there the bits it has when all are made.
"""

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from scans.image.box import Box, clip, within

Three = tuple[float, float, float]

_NONE = 2**30, -(2**30)  # of a row without a voxel: both ends out of reach
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
    form : ndarray of bool, shape of `box`
        The voxels at which it is wanted.

    Attributes
    ----------
    wide : tuple of slice
        The box of what is blurred: as far as the blur reaches, within the cube.
    rows : ndarray of int32, shape (z, y, 2)
        Of `wide`: the part of each row that the blur draws of.
    """

    def __init__(self, sigma_vox: Three, box: Box, size: int, form: np.ndarray) -> None:
        radii = [blur_radius(sigma) for sigma in sigma_vox]
        self.wide = clip(box, radii, size)
        self._sigma, self._inner = sigma_vox, within(box, self.wide)
        self._wanted = _by_axis(_rows_of(form), radii)
        z, y, x = _there(self._inner, radii, [part.stop - part.start for part in self.wide])
        self.rows = np.clip(self._wanted[0][z, y] - np.int32(x.start), 0, np.int32(x.stop - x.start))

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
    rows = whole_rows([part.stop - part.start for part in (z, y, x)])
    return _blurred(texture, sigma_vox, (z, y, x), _by_axis(rows, [blur_radius(sigma) for sigma in sigma_vox]))


def blur_radius(sigma_vox: float) -> int:
    """Return how many voxels away a Gaussian of `sigma_vox` still reaches."""
    return int(4.0 * sigma_vox + 0.5)


def whole_rows(shape: Sequence[int]) -> np.ndarray:
    """Return all of each row of an array of shape `shape`."""
    rows = np.empty((shape[0], shape[1], 2), np.int32)
    rows[:] = 0, shape[2]
    return rows


def _by_axis(rows: np.ndarray, radii: Sequence[int]) -> list[np.ndarray]:
    """Return the rows that are wanted of what is blurred, and of the results along z, y and x, which are `rows`."""
    wanted = [rows]
    for axis in (2, 1, 0):
        wanted.append(_widen(wanted[-1], axis, radii[axis]))
    return wanted[::-1]


def _blurred(texture: np.ndarray, sigma_vox: Three, inner: Box, wanted: Sequence[np.ndarray]) -> np.ndarray:
    radii = [blur_radius(sigma) for sigma in sigma_vox]
    there = _there(inner, radii, texture.shape)
    texture = texture[clip(inner, radii, texture.shape)]
    for axis, (sigma, part) in enumerate(zip(sigma_vox, inner, strict=True)):
        if radii[axis]:
            wide, rows = part.stop - part.start + 2 * radii[axis], wanted[axis + 1]
            texture = _along(texture, axis, there[axis], wide)
            sides = list(texture.shape)
            if axis < 2:  # along x, rows keep their length: they lie one behind the other
                sides[axis] = part.stop - part.start
            blurred: np.ndarray = np.zeros(sides, np.float32)
            _blur_axis(texture, _weights(sigma), axis, rows[:, there[1]] if axis == 0 else rows, blurred)
            texture = blurred
    return texture[:, :, : inner[2].stop - inner[2].start]


def _along(texture: np.ndarray, axis: int, own: slice, side: int) -> np.ndarray:
    """Return an array with `side` voxels along an axis, contiguous: its own at `own`, and beyond them its edge goes on.

    One axis at a time, since a blur may reach many times further than the cube.
    """
    if texture.shape[axis] == side:
        return np.ascontiguousarray(texture)
    sides = list(texture.shape)
    sides[axis] = side
    whole: np.ndarray = np.empty(sides, np.float32)
    turned = np.moveaxis(whole, axis, 0)
    turned[own] = np.moveaxis(texture, axis, 0)
    turned[: own.start], turned[own.stop :] = turned[own.start], turned[own.stop - 1]
    return whole


def _there(inner: Box, radii: Sequence[int], shape: Sequence[int]) -> Box:
    """Return which part of a box widened by `radii` an array of shape `shape` fills, counted from its corner."""
    corner = [slice(part.start - radius, 0) for part, radius in zip(inner, radii, strict=True)]
    return within(clip(inner, radii, shape), corner)


def _weights(sigma: float) -> np.ndarray:
    radius = blur_radius(sigma)
    weights = np.array([math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)])
    # float32 here and not later: exp differs in the last bit of a float64 between machines
    return (weights / math.fsum(weights)).astype(np.float32)


@njit(cache=True)
def _rows_of(voxels: np.ndarray) -> np.ndarray:
    """Return the part of each row that holds its voxels: int32, shape (z, y, 2)."""
    depth, height, width = voxels.shape
    rows = np.empty((depth, height, 2), np.int32)
    for k in range(depth):
        for j in range(height):
            row, first, last = voxels[k, j], 0, width
            while first < width and not row[first]:
                first += 1
            while last > first and not row[last - 1]:
                last -= 1
            rows[k, j, 0], rows[k, j, 1] = (first, last) if first < last else _NONE
    return rows


@njit(cache=True)
def _widen(rows: np.ndarray, axis: int, radius: int) -> np.ndarray:
    """Return of which rows, from `radius` before the first one on, a blur along one axis draws."""
    depth, height = rows.shape[0] + 2 * radius * (axis == 0), rows.shape[1] + 2 * radius * (axis == 1)
    wide = np.empty((depth, height, 2), np.int32)
    for k in range(depth):
        for j in range(height):
            low, high = _NONE
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
def _blur_axis(texture: np.ndarray, weights: np.ndarray, axis: int, rows: np.ndarray, blurred: np.ndarray) -> None:
    """Blur along one axis what reaches as far as the weights on either side, planes from their first row to their last.

    Rows lie one behind the other, so that a plane is one long row: short ones would cost several times as much.
    """
    taps, height, width = len(weights), rows.shape[1], texture.shape[2]
    stride = 1 if axis == 2 else width if axis == 1 else texture.shape[1] * width
    source, target = texture.reshape(-1), blurred.reshape(-1)
    for k in range(rows.shape[0]):
        first, last = 0, height
        while first < height and rows[k, first, 0] >= rows[k, first, 1]:
            first += 1
        while last > first and rows[k, last - 1, 0] >= rows[k, last - 1, 1]:
            last -= 1
        own, end = texture.shape[1] * k * width, last * width - (taps - 1 if axis == 2 else 0)
        for low in range(first * width, end, _BLOCK):
            count, start = min(_BLOCK, end - low), height * k * width + low
            sums = target[start : start + count]
            for tap in range(0, taps - 3, 4):  # several at a time: a sum is fetched and put back less often
                at = own + low + tap * stride
                a, b = source[at : at + count], source[at + stride : at + stride + count]
                at += 2 * stride
                c, d = source[at : at + count], source[at + stride : at + stride + count]
                p, q, r, s = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
                for i in range(count):
                    sums[i] = (((sums[i] + p * a[i]) + q * b[i]) + r * c[i]) + s * d[i]
            for tap in range(taps // 4 * 4, taps):
                at = own + low + tap * stride
                a, p = source[at : at + count], weights[tap]
                for i in range(count):
                    sums[i] += p * a[i]
