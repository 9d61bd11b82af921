"""Noise: OpenSimplex noise in space (Spencer 2014), to the bit that of the package `opensimplex`, without its branches.

A point lies in a tetrahedron or an octahedron of a skewed lattice. The corners of that cell lend to its value, and two
points outside, which follow from the corners nearest to it. Which cell and which points is written down in a table
here, looked up by the outcomes of a few comparisons: a processor cannot guess them, and guessing wrong cost most.

Points are taken many at a time, those in cells of one kind together. What a processor does to several at once (cells,
distances, sums) stands in loops of its own; only looking up who lends goes one by one.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from opensimplex.constants import GRADIENTS3, NORM_CONSTANT3, SQUISH_CONSTANT3, STRETCH_CONSTANT3

_ONE, _TWO, _THREE = SQUISH_CONSTANT3, 2 * SQUISH_CONSTANT3, 3 * SQUISH_CONSTANT3  # of skew, by the steps from the base
_FAR, _BETWEEN = 16, 32  # rows of the table: the tetrahedron at (0, 0, 0), that at (1, 1, 1), the octahedron
_BLOCK = 256  # points at a time: what is known of them stays in the core's cache
_BYTE, _STEP = np.uint64(255), np.uint64(1)
_SHIFT, _HALF = 10, 2**9  # bits between the components of a gradient


@njit(cache=True)
def noise_tables(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what tells the noise of a seed from that of others.

    Parameters
    ----------
    seed : int
        0 to 2**63 - 1.

    Returns
    -------
    permutation : ndarray of uint8, shape (512,)
        Twice over, so that a sum of two of its numbers is a place in it.
    gradients : ndarray of int32, shape (512,)
        By place in the permutation; three whole numbers in one.
    """
    permutation, left = np.empty(512, np.uint8), np.arange(256)
    gradients = np.empty(512, np.int32)
    number = np.int64(seed)
    for _ in range(3):
        number = number * 6364136223846793005 + 1442695040888963407
    for i in range(255, -1, -1):
        number = number * 6364136223846793005 + 1442695040888963407
        taken = (number % (i + 1) + 31) % (i + 1)
        permutation[i] = permutation[i + 256] = left[taken]
        x, y, z = left[taken] % (len(GRADIENTS3) // 3) * 3 + np.arange(3)
        packed = ((GRADIENTS3[x] << _SHIFT) + GRADIENTS3[y] << _SHIFT) + GRADIENTS3[z]
        gradients[i] = gradients[i + 256] = packed
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
    """Return the two points outside for every outcome of the comparisons in `_cells`, shape (64, 2, 12)."""
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
def add_octaves(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, octaves: int,
    permutation: np.ndarray, gradients: np.ndarray, noise: np.ndarray,
) -> None:  # fmt: skip
    """Add to `noise` what octaves of it, each of twice the frequency and half the height, have at points.

    A value costs 20 ns, and a third of that is looking up.

    Parameters
    ----------
    x, y, z : ndarray of float64, shape (n,)
        Of the first octave; the last one's lie within 2**31 of the origin.
    octaves : int
    permutation, gradients : ndarray
        See `noise_tables`.
    noise : ndarray of float64, shape (n,)
    """
    offsets, cells = np.empty((3, _BLOCK)), np.empty((3, _BLOCK), np.int32)
    rows, kinds = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    members, counts = np.empty((3, _BLOCK), np.uint32), np.empty(3, np.int64)
    near, beside = np.empty((3, _BLOCK)), np.empty((6, _BLOCK))
    lent, values = np.empty((8, _BLOCK), np.int32), np.empty(_BLOCK)
    for start in range(0, len(x), _BLOCK):
        stop = min(start + _BLOCK, len(x))
        total, frequency = noise[start:stop], 1.0
        for _ in range(octaves):
            _cells(x[start:stop], y[start:stop], z[start:stop], frequency, offsets, cells, rows, kinds)
            counts[:] = 0
            for n in range(stop - start):
                kind = kinds[n]
                members[kind, counts[kind]] = n
                counts[kind] += 1
            for kind in range(3):
                own = members[kind, : counts[kind]]
                _look_up(kind, own, offsets, cells, rows, permutation, gradients, near, beside, lent)
                _sum(kind, near, beside, lent, values[: counts[kind]])
                for n in range(len(own)):
                    total[own[n]] += values[n] / frequency
            frequency *= 2.0


@njit(cache=True)
def _cells(
    xs: np.ndarray, ys: np.ndarray, zs: np.ndarray, frequency: float,
    offsets: np.ndarray, cells: np.ndarray, rows: np.ndarray, kinds: np.ndarray,
) -> None:  # fmt: skip
    """Find the cells of points: their bases, offsets from these, rows of the table, and kinds.

    A kind is 0 or 1 in the tetrahedron at (0, 0, 0) or (1, 1, 1), 2 in the octahedron.
    """
    for n in range(len(xs)):
        x, y, z = xs[n] * frequency, ys[n] * frequency, zs[n] * frequency
        stretch = (x + y + z) * STRETCH_CONSTANT3
        a, b, c = x + stretch, y + stretch, z + stretch
        i, j, k = np.floor(a), np.floor(b), np.floor(c)
        skew = (i + j + k) * _ONE
        offsets[0, n], offsets[1, n], offsets[2, n] = x - (i + skew), y - (j + skew), z - (k + skew)
        cells[0, n], cells[1, n], cells[2, n] = np.int32(i), np.int32(j), np.int32(k)
        a, b, c = a - i, b - j, c - k
        total = a + b + c
        p, q, r = a + b, a + c, b + c
        first, second, third = abs(p - 1.0), abs(q - 1.0), abs(r - 1.0)
        middle = _BETWEEN + (p > 1.0) + 2 * (q > 1.0) + 4 * (r > 1.0)
        middle += 8 * ((first <= second) & (first < third)) + 16 * ((first > second) & (second < third))
        far = total >= 2.0  # the same comparisons as of the near tetrahedron, turned round
        end = total - 3.0 if far else 1.0 - total
        a, b, c = -a if far else a, -b if far else b, -c if far else c
        second_third, first_third = (a >= b) & (c > b), (a < b) & (c > a)
        first, second = (c if first_third else a), (c if second_third else b)
        at = second_third + 2 * first_third + 4 * ((end > first) | (end > second)) + 8 * (second > first) + _FAR * far
        between = (total > 1.0) & (total < 2.0)
        rows[n] = middle if between else at
        kinds[n] = 2 if between else 1 if far else 0


@njit(cache=True)
def _look_up(
    kind: int, members: np.ndarray, offsets: np.ndarray, cells: np.ndarray, rows: np.ndarray,
    permutation: np.ndarray, gradients: np.ndarray, near: np.ndarray, beside: np.ndarray, lent: np.ndarray,
) -> None:  # fmt: skip
    """Gather what points in cells of one kind are lent: gradients, corners first, and offsets from those outside."""
    for n in range(len(members)):
        m = np.uint64(members[n])
        i, j, k = np.uint64(cells[0, m]) & _BYTE, np.uint64(cells[1, m]) & _BYTE, np.uint64(cells[2, m]) & _BYTE
        low, high = np.uint64(permutation[i]) + j, np.uint64(permutation[i + _STEP]) + j
        a, b = np.uint64(permutation[low]) + k, np.uint64(permutation[low + _STEP]) + k
        c, d = np.uint64(permutation[high]) + k, np.uint64(permutation[high + _STEP]) + k
        if kind == 0:
            lent[0, n], lent[1, n] = gradients[a], gradients[c]
            lent[2, n], lent[3, n] = gradients[b], gradients[a + _STEP]
        elif kind == 1:
            lent[0, n], lent[1, n] = gradients[d], gradients[c + _STEP]
            lent[2, n], lent[3, n] = gradients[b + _STEP], gradients[d + _STEP]
        else:
            lent[0, n], lent[1, n], lent[2, n] = gradients[c], gradients[b], gradients[a + _STEP]
            lent[3, n], lent[4, n], lent[5, n] = gradients[d], gradients[c + _STEP], gradients[b + _STEP]
        x, y, z, row = offsets[0, m], offsets[1, m], offsets[2, m], np.uint64(rows[m])
        near[0, n], near[1, n], near[2, n] = x, y, z
        for extra in range(2):
            steps, lost = _STEPS[row, extra], _LOST[row, extra]
            at = np.uint64(permutation[(i + steps[0]) & _BYTE]) + j + steps[1]
            lent[6 + extra, n] = gradients[(np.uint64(permutation[at & _BYTE]) + k + steps[2]) & _BYTE]
            beside[3 * extra, n] = x - lost[0] - lost[1]
            beside[3 * extra + 1, n] = y - lost[3] - lost[4] - lost[5]  # the one axis that ever loses thrice
            beside[3 * extra + 2, n] = z - lost[6] - lost[7]


@njit(cache=True)
def _lent(dx: float, dy: float, dz: float, gradient: int) -> float:
    """Return what a lattice point lends to a point that lies (dx, dy, dz) from it."""
    near = max(2.0 - dx * dx - dy * dy - dz * dz, 0.0)
    near *= near
    x = (gradient + (_HALF << _SHIFT)) >> 2 * _SHIFT
    gradient -= x << 2 * _SHIFT
    y = (gradient + _HALF) >> _SHIFT
    z = gradient - (y << _SHIFT)
    return near * near * (np.int32(x) * dx + np.int32(y) * dy + np.int32(z) * dz)


@njit(cache=True)
def _sum(kind: int, near: np.ndarray, beside: np.ndarray, lent: np.ndarray, values: np.ndarray) -> None:
    """Sum what points in cells of one kind are lent: by their corners, in the package's order, then from outside."""
    if kind == 0:
        for n in range(len(values)):
            x, y, z = near[0, n], near[1, n], near[2, n]
            x0, y0, z0 = x - _ONE, y - _ONE, z - _ONE
            value = 0.0
            value += _lent(x, y, z, lent[0, n])
            value += _lent(x - 1.0 - _ONE, y0, z0, lent[1, n])
            value += _lent(x0, y - 1.0 - _ONE, z0, lent[2, n])
            value += _lent(x0, y0, z - 1.0 - _ONE, lent[3, n])
            values[n] = value
    elif kind == 1:
        for n in range(len(values)):
            x, y, z = near[0, n], near[1, n], near[2, n]
            xx, yy, zz = x - 1.0 - _TWO, y - 1.0 - _TWO, z - 1.0 - _TWO
            value = 0.0
            value += _lent(xx, yy, z - _TWO, lent[0, n])
            value += _lent(xx, y - _TWO, zz, lent[1, n])
            value += _lent(x - _TWO, yy, zz, lent[2, n])
            value += _lent(x - 1.0 - _THREE, y - 1.0 - _THREE, z - 1.0 - _THREE, lent[3, n])
            values[n] = value
    else:
        for n in range(len(values)):
            x, y, z = near[0, n], near[1, n], near[2, n]
            x0, y0, z0 = x - _ONE, y - _ONE, z - _ONE
            xx, yy, zz = x - 1.0 - _TWO, y - 1.0 - _TWO, z - 1.0 - _TWO
            value = 0.0
            value += _lent(x - 1.0 - _ONE, y0, z0, lent[0, n])
            value += _lent(x0, y - 1.0 - _ONE, z0, lent[1, n])
            value += _lent(x0, y0, z - 1.0 - _ONE, lent[2, n])
            value += _lent(xx, yy, z - _TWO, lent[3, n])
            value += _lent(xx, y - _TWO, zz, lent[4, n])
            value += _lent(x - _TWO, yy, zz, lent[5, n])
            values[n] = value
    for n in range(len(values)):
        value = values[n] + _lent(beside[0, n], beside[1, n], beside[2, n], lent[6, n])
        values[n] = (value + _lent(beside[3, n], beside[4, n], beside[5, n], lent[7, n])) / NORM_CONSTANT3
