"""Fill: tissue for a tumour and its second part, which is seen with the contrast that was drawn."""

import numpy as np
from numba import njit

from synth.compound.depth import step
from synth.tumour.blend import FULL, INSIDE

LIMIT = 3e4  # what float16 holds, with room to spare
_GRAIN = 4.0  # of its mean size: what differs more from the blurred normal is an edge of its anatomy


@njit(cache=True, inline="always")
def _windowed(tissue: float, own: float, alpha: float, low: float, high: float) -> float:
    """Keep tissue to what its composite with the normal, at full weight, may be; and to what float16 holds."""
    seen = min(max(own + alpha * (tissue - own), low), high)
    return min(max(own + (seen - own) / alpha, -LIMIT), LIMIT)


@njit(cache=True)
def fill(
    deep: np.ndarray, part: np.ndarray, edge: np.ndarray, roi: np.ndarray,
    own: np.ndarray, smooth: np.ndarray, structure: np.ndarray,
    alpha: float, around: float, contrast: float, part_level: float, ring_level: float,
    rim: float, ring: float, border: float, kept: float, fade: float, radius: float,
    low: float, high: float, rounds: int,
) -> np.ndarray:  # fmt: skip
    """Fill a tumour with tissue whose contrast is seen as asked; sums run in a fixed order, in float64.

    The main part's level is the one unknown. What is seen depends on it linearly, but where the window of a CT cuts
    the tissue: a few rounds then come as near as the window lets them.
    """
    tissue = np.zeros(deep.shape, np.float32)  # first without the main part's level
    share = np.zeros(deep.shape, np.float32)  # of the main part
    lift = np.zeros(deep.shape, np.float32)  # what its level is multiplied by
    total, grain, count = 0.0, 0.0, 0
    for k in range(deep.shape[0]):
        for j in range(deep.shape[1]):
            for i in range(deep.shape[2]):
                if edge[k, j, i] >= INSIDE and roi[k, j, i]:
                    total += structure[k, j, i]
                    grain += abs(own[k, j, i] - smooth[k, j, i])
                    count += 1
    middle, most = total / max(count, 1), _GRAIN * grain / max(count, 1)
    for k in range(deep.shape[0]):
        for j in range(deep.shape[1]):
            for i in range(deep.shape[2]):
                if edge[k, j, i] == 0:
                    continue
                inner = min(part[k, j, i], deep[k, j, i] - rim)
                second = step(inner / border + 0.5)
                around_it = 0.0
                if ring_level != 0.0 and -ring < inner < 0.0:
                    around_it = step(1.0 - abs(2.0 * inner / ring + 1.0))
                share[k, j, i] = 1.0 - second
                lift[k, j, i] = (1.0 - second) * (1.0 + fade * (2.0 * step(deep[k, j, i] / radius) - 1.0))
                tissue[k, j, i] = (
                    around + kept * (structure[k, j, i] - middle)
                    + min(max(own[k, j, i] - smooth[k, j, i], -most), most)
                    + second * part_level + (1.0 - second) * around_it * ring_level
                )  # fmt: skip
    level = contrast / alpha
    for _ in range(rounds):
        seen, gain, count = 0.0, 0.0, 0
        for k in range(deep.shape[0]):
            for j in range(deep.shape[1]):
                for i in range(deep.shape[2]):
                    if edge[k, j, i] >= INSIDE and roi[k, j, i] and share[k, j, i] > 0.5:
                        weight = alpha * ((edge[k, j, i] - INSIDE) / FULL)
                        here = own[k, j, i]
                        filled = _windowed(tissue[k, j, i] + level * lift[k, j, i], here, alpha, low, high)
                        seen += here + weight * (filled - here)
                        gain += weight * lift[k, j, i]
                        count += 1
        if count == 0 or gain < 1e-3 * count:
            break
        level += (count * (around + contrast) - seen) / gain
        level = min(max(level, -1e4), 1e4)
    for k in range(deep.shape[0]):
        for j in range(deep.shape[1]):
            for i in range(deep.shape[2]):
                if edge[k, j, i] != 0:
                    whole = tissue[k, j, i] + level * lift[k, j, i]
                    tissue[k, j, i] = _windowed(whole, own[k, j, i], alpha, low, high)
    return tissue
