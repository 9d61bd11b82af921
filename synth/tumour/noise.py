"""Noise: OpenSimplex noise in space (Spencer 2014), to the bit that of the package `opensimplex`, without its branches.

A point lies in a tetrahedron or an octahedron of a skewed lattice. The corners of that cell lend to its value, and two
points outside, which follow from the corners nearest to it. Which cell and which points is written down in a table
here, looked up by the outcomes of a few comparisons: a processor cannot guess them, and guessing wrong cost most.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from opensimplex.constants import GRADIENTS3, NORM_CONSTANT3, SQUISH_CONSTANT3, STRETCH_CONSTANT3

_ONE, _TWO, _THREE = SQUISH_CONSTANT3, 2 * SQUISH_CONSTANT3, 3 * SQUISH_CONSTANT3  # of skew, by the steps from the base
_FAR, _BETWEEN = 16, 32  # rows of the table: the tetrahedron at (0, 0, 0), that at (1, 1, 1), the octahedron
_BYTE = np.uint64(255)


@njit(cache=True)
def noise_tables(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what tells the noise of a seed from that of others.

    Parameters
    ----------
    seed : int
        0 to 2**63 - 1.

    Returns
    -------
    permutation : ndarray of uint64, shape (256,)
    gradients : ndarray of float64, shape (256, 3)
        By place in the permutation.
    """
    permutation, left = np.empty(256, np.uint64), np.arange(256)
    gradients = np.empty((256, 3))
    number = np.int64(seed)
    for _ in range(3):
        number = number * 6364136223846793005 + 1442695040888963407
    for i in range(255, -1, -1):
        number = number * 6364136223846793005 + 1442695040888963407
        taken = (number % (i + 1) + 31) % (i + 1)
        permutation[i] = left[taken]
        for axis in range(3):
            gradients[i, axis] = GRADIENTS3[left[taken] % (len(GRADIENTS3) // 3) * 3 + axis]
        left[taken] = left[i]
    return permutation, gradients


def _outside(steps: Sequence[int], order: Sequence[tuple[float, float, float]] | None = None) -> list[float]:
    """Return a row of `_EXTRAS`: the steps from the base to a lattice point, and what a point's offset loses by them.

    Along each axis three subtractions, one after the other, each rounded as the package rounds it; `order` where it is
    not the usual one, first the step, then the skew.
    """
    skew = (0.0, _ONE, _TWO, _THREE)[sum(steps)]
    lost = order or [(float(step), skew, 0.0) for step in steps]
    return [float(step) for step in steps] + [part for axis in lost for part in axis]


def _axis(point: int) -> int:
    """Return the axis of a corner, which is a number of three bits, one an axis."""
    return {1: 0, 2: 1, 4: 2}[point]


def _steps(rest: int, axis: int, there: int) -> list[int]:
    """Return `there` steps along one axis, `rest` along the others."""
    return [there if each == axis else rest for each in range(3)]


def _beside_near(point: int, with_base: bool) -> list[list[float]]:
    """Return the points outside the tetrahedron at (0, 0, 0), by the nearest corners."""
    if with_base:
        axis = _axis(point)
        low, high = (each for each in range(3) if each != axis)
        return [_outside([1 if each == axis else -(each == lowered) for each in range(3)]) for lowered in (low, high)]
    other = _axis(7 - point)
    return [_outside(_steps(1, other, 0)), _outside(_steps(1, other, -1))]


def _beside_far(point: int, with_top: bool) -> list[list[float]]:
    """Return the points outside the tetrahedron at (1, 1, 1)."""
    if not with_top:
        axis = _axis(point)
        return [_outside(_steps(0, axis, 1)), _outside(_steps(0, axis, 2))]
    other = _axis(7 - point)
    rows = []
    for twice in (each for each in range(3) if each != other):
        steps = [0 if each == other else 2 if each == twice else 1 for each in range(3)]
        lost = [(float(step), _THREE, 0.0) for step in steps]
        if twice == 1:
            lost[1] = (1.0, _THREE, 1.0)
        rows.append(_outside(steps, lost))
    return rows


def _beside_middle(one: int, one_far: bool, other: int, other_far: bool) -> list[list[float]]:
    """Return the points outside the octahedron, by its two nearest corners and whether they are nearer to (1, 1, 1)."""
    if one_far and other_far:
        return [_outside([1, 1, 1]), _outside(_steps(0, _axis(one & other), 2))]
    if not one_far and not other_far:
        return [_outside([0, 0, 0]), _outside(_steps(1, _axis(7 - (one | other)), -1))]
    far, near = (one, other) if one_far else (other, one)
    steps = _steps(0, _axis(near), 2)
    return [_outside(_steps(1, _axis(7 - far), -1)), _outside(steps, [(_TWO, float(step), 0.0) for step in steps])]


def _table() -> np.ndarray:
    """Return the two points outside for every outcome of the comparisons in `simplex3`, shape (64, 2, 12)."""
    rows = []
    for far in (False, True):
        for outcome in range(16):
            second_third, first_third, with_end, second_nearest = (bool(outcome >> bit & 1) for bit in range(4))
            first, second = (4 if first_third and not second_third else 1), (4 if second_third else 2)
            if far:
                first, second = 7 - first, 7 - second
            alone = second if second_nearest else first
            point = alone if with_end else first & second if far else first | second
            rows.append((_beside_far if far else _beside_near)(point, with_end))
    for outcome in range(32):
        fars = [bool(outcome >> bit & 1) for bit in range(3)]
        points = [high if far else low for far, low, high in zip(fars, (4, 2, 1), (3, 5, 6), strict=True)]
        if outcome & 8:
            points[0], fars[0] = points[2], fars[2]
        elif outcome & 16:
            points[1], fars[1] = points[2], fars[2]
        rows.append(_beside_middle(points[0], fars[0], points[1], fars[1]))
    return np.array(rows)


_EXTRAS = _table()
_STEPS, _LOST = _EXTRAS[:, :, :3].astype(np.int64).view(np.uint64), _EXTRAS[:, :, 3:].copy()


@njit(cache=True)
def _lent(
    dx: float, dy: float, dz: float, x: np.uint64, y: np.uint64, z: np.uint64,
    permutation: np.ndarray, gradients: np.ndarray,
) -> float:  # fmt: skip
    """Return what a lattice point lends to a point that lies (dx, dy, dz) from it."""
    near = max(2.0 - dx * dx - dy * dy - dz * dz, 0.0)
    near *= near
    at = (permutation[(permutation[x & _BYTE] + y) & _BYTE] + z) & _BYTE
    return near * near * (gradients[at, 0] * dx + gradients[at, 1] * dy + gradients[at, 2] * dz)


@njit(cache=True)
def simplex3(x: float, y: float, z: float, permutation: np.ndarray, gradients: np.ndarray) -> float:
    """Return the noise at a point, by the tables of `noise_tables`."""
    stretch = (x + y + z) * STRETCH_CONSTANT3
    xs, ys, zs = x + stretch, y + stretch, z + stretch
    xf, yf, zf = np.floor(xs), np.floor(ys), np.floor(zs)
    skew = (xf + yf + zf) * _ONE
    dx, dy, dz = x - (xf + skew), y - (yf + skew), z - (zf + skew)
    a, b, c = xs - xf, ys - yf, zs - zf
    total = a + b + c
    one = np.uint64(1)
    row = np.uint64(0)
    i, j, k = np.uint64(np.int64(xf)), np.uint64(np.int64(yf)), np.uint64(np.int64(zf))
    x1, y1, z1 = dx - 1.0 - _ONE, dy - 1.0 - _ONE, dz - 1.0 - _ONE
    x2, y2, z2 = dx - _TWO, dy - _TWO, dz - _TWO
    value = 0.0
    if 1.0 < total < 2.0:
        p, q, r = a + b, a + c, b + c
        first, second, third = abs(p - 1.0), abs(q - 1.0), abs(r - 1.0)
        at = _BETWEEN + (p > 1.0) + 2 * (q > 1.0) + 4 * (r > 1.0)
        row = np.uint64(at + 8 * ((first <= second) & (first < third)) + 16 * ((first > second) & (second < third)))
        x0, y0, z0 = dx - _ONE, dy - _ONE, dz - _ONE
        xx, yy, zz = dx - 1.0 - _TWO, dy - 1.0 - _TWO, dz - 1.0 - _TWO
        value += _lent(x1, y0, z0, i + one, j, k, permutation, gradients)
        value += _lent(x0, y1, z0, i, j + one, k, permutation, gradients)
        value += _lent(x0, y0, z1, i, j, k + one, permutation, gradients)
        value += _lent(xx, yy, z2, i + one, j + one, k, permutation, gradients)
        value += _lent(xx, y2, zz, i + one, j, k + one, permutation, gradients)
        value += _lent(x2, yy, zz, i, j + one, k + one, permutation, gradients)
    else:
        far = total >= 2.0
        end = 1.0 - total
        if far:  # the same comparisons, turned round
            end, a, b, c = total - 3.0, -a, -b, -c
        second_third, first_third = (a >= b) & (c > b), (a < b) & (c > a)
        first, second = (c if first_third else a), (c if second_third else b)
        at = second_third + 2 * first_third + 4 * ((end > first) | (end > second)) + 8 * (second > first)
        row = np.uint64(at + _FAR * far)
        if far:
            xx, yy, zz = dx - 1.0 - _TWO, dy - 1.0 - _TWO, dz - 1.0 - _TWO
            x3, y3, z3 = dx - 1.0 - _THREE, dy - 1.0 - _THREE, dz - 1.0 - _THREE
            value += _lent(xx, yy, z2, i + one, j + one, k, permutation, gradients)
            value += _lent(xx, y2, zz, i + one, j, k + one, permutation, gradients)
            value += _lent(x2, yy, zz, i, j + one, k + one, permutation, gradients)
            value += _lent(x3, y3, z3, i + one, j + one, k + one, permutation, gradients)
        else:
            x0, y0, z0 = dx - _ONE, dy - _ONE, dz - _ONE
            value += _lent(dx, dy, dz, i, j, k, permutation, gradients)
            value += _lent(x1, y0, z0, i + one, j, k, permutation, gradients)
            value += _lent(x0, y1, z0, i, j + one, k, permutation, gradients)
            value += _lent(x0, y0, z1, i, j, k + one, permutation, gradients)
    for extra in range(2):
        steps, lost = _STEPS[row, extra], _LOST[row, extra]
        value += _lent(
            dx - lost[0] - lost[1] - lost[2], dy - lost[3] - lost[4] - lost[5], dz - lost[6] - lost[7] - lost[8],
            i + steps[0], j + steps[1], k + steps[2], permutation, gradients,
        )  # fmt: skip
    return value / NORM_CONSTANT3
