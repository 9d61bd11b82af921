"""Fill: tissue for a tumour and its second part, which is seen with the contrast that was drawn.

A tumour fills half of its box and less, so all is done on the rows that hold its voxels, one behind the other.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from scans.image.normalisation import scale
from synth.compound.depth import FAR
from synth.compound.edge import Corner, step
from synth.tumour.blend import FULL, INSIDE, widen
from synth.tumour.source import Source

LIMIT = 3e4  # what float16 holds, with room to spare
_GRAIN = 4.0  # of its mean size: what differs more from the blurred normal is an edge of its anatomy


@dataclass(frozen=True)
class Rows:
    """What a tumour finds in the parts of rows that hold its voxels, n in all, one behind the other.

    Attributes
    ----------
    edge : ndarray of uint8, shape (n,)
        As in `synth.tumour.sample.Layer`; 0 where the tumour is not.
    inside : ndarray of bool, shape (n,)
        Whether the mask is 1 there, and the ROI shows it.
    deep, part : ndarray of float32, shape (n,)
        Depth below the tumour's surface, and below its second part's, in mm.
    own, smooth, structure : ndarray of float32, shape (n,)
        The normal, outside the ROI what it would lend; the same without its grain; and the tissue that lends its
        structure.
    """

    edge: np.ndarray
    inside: np.ndarray
    deep: np.ndarray
    part: np.ndarray
    own: np.ndarray
    smooth: np.ndarray
    structure: np.ndarray


def rows_in(
    edge: np.ndarray, rows: np.ndarray, corner: Corner, normal: Source, deep: np.ndarray, smooth: np.ndarray,
    structure: np.ndarray, part: np.ndarray | None,
) -> Rows:  # fmt: skip
    """Gather what a tumour finds.

    Parameters
    ----------
    edge : ndarray of uint8, shape (z, y, x)
    rows : ndarray of int32, shape (z, y, 2)
        The parts of rows that hold its voxels, see `synth.tumour.blur.rows_of`.
    corner : tuple of int
        The voxel of the cube that it begins at (z, y, x).
    normal : Source
    deep, smooth, structure, part : ndarray of float32, shape of `edge`
        As of `Rows`; no `part`: there is none.
    """
    numbers, lent, halves, edges, seen = _gathered(
        rows, corner, edge, normal.roi, normal.normal.voxels.view(np.int16), normal.lent,
        (deep, smooth, structure, deep if part is None else part),
    )  # fmt: skip
    own = np.where(seen, widen(halves.view(np.float16)), scale(lent, normal.statistics))
    parts = np.full(len(edges), FAR) if part is None else numbers[3]
    return Rows(edges, seen & (edges >= INSIDE), numbers[0], parts, own, numbers[1], numbers[2])


@njit(cache=True)
def _gathered(
    rows: np.ndarray, corner: Corner, edge: np.ndarray, roi: np.ndarray, halves: np.ndarray, lent: np.ndarray,
    volumes: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Gather rows of volumes of the box's shape; what is lent; the normal's bits; edges; and what the ROI shows."""
    count = 0
    for k in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            count += max(0, rows[k, j, 1] - rows[k, j, 0])
    numbers, outside, bits = np.empty((4, count), np.float32), np.empty(count, np.float32), np.empty(count, np.int16)
    edges, seen = np.empty(count, np.uint8), np.empty(count, np.bool_)
    at = 0
    for k in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            low, n = rows[k, j, 0], rows[k, j, 1] - rows[k, j, 0]
            if n <= 0:
                continue
            z, y, x = corner[0] + k, corner[1] + j, corner[2] + low
            _copy(edge[k, j, low:], edges[at : at + n])
            _copy(roi[z, y, x:], seen[at : at + n])
            _copy(halves[z, y, x:], bits[at : at + n])
            _copy(lent[z, y, x:], outside[at : at + n])
            for volume in range(4):
                _copy(volumes[volume][k, j, low:], numbers[volume, at : at + n])
            at += n
    return numbers, outside, bits, edges, seen


@njit(cache=True, inline="always")
def _copy(values: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(out)):
        out[i] = values[i]


@njit(cache=True, inline="always")
def _windowed(tissue: float, own: float, alpha: float, low: float, high: float) -> float:
    """Keep tissue to what its composite with the normal, at full weight, may be; and to what float16 holds."""
    seen = min(max(own + alpha * (tissue - own), low), high)
    return min(max(own + (seen - own) / alpha, -LIMIT), LIMIT)


@njit(cache=True, error_model="numpy")
def fill(
    edge: np.ndarray, inside: np.ndarray, deep: np.ndarray, part: np.ndarray,
    own: np.ndarray, smooth: np.ndarray, structure: np.ndarray,
    alpha: float, around: float, contrast: float, part_level: float, ring_level: float,
    rim: float, ring: float, border: float, kept: float, fade: float, radius: float,
    low: float, high: float, rounds: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Fill a tumour's rows with tissue whose contrast is seen as asked; sums run in a fixed order, in float64.

    The main part's level is the one unknown. What is seen depends on it linearly, but where the window of a CT cuts
    the tissue: a few rounds then come as near as the window lets them.

    Returns
    -------
    edges : ndarray of uint8, shape (n,)
        Of the tumour's voxels alone.
    tissue : ndarray of float32, shape (n,)
    """
    size = len(edge)
    tissue = np.empty(size, np.float32)  # first without the main part's level
    main = np.empty(size, np.bool_)  # of the main part, and seen
    lift = np.empty(size, np.float32)  # what its level is multiplied by
    values, weights = np.empty(size), np.empty(size)
    total, grain, count = 0.0, 0.0, 0
    for n in range(size):
        total += structure[n] if inside[n] else 0.0
        grain += abs(own[n] - smooth[n]) if inside[n] else 0.0
        count += inside[n]
    middle, most = total / max(count, 1), _GRAIN * grain / max(count, 1)
    for n in range(size):
        inner = min(part[n], deep[n] - rim)
        second = step(inner / border + 0.5)
        around_it = step(1.0 - abs(2.0 * inner / ring + 1.0))
        around_it = around_it if (ring_level != 0.0) & (-ring < inner) & (inner < 0.0) else 0.0
        main[n] = inside[n] & (np.float32(1.0 - second) > 0.5)
        lift[n] = (1.0 - second) * (1.0 + fade * (2.0 * step(deep[n] / radius) - 1.0))
        tissue[n] = (
            around + kept * (structure[n] - middle)
            + min(max(own[n] - smooth[n], -most), most)
            + second * part_level + (1.0 - second) * around_it * ring_level
        )  # fmt: skip
    level = contrast / alpha
    for _ in range(rounds):
        for n in range(size):
            weight = alpha * ((edge[n] - INSIDE) / FULL)
            filled = _windowed(tissue[n] + level * lift[n], own[n], alpha, low, high)
            values[n] = own[n] + weight * (filled - own[n]) if main[n] else 0.0
            weights[n] = weight * lift[n] if main[n] else 0.0
        seen, gain, count = 0.0, 0.0, 0
        for n in range(size):
            seen += values[n]
            gain += weights[n]
            count += main[n]
        if count == 0 or gain < 1e-3 * count:
            break
        level += (count * (around + contrast) - seen) / gain
        level = min(max(level, -1e4), 1e4)
    for n in range(size):
        tissue[n] = _windowed(tissue[n] + level * lift[n], own[n], alpha, low, high)
    edges, at, one = edge.copy(), np.uintp(0), np.uintp(1)
    for n in range(size):  # whoever is no voxel of the tumour's is written over
        edges[at], tissue[at] = edge[n], tissue[n]
        at += one if edge[n] != 0 else np.uintp(0)
    return edges[:at], tissue[:at]
