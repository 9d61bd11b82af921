"""A scan as a radiologist reads it: its own voxels, head and face up, the patient's right on the left."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scans.image.frame import from_frame, to_frame, widen
from scans.image.grid import Grid
from scans.image.normalisation import normalise
from scans.image.preparation import Prepared, reframe
from scans.image.volume import Volume

_AXES = ("SI", "PA", "LR")  # where z, y and x grow to, and the other end
_AXIAL, _CORONAL = 0, 1  # the axis that is fixed


@dataclass(frozen=True)
class Upright:
    """Volumes (z, y, x) on one grid whose axes grow to S, P and L.

    Attributes
    ----------
    scan : ndarray of float32
        In network units; 0 outside the ROI.
    layers : tuple of ndarray of float32
        Others to show beside it, likewise.
    truth, mask : ndarray of bool
    grid : Grid
        Where the voxels lie in the scan's space.
    """

    scan: np.ndarray
    layers: tuple[np.ndarray, ...]
    truth: np.ndarray
    mask: np.ndarray
    grid: Grid

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel spacing (z, y, x) in mm."""
        return self.grid.spacing_mm


@dataclass(frozen=True)
class Plane:
    """A plane worth looking at.

    Attributes
    ----------
    axis : int
        That is fixed, of (z, y, x).
    at : int
    shows : str
        Why this one.
    """

    axis: int
    at: int
    shows: str

    @property
    def name(self) -> str:
        """Say which plane it is."""
        return "axial" if self.axis == _AXIAL else "coronal"

    @property
    def marks(self) -> tuple[str, str, str, str]:
        """Letters at the left, right, upper and lower edge of what `cut` returns."""
        return ("R", "L", "A", "P") if self.axis == _AXIAL else ("R", "L", "S", "I")


def upright(
    volume: Volume,
    prepared: Prepared,
    truth: np.ndarray,
    mask: np.ndarray,
    orientation: str,
    layers: Sequence[np.ndarray] = (),
) -> Upright:
    """Turn a scan and what was found in it.

    Parameters
    ----------
    volume : Volume
        The scan.
    prepared : Prepared
        What `scans.image.preparation.prepare` made of it, with statistics.
    truth, mask : ndarray of bool, shape (z, y, x)
        On the scan's grid.
    orientation : str
        Where the axes x, y, z of the prepared cube point.
    layers : sequence of ndarray of float32
        In the cube.

    Returns
    -------
    Upright
        Around the ROI and both masks.
    """
    assert prepared.statistics is not None
    frame = widen(prepared.frame, volume.with_array(prepared.inside | truth | mask), native=True)
    there = reframe(volume, prepared, frame)
    masks = [to_frame(volume.with_array(each.astype(np.float32)), frame) >= 0.5 for each in (truth, mask)]
    others = [to_frame(from_frame(layer, prepared.frame), frame) for layer in layers]
    ends = orientation[::-1]
    order = [next(a for a, end in enumerate(ends) if end in axis) for axis in _AXES]
    turn = tuple(slice(None, None, 1 if ends[a] == axis[0] else -1) for a, axis in zip(order, _AXES, strict=True))
    scan, *rest = (
        each.transpose(order)[turn]
        for each in (normalise(there.intensity, there.roi, prepared.statistics), *masks, *others)
    )
    return Upright(scan, tuple(rest[2:]), rest[0], rest[1], _turned(frame.network, order, turn))


def _turned(grid: Grid, order: Sequence[int], turn: Sequence[slice]) -> Grid:
    """Return where voxels lie after their axes (z, y, x) were put in another order, and then turned."""
    turned = [part.step == -1 for part in turn]
    columns = np.reshape(grid.direction, (3, 3))[:, [2 - a for a in order][::-1]]  # of the new x, y, z
    first = [0, 0, 0]  # voxel (z, y, x) of the old grid that comes first now
    for axis, old in enumerate(order):
        first[old] = grid.shape[old] - 1 if turned[axis] else 0
    origin = (grid.affine @ [*first[::-1], 1.0])[:3]
    direction = columns * np.where(turned[::-1], -1.0, 1.0)
    nz, ny, nx = (grid.shape[a] for a in order)
    dz, dy, dx = (grid.spacing_mm[a] for a in order)
    ox, oy, oz = origin.tolist()
    return Grid((nz, ny, nx), (dz, dy, dx), (ox, oy, oz), tuple(direction.ravel().tolist()))


def telling_planes(views: Upright) -> list[Plane]:
    """Choose planes that show a failure: axial with most missed and with most false, coronal with most of both.

    Where nothing is wrong they go through most of the tumour, and without one through the middle.
    """
    missed, false = views.truth & ~views.mask, views.mask & ~views.truth
    axial = [
        Plane(_AXIAL, _fullest(m, _AXIAL), f"most {w}") for w, m in (("missed", missed), ("false", false)) if m.any()
    ]
    if len(axial) == 2 and axial[0].at == axial[1].at:
        axial = [Plane(_AXIAL, axial[0].at, "most missed and most false")]
    if axial:
        return [*axial, Plane(_CORONAL, _fullest(missed | false, _CORONAL), "most wrong")]
    shows = "most tumour" if views.truth.any() else "the middle"
    return [Plane(axis, _fullest(views.truth, axis), shows) for axis in (_AXIAL, _CORONAL)]


def cut(volume: np.ndarray, plane: Plane) -> np.ndarray:
    """Cut a plane out of an upright volume; anterior or superior comes first."""
    section = np.take(volume, plane.at, axis=plane.axis)
    return section if plane.axis == _AXIAL else section[::-1]


def _fullest(mask: np.ndarray, axis: int) -> int:
    """Return the slice with most of a mask; the middle one if it is empty."""
    if not mask.any():
        return mask.shape[axis] // 2
    return int(mask.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
