"""3D jigsaw (Taleb et al. 2020): tell by which of the known permutations a scan's 27 patches were shuffled."""

from functools import lru_cache

import numpy as np

from train.data.random_bits import Draws
from train.proxies.normals import NormalScan
from train.proxies.patches import COUNT, PatchTask, cut
from train.settings import Jigsaw as Settings

MOST = COUNT * (COUNT - 1)  # no more permutations of 27 than that agree nowhere twice
_SEED = 27  # the permutations are part of the task, the same for every training


@lru_cache(maxsize=4)
def permutations(count: int) -> np.ndarray:
    """Return permutations of 27 places that are as unlike each other as so many can be.

    Any two agree in at most one place. That is the largest least Hamming distance of 28 to 702 permutations: with
    more than 27, two must send the first place to the same one. They are the maps a·x + b of the field of
    27 elements, a ≠ 0, of which two agree where (a - a')·x = b' - b, places renamed at random so that no map is a
    shift of the grid.

    Parameters
    ----------
    count : int
        2 to 702.

    Returns
    -------
    ndarray of int64, shape (count, 27)
        Row p says which cell's patch lies at each place.
    """
    table = products()
    sums = _digits_to_number((_digits()[:, None] + _digits()[None]) % 3)
    maps = np.array([sums[table[a], b] for a in range(1, COUNT) for b in range(COUNT)])
    draws = Draws(_SEED, 0)
    renamed = draws.permutation(COUNT)[maps[:, draws.permutation(COUNT)]]
    return renamed[draws.permutation(MOST)[:count]]


def products() -> np.ndarray:
    """Return the multiplication table of the field of 27 elements, shape (27, 27).

    Number d₀ + 3·d₁ + 9·d₂ is the polynomial d₀ + d₁·t + d₂·t² over {0, 1, 2}; t³ = t + 2, as t³ + 2·t + 1 has no
    root there and so cannot be divided.
    """
    digits = _digits()
    coefficients = np.zeros((COUNT, COUNT, 5), int)
    for i in range(3):
        for j in range(3):
            coefficients[..., i + j] += digits[:, None, i] * digits[None, :, j]
    for power in (4, 3):  # t⁴ = t² + 2·t, t³ = t + 2
        coefficients[..., power - 2] += coefficients[..., power]
        coefficients[..., power - 3] += 2 * coefficients[..., power]
    return _digits_to_number(coefficients[..., :3] % 3)


def _digits() -> np.ndarray:
    numbers = np.arange(COUNT)
    return np.stack([numbers % 3, numbers // 3 % 3, numbers // 9], axis=-1)


def _digits_to_number(digits: np.ndarray) -> np.ndarray:
    return digits @ np.array([1, 3, 9])


class Jigsaw(PatchTask):
    """All permutations known are equally likely.

    Parameters
    ----------
    settings : train.settings.Jigsaw
    size : int
        Voxels along a side of the scans.
    """

    pieces = COUNT

    def __init__(self, settings: Settings, size: int) -> None:
        super().__init__(size)
        self.permutations = permutations(settings.permutations)
        self.classes = settings.permutations

    def example(self, scan: NormalScan, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Return the shuffled patches, float32 (27, C, side, side, side), and the number of the permutation."""
        label = draws.integer(0, self.classes - 1)
        return cut(scan.voxels, draws)[self.permutations[label]], np.array(label)
