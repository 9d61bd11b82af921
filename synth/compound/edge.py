"""Edge: where a tumour's surface comes to lie in its normal, and the soft edge of the blend there.

Depths are of a box around the form, of which a tumour needs few voxels: those near it, in a part of each row along x,
from the first voxel to one past the last, int32, shape (z, y, 2). The others are looked at once.
"""

import math

import numpy as np
from numba import njit

from synth.tumour.blend import FULL, INSIDE, SIGN_AND_NUMBER, UNIT
from synth.tumour.blur import NONE

Corner = tuple[int, int, int]

_SIGN_AND_NUMBER, _UNIT = np.int32(SIGN_AND_NUMBER), np.float32(UNIT)  # of the steps of `synth.tumour.blend.write`


@njit(cache=True, inline="always")
def step(at: float) -> float:
    """Rise smoothly from 0 at 0 to 1 at 1."""
    at = min(max(at, 0.0), 1.0)
    return at * at * (3.0 - 2.0 * at)


@njit(cache=True, inline="always")
def _row(volume: np.ndarray, corner: Corner, k: int, j: int, low: int, high: int) -> np.ndarray:
    """Return a part of a row along x, all counted from a corner of the volume."""
    return volume[corner[0] + k, corner[1] + j, corner[2] + low : corner[2] + high]


@njit(cache=True)
def near_rows(deep: np.ndarray, first: Corner, shape: Corner, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Say where in a box depths are `least` and more.

    Parameters
    ----------
    deep : ndarray of float32, shape (z, y, x)
        In mm.
    first, shape : tuple of int
        The box: its first voxel, and its voxels along each axis (z, y, x).
    least : float
        In mm.

    Returns
    -------
    rows : ndarray of int32, shape (z, y, 2)
        Of each row of the box.
    ends : ndarray of int64, shape (6,)
        Of the smallest box that holds them, counted from the box's corner (z, y, x; first, one past the last).
    """
    rows = np.empty((shape[0], shape[1], 2), np.int32)
    ends = np.array([shape[0], 0, shape[1], 0, shape[2], 0])
    nearest, width, none = np.float32(least), np.int32(shape[2]), np.int32(0)
    for k in range(shape[0]):
        for j in range(shape[1]):
            row = _row(deep, first, k, j, 0, shape[2])
            low, high = width, none
            for i in range(len(row)):  # all of it: several at a time are found sooner than the first one is
                is_near = row[i] >= nearest
                low = min(low, np.int32(i) if is_near else width)
                high = max(high, np.int32(i + 1) if is_near else none)
            rows[k, j, 0], rows[k, j, 1] = (low, high) if low < high else NONE
            if low < high:
                ends[0], ends[1] = min(ends[0], k), k + 1
                ends[2], ends[3] = min(ends[2], j), max(ends[3], j + 1)
                ends[4], ends[5] = min(ends[4], low), max(ends[5], high)
    return rows, ends


@njit(cache=True)
def mean_around(
    deep: np.ndarray, first: Corner, rows: np.ndarray, roi: np.ndarray, halves: np.ndarray, corner: Corner,
    shell: float, fluid: float,
) -> float:  # fmt: skip
    """Return the mean of the normal's tissue in a shell around a tumour; of what lies there, if there is no tissue.

    Sums run in a fixed order, in float64.

    Parameters
    ----------
    deep : ndarray of float32, shape (z, y, x)
        In mm.
    first : tuple of int
        Its voxel that rows begin at (z, y, x).
    rows : ndarray of int32, shape (z, y, 2)
        Where it is as deep as the shell, or deeper.
    roi : ndarray of bool, shape (size, size, size)
    halves : ndarray of int16, same shape
        The bits of the normal.
    corner : tuple of int
        The voxel of the cube that rows begin at.
    shell : float
        Thickness in mm.
    fluid : float
        What is darker is no tissue.
    """
    bits = np.empty(roi.shape[2], np.int32)
    numbers = bits.view(np.float32)
    for which in range(3):  # tissue in the shell; fluid in the shell; under the tumour
        total, count = 0.0, 0
        for k in range(rows.shape[0]):
            for j in range(rows.shape[1]):
                low, high = rows[k, j, 0], rows[k, j, 1]
                if low >= high:
                    continue
                depths = _row(deep, first, k, j, low, high)
                own, inside = _row(halves, corner, k, j, low, high), _row(roi, corner, k, j, low, high)
                for i in range(len(own)):
                    bits[i] = (np.int32(own[i]) << 13) & _SIGN_AND_NUMBER
                for i in range(len(own)):
                    at = depths[i]
                    if at >= -shell and inside[i] and (at >= 0.0) == (which == 2):
                        value = numbers[i] * _UNIT
                        wanted = which == 2 or (value < fluid) == (which == 1)
                        total += value if wanted else 0.0
                        count += wanted
        if count > 0:
            return total / count
    return 0.0


@njit(cache=True)
def settle(
    deep: np.ndarray, first: Corner, rows: np.ndarray, roi: np.ndarray, corner: Corner, smooth: np.ndarray,
    by_mm: float, side: np.ndarray, fluid: float, spare_mm: float, moved: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Move a surface outward in dark tissue, and let it end at limits that leave at least half of what is inside.

    It moves by `by_mm` for each unit that `smooth` is darker there than its mean inside, by no more than one unit's
    worth. Sums run in a fixed order, in float64.

    Parameters
    ----------
    deep, first, rows, roi, corner
        As of `mean_around`; rows are those near the tumour.
    smooth : ndarray of float32, shape (z, y, x) of `rows`
        The normal without its grain.
    by_mm : float
    side : ndarray of float32, shape (x,)
        The first limit: depths at each x.
    fluid : float
        The second limit lies where `smooth` is as dark.
    spare_mm : float
        Of depth, for each unit that it is brighter.
    moved : ndarray of float32, shape of `smooth`
        Written over in the rows: depths in mm below the surface, wherever it ends.

    Returns
    -------
    ndarray of float32, shape of `smooth`
        Depths below the surface and within its limits; anything where no row is.
    """
    total, count = 0.0, 0
    for k in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            low, high = rows[k, j, 0], rows[k, j, 1]
            if low < high:
                depths, inside = _row(deep, first, k, j, low, high), _row(roi, corner, k, j, low, high)
                tissue = smooth[k, j, low:high]
                for i in range(len(depths)):
                    if depths[i] >= 0.0 and inside[i]:
                        total += tissue[i]
                        count += 1
    middle = total / max(count, 1)
    ended = np.empty(smooth.shape, np.float32)
    dark, steep = np.float32(fluid), np.float32(spare_mm)
    within, one, other, both = 0, 0, 0, 0  # voxels inside, by limits
    for k in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            low, high = rows[k, j, 0], rows[k, j, 1]
            if low < high:
                depths, inside = _row(deep, first, k, j, low, high), _row(roi, corner, k, j, low, high)
                tissue, ends, row = smooth[k, j, low:high], side[low:high], moved[k, j, low:high]
                for i in range(len(row)):
                    row[i] = depths[i] + by_mm * min(max(middle - tissue[i], -1.0), 1.0)
                for i in range(len(row)):
                    kept = (row[i] >= 0.0) & inside[i]
                    a, b = ends[i] >= 0.0, (tissue[i] - dark) * steep >= 0.0
                    within += kept
                    one += kept & a
                    other += kept & b
                    both += kept & a & b
    halved = 2 * one >= within
    within, left = (one, both) if halved else (within, other)
    spared = 2 * left >= within
    for k in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            low, high = rows[k, j, 0], rows[k, j, 1]
            if low < high:
                row, tissue, ends = ended[k, j, low:high], smooth[k, j, low:high], side[low:high]
                depths = moved[k, j, low:high]
                for i in range(len(row)):
                    row[i] = min(depths[i], ends[i]) if halved else depths[i]
                if spared:
                    for i in range(len(row)):
                        row[i] = min(row[i], (tissue[i] - dark) * steep)
    return ended


@njit(cache=True)
def soften(
    deep: np.ndarray, rows: np.ndarray, spacing: np.ndarray, offset: np.ndarray, direction: np.ndarray,
    sharp: float, diffuse: float,
) -> np.ndarray:  # fmt: skip
    """Turn depths into an edge, as a layer keeps it: half of the weight on the surface, `diffuse` mm wide on one side.

    Parameters
    ----------
    deep : ndarray of float32, shape (z, y, x)
        In mm.
    rows : ndarray of int32, shape (z, y, 2)
        Where there may be some weight.
    spacing, offset : ndarray of float64, shape (3,)
        Voxel sides, and the first voxel's place from the centre, in mm.
    direction : ndarray of float64, shape (3,)
        Unit vector to the diffuse side.
    sharp, diffuse : float
        Widths in mm, over which the weight rises from 0 to 1.
    """
    edge, widths = np.zeros(deep.shape, np.uint8), np.empty(deep.shape[2])
    for i in range(len(widths)):
        widths[i] = sharp
    for k in range(rows.shape[0]):
        z = offset[0] + k * spacing[0]
        for j in range(rows.shape[1]):
            low, high = rows[k, j, 0], rows[k, j, 1]
            if low >= high:
                continue
            y = offset[1] + j * spacing[1]
            row, depths = edge[k, j, low:high], deep[k, j, low:high]
            if diffuse != sharp:
                for i in range(len(row)):
                    x = offset[2] + (low + i) * spacing[2]
                    length = math.sqrt(z * z + y * y + x * x)
                    along = z * direction[0] + y * direction[1] + x * direction[2]
                    widths[i] = sharp + (diffuse - sharp) * step(1.25 * along / max(length, 1e-6))
            for i in range(len(row)):
                weight = step(depths[i] / max(widths[i], 1e-6) + 0.5)
                row[i] = np.uint8(np.int32(weight * FULL + 0.5)) + (INSIDE if depths[i] >= 0.0 else 0)
    return edge
