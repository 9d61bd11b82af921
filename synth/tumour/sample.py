"""A sample: the tuple (composite, normal, texture, mask, alpha), and the tumour that tells it from its normal."""

import functools
from dataclasses import dataclass

import numpy as np

from scans import memory
from scans.image.box import Box


@dataclass(frozen=True, eq=False)
class Normal:
    """A source as it receives tumours, in the network's units.

    Attributes
    ----------
    voxels : ndarray of float16, shape (z, y, x)
        0 outside the organ.
    roi : ndarray of bool, same shape
        Where a tumour may be centred and visible.
    """

    voxels: np.ndarray
    roi: np.ndarray

    @functools.cached_property
    def centres(self) -> "Voxels":
        """The voxels of `roi`, by number."""
        return Voxels(self.roi)

    def turned(self, turn: Box) -> "Normal":
        """Return it seen through an index of whole axes, some of them backwards; nothing is copied."""
        return Normal(self.voxels[turn], self.roi[turn])


class Voxels:
    """The voxels of a mask, by number in C order.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
    """

    def __init__(self, mask: np.ndarray) -> None:
        self._mask = mask
        self._ends = np.cumsum(np.count_nonzero(mask, axis=(1, 2)))  # up to the end of each plane

    def __len__(self) -> int:
        """Voxels that are set."""
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> tuple[int, int, int]:
        """Return the index (z, y, x) of one of them."""
        z = int(np.searchsorted(self._ends, number, side="right"))
        before = int(self._ends[z - 1]) if z else 0
        y, x = np.unravel_index(np.flatnonzero(self._mask[z])[number - before], self._mask[z].shape)
        return z, int(y), int(x)


@dataclass(frozen=True)
class Layer:
    """A tumour before it meets a normal: its form as it was drawn, and its tissue, in the network's units.

    What lies outside a normal's ROI is cut off when it is laid over that normal (`synth.tumour.blend.lay`), so that the
    same layer can be laid over another.

    Attributes
    ----------
    box : tuple of slice
        Where in the cube (z, y, x).
    form : ndarray of bool, shape of `box`
        Voxels that the tumour, or its soft edge, can touch.
    tissue : ndarray of float16, shape (n,)
        tau(donor) at the n voxels of `form`, in C order; not masked, so that a soft edge blends it too.
    edge : ndarray of uint8, shape (n,), or None
        With ``mask.soft_mm``: 128 where the mask is 1, plus the mask's softened value times 127. None: the form is
        the mask, and its edge is hard.
    """

    box: Box
    form: np.ndarray
    tissue: np.ndarray
    edge: np.ndarray | None = None


@dataclass(frozen=True)
class Tumour:
    """All that tells a sample from its normal: what lies in a box around the tumour, in the network's units.

    Attributes
    ----------
    box : tuple of slice
        Where (z, y, x).
    composite, texture : ndarray of float16, shape of `box`
    mask : ndarray of uint8, shape of `box`
    alpha : float
        Exact in float32.
    """

    box: Box
    composite: np.ndarray
    texture: np.ndarray
    mask: np.ndarray
    alpha: float

    def within(self, window: Box) -> "Tumour":
        """Return what of it lies in a window of the cube, counted from the window's corner; perhaps nothing."""
        shared = [
            slice(max(own.start, part.start), max(own.start, part.start, min(own.stop, part.stop)))
            for own, part in zip(self.box, window, strict=True)
        ]
        z, y, x = (slice(s.start - own.start, s.stop - own.start) for s, own in zip(shared, self.box, strict=True))
        there = [slice(s.start - part.start, s.stop - part.start) for s, part in zip(shared, window, strict=True)]
        if any(part.start == part.stop for part in shared):
            there = [slice(0, 0)] * 3
            z = y = x = slice(0, 0)
        part = (z, y, x)
        box = (there[0], there[1], there[2])
        return Tumour(box, self.composite[part], self.texture[part], self.mask[part], self.alpha)


@dataclass(frozen=True)
class Sample:
    """One artificial tumour in a normal scan, in the network's units.

    Attributes
    ----------
    composite, normal, texture : ndarray of float32, shape (z, y, x)
        What the network sees, and the two layers it must find. ``texture`` is 0 outside the mask. Every number is
        exact in float16; readers fill arrays of that type too.
    mask : ndarray of uint8, shape (z, y, x)
        1 inside the tumour.
    alpha : float
        Blending strength in [0, 1]. Inside the mask ``composite = normal + alpha * (texture - normal)``
        (Eq. 5) rounded to float16; outside it equals ``normal`` exactly.
    """

    composite: np.ndarray
    normal: np.ndarray
    texture: np.ndarray
    mask: np.ndarray
    alpha: float

    def turned(self, turn: Box) -> "Sample":
        """Return it seen through an index of whole axes, some of them backwards; nothing is copied."""
        return Sample(self.composite[turn], self.normal[turn], self.texture[turn], self.mask[turn], self.alpha)


def empty_sample(size: int, dtype: type = np.float32) -> Sample:
    """Return a sample without content, to be written over; `dtype` is that of its three layers."""
    cube = (size, size, size)
    composite, normal, texture = (memory.empty(cube, dtype) for _ in range(3))
    return Sample(composite, normal, texture, memory.empty(cube, np.uint8), 0.0)
