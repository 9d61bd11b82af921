"""Models Genesis (Zhou et al. 2019): restore a scan that was warped in intensity, shuffled and painted over.

Numbers are those of the authors' released code, from which the paper differs here and there.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from train.data.random_bits import Draws
from train.network.unet import UNet
from train.proxies.normals import NormalScan
from train.proxies.task import Example, Proxy
from train.run.pictures import Views
from train.settings import Genesis as Settings
from train.settings import Network

CURVE_POINTS = 1000
MARGIN = 3  # voxels of a cube's border that no painted window touches
MOST_HOLES, MOST_WINDOWS, ANOTHER = 5, 5, 0.95  # inner windows, outer windows, chance of one more
_AT_A_TIME = 1000  # shuffled windows whose voxels are sorted together
_OWNER = np.uint64(54)  # bits of a sorted number below those that say whose voxel it is
Window = tuple[slice, slice, slice]


def curve(controls: np.ndarray, falling: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a cubic Bézier curve from (0, 0) to (1, 1) as a table of arguments and values.

    It rises whatever the control points, since in [0, 1] none can lie beyond an end; `falling` turns it around.

    Parameters
    ----------
    controls : ndarray, shape (2, 2)
        The two inner control points (x, y), in [0, 1].
    falling : bool

    Returns
    -------
    ndarray, ndarray of float64, shape (1000,)
    """
    t = np.linspace(0, 1, CURVE_POINTS)
    weights = np.stack([3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2])
    arguments, values = controls.T @ weights + t**3
    return arguments, values[::-1] if falling else values


def warp(volume: np.ndarray, arguments: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Map the intensities of a modality, shape (z, y, x), by a curve over its range; what is 0 stays 0."""
    low, high = spread(volume)
    mapped = low + (high - low) * np.interp((volume - low) / (high - low), arguments, values)
    return np.where(volume != 0, mapped, 0).astype(np.float32)


def spread(volume: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest intensity of a modality inside the organ; they differ."""
    inside = volume[volume != 0]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 1.0)
    return low, high if high > low else low + 1.0


def window(shape: tuple[int, ...], low: list[int], high: list[int], margin: int, draws: Draws) -> Window:
    """Draw a window with sides from `low` to `high`, `margin` voxels from the border of the cube."""
    sides = [draws.integer(a, max(a, b)) for a, b in zip(low, high, strict=True)]
    starts = [draws.integer(margin, max(margin, n - side - margin)) for n, side in zip(shape, sides, strict=True)]
    z, y, x = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return z, y, x


def shuffle(volume: np.ndarray, count: int, draws: Draws) -> np.ndarray:
    """Shuffle the voxels inside many small windows, up to a tenth of a side long.

    A window receives voxels of the volume as it was, in random order, the same in all modalities; where windows
    overlap the later one stays. One sort for a thousand windows.

    Parameters
    ----------
    volume : ndarray, shape (C, z, y, x)
    count : int
        Windows.
    draws : Draws

    Returns
    -------
    ndarray, shape (C, z, y, x)
    """
    shape = np.array(volume.shape[1:])
    flat, shuffled = volume.reshape(len(volume), -1), volume.reshape(len(volume), -1).copy()
    for first in range(0, count, _AT_A_TIME):
        starts, sides = small_windows(shape, min(_AT_A_TIME, count - first), draws)
        owner, places = voxels_of(starts, sides, shape)
        keys = owner.astype(np.uint64) << _OWNER | draws.bits(len(places)) >> np.uint64(64 - int(_OWNER))
        shuffled[:, places] = flat[:, places[np.argsort(keys)]]
    return shuffled.reshape(volume.shape)


def small_windows(shape: np.ndarray, count: int, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Draw the first voxels and the sides of windows, int64, shape (count, 3)."""
    numbers = draws.uniforms(2, count, 3)
    sides = 1 + (numbers[0] * np.maximum(1, shape // 10)).astype(int)
    return (numbers[1] * (shape - sides + 1)).astype(int), sides


def voxels_of(starts: np.ndarray, sides: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels of windows one after the other: whose each is, and its place in the flat volume."""
    volumes = sides.prod(axis=1)
    owner = np.repeat(np.arange(len(sides)), volumes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(volumes) - volumes, volumes)
    _, height, width = sides[owner].T
    z, y, x = starts[owner].T + np.stack([within // (height * width), within // width % height, within % width])
    return owner, (z * shape[1] + y) * shape[2] + x


def holes(shape: tuple[int, ...], draws: Draws) -> list[Window]:
    """Draw the windows that inner painting fills: none to five, a sixth to a third of a side long."""
    low, high = [n // 6 for n in shape], [n // 3 for n in shape]
    windows: list[Window] = []
    while len(windows) < MOST_HOLES and draws.chance(ANOTHER):
        windows.append(window(shape, low, high, MARGIN, draws))
    return windows


def openings(shape: tuple[int, ...], draws: Draws) -> list[Window]:
    """Draw the windows that outer painting leaves: one to five, three to four sevenths of a side shorter than it."""
    low, high = [n - 4 * n // 7 for n in shape], [n - 3 * n // 7 for n in shape]
    windows = [window(shape, low, high, MARGIN, draws)]
    while len(windows) < MOST_WINDOWS and draws.chance(ANOTHER):
        windows.append(window(shape, low, high, MARGIN, draws))
    return windows


def paint(volume: np.ndarray, where: np.ndarray, draws: Draws) -> np.ndarray:
    """Fill voxels, bool (z, y, x), of each modality with noise that is uniform over its range."""
    painted = volume.copy()
    for channel in painted:
        low, high = spread(channel)
        channel[where] = low + (high - low) * draws.uniforms(int(np.count_nonzero(where)))
    return painted


def marked(windows: list[Window], shape: tuple[int, ...]) -> np.ndarray:
    """Return the voxels of windows, bool (z, y, x)."""
    inside = np.zeros(shape, bool)
    for one in windows:
        inside[one] = True
    return inside


class Restoration(UNet):
    """The UNet with its normal layer alone for an output, shape (N, C, z, y, x)."""

    def forward(self, scan: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Restore scans of that shape."""
        return super().forward(scan).normal


class Genesis(Proxy):
    """Restoration by the whole UNet, in its normal layer; encoder and decoder are trained."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def network(self, settings: Network, sources: int) -> nn.Module:
        """Return a UNet with random weights."""
        return Restoration(settings)

    def example(self, scan: NormalScan, draws: Draws) -> Example:
        """Return the deformed scan and the scan, each flipped alike, float32 (C, z, y, x)."""
        whole = scan.voxels
        for _ in range(3):
            if not draws.chance(self.settings.flip):
                break
            whole = np.flip(whole, draws.integer(1, 3))
        whole = np.ascontiguousarray(whole)
        return self.deform(whole, draws), whole

    def deform(self, whole: np.ndarray, draws: Draws) -> np.ndarray:
        """Shuffle, warp and paint a scan, float32 (C, z, y, x), each with its probability."""
        seen, shape, chances = whole, whole.shape[1:], self.settings
        if draws.chance(chances.shuffle):
            seen = shuffle(seen, chances.windows, draws)
        if draws.chance(chances.nonlinear):
            table = curve(draws.uniforms(2, 2), draws.chance(0.5))
            seen = np.stack([warp(channel, *table) for channel in seen])
        if draws.chance(chances.paint):
            inner = draws.chance(chances.inner)
            where = marked(holes(shape, draws), shape) if inner else ~marked(openings(shape, draws), shape)
            seen = paint(seen, where, draws)
        return seen

    def terms(self, output: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean squared difference."""
        return {"total": functional.mse_loss(output, wanted)}

    def row(self, name: str, shown: np.ndarray, output: np.ndarray) -> Views:
        """Show the deformed and the restored scan of the first modality."""
        return Views(name, shown[0], output[0], None, np.zeros(shown.shape[1:], bool), None)
