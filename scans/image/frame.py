"""The frame: where the network's cube lies in a scan, and the road there and back.

All resampling is linear. What comes from a lab may lie a little askew, so the way to the cube goes from one physical
grid to another, by SimpleITK. The cube's axes are the scan's, so on the way back each axis is interpolated by itself.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

import numpy as np
import SimpleITK as sitk

from scans.catalog.region import REFERENCE_SIZE, FieldOfView
from scans.errors import ScanError
from scans.image.box import Box, box_of, ends_of, tight_box
from scans.image.grid import Grid
from scans.image.smoothing import reach_voxels, smoothed, smoothed_at
from scans.image.volume import Volume

_AXES = {
    "L": (1, 0, 0),
    "R": (-1, 0, 0),
    "P": (0, 1, 0),
    "A": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}  # LPS
_NEAR = 1e-6  # of a voxel; an index may be off by less


@dataclass(frozen=True)
class Frame:
    """A network cube in a scan's space, or a box that patches of the cube's sides slide over (`widen`).

    Attributes
    ----------
    scan : Grid
        The scan's own grid.
    network : Grid
        The cube's grid: its axes are the scan's, permuted and flipped to the region's orientation.
    """

    scan: Grid
    network: Grid

    @property
    def size(self) -> int:
        """Voxels along each side of the cube."""
        return self.network.shape[0]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing (z, y, x) of the network's voxels in mm."""
        return self.network.spacing_mm

    def to_json(self) -> dict[str, Any]:
        """Return the frame as plain lists and numbers."""
        return {name: {key: list(value) for key, value in grid.items()} for name, grid in asdict(self).items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Frame":
        """Return the frame that `to_json` wrote."""
        return cls(**{name: Grid(**{k: tuple(v) for k, v in content[name].items()}) for name in ("scan", "network")})


def fit_frame(grid: Grid, roi: Box, field_of_view: FieldOfView, orientation: str, size: int) -> Frame:
    """Lay the network's cube around a region of interest.

    Parameters
    ----------
    grid : Grid
        The scan's own.
    roi : Box
        The region's bounding box there.
    field_of_view : FieldOfView
        ``resize``: that box becomes the cube. ``spacing``: isotropic voxels around its centre.
    orientation : str
        Where the cube's axes x, y, z point, e.g. ``LPS``.
    size : int
        Voxels along each side.
    """
    low, high = _first_and_last(roi)
    centre = (grid.affine @ [*((low + high) / 2), 1.0])[:3]
    order, direction = _oriented(np.reshape(grid.direction, (3, 3)), orientation)
    if field_of_view.spacing_mm is None:
        extent_mm = (high - low + 1) * grid.spacing_mm[::-1]  # from face to face of the outermost voxels
        spacing = extent_mm[order] / size
    else:
        spacing = np.full(3, field_of_view.spacing_mm * REFERENCE_SIZE / size)
    x, y, z = spacing.tolist()
    ox, oy, oz = (centre - direction @ (spacing * (size - 1) / 2)).tolist()
    return Frame(grid, Grid((size,) * 3, (z, y, x), (ox, oy, oz), tuple(direction.ravel().tolist())))


def widen(cube: Frame, roi: Volume, *, native: bool) -> Frame:
    """Lay a box over the whole of a region of interest, its axes those of the cube.

    Parameters
    ----------
    cube : Frame
        Of `fit_frame`, for the same scan.
    roi : Volume
        Mask in the scan's grid, not empty.
    native : bool
        Take the scan's own voxels: its axes permuted and flipped, nothing interpolated. Otherwise go on with the
        cube's voxels beyond the cube as far as the ROI reaches, and not at all where the cube holds it.

    Returns
    -------
    Frame
        With as many voxels along each side as that takes.
    """
    grid = roi.grid
    low, high = _first_and_last(tight_box(roi.array))
    direction = np.reshape(cube.network.direction, (3, 3))
    if native:
        order = np.abs(direction.T @ np.reshape(grid.direction, (3, 3))).argmax(axis=1)  # scan axis of x, y, z
        spacing = np.array(grid.spacing_mm[::-1])[order]
        sides = (high - low + 1)[order]
        centre = (grid.affine @ [*((low + high) / 2), 1.0])[:3]
    else:
        spacing = np.array(cube.network.spacing_mm[::-1])
        size = np.array(cube.network.shape[::-1])
        centre = (cube.network.affine @ [*((size - 1) / 2), 1.0])[:3]
        faces = np.array([[*(low - 0.5), 1.0], [*(high + 0.5), 1.0]]) @ grid.affine.T
        reach = np.abs((faces[:, :3] - centre) @ direction).max(axis=0) / spacing
        sides = size + 2 * np.ceil(np.maximum(reach - size / 2 - 1e-6, 0))
    x, y, z = spacing.tolist()
    nx, ny, nz = sides.astype(int).tolist()
    ox, oy, oz = (centre - direction @ (spacing * (sides - 1) / 2)).tolist()
    return Frame(grid, Grid((nz, ny, nx), (z, y, x), (ox, oy, oz), cube.network.direction))


def to_frame(volume: Volume, frame: Frame) -> np.ndarray:
    """Resample a volume from the scan's space to the network's cube, linearly.

    Where the cube's voxels are coarser a Gaussian comes first.

    Returns
    -------
    ndarray, shape (z, y, x), the cube's sides
        float32; 0 outside the scan.
    """
    return _resample(volume, frame.network)


def from_frame(array: np.ndarray, frame: Frame) -> Volume:
    """Resample an array of the network's cube back to the scan's own grid.

    Parameters
    ----------
    array : ndarray, shape (z, y, x), the cube's sides
    frame : Frame

    Returns
    -------
    Volume
        float32 (a mask comes back as shares in [0, 1]: threshold at 0.5); 0 outside the cube.
    """
    found = np.zeros(frame.scan.shape, np.float32)
    if (box := box_in_scan(np.ones(array.shape, bool), frame)) is not None:
        found[box] = part_from_frame(array, frame, box).array
    return Volume.on(frame.scan, found)


def box_in_scan(voxels: np.ndarray, frame: Frame) -> Box | None:
    """Return the box of the scan that some voxels of the network's cube reach, when they are resampled back.

    A mean reaches no more than what it is of: a value that is nowhere else in the cube is nowhere else in the scan.

    Parameters
    ----------
    voxels : ndarray of bool, shape (z, y, x), the cube's sides
    frame : Frame

    Returns
    -------
    Box or None
        None if there is no such voxel, or none of them lies near the scan.
    """
    if not voxels.any():
        return None
    reach = reach_voxels(_sigma(frame.network, frame.scan)) + 1
    return _seen(frame.scan, frame.network, tight_box(voxels), reach, np.ones(3))


def part_from_frame(array: np.ndarray, frame: Frame, box: Box) -> Volume:
    """Return a box of what `from_frame` does, in its place."""
    if array.shape != frame.network.shape:
        raise ScanError(f"an array of {array.shape} voxels does not fill a cube of {frame.network.shape}")
    part = frame.scan.part(box)
    array = smoothed(array.astype(np.float32, copy=False), _sigma(frame.network, part)[::-1])
    steps = np.linalg.inv(frame.network.affine) @ part.affine  # from indices (x, y, z) of the scan to the cube's
    places = [
        steps[axis, 3] + steps[axis, along] * np.arange(part.shape[::-1][along])
        for axis, along in enumerate(_axes_along(frame.network, part))
    ]
    kept = [np.arange(side) for side in array.shape[:2]]
    return Volume.on(part, _along_axes(array, frame.network, part, places, kept))


def coverage(frame: Frame, mask: np.ndarray) -> float:
    """Return the share of a mask's voxels that lie inside the cube.

    Parameters
    ----------
    frame : Frame
    mask : ndarray of bool, shape (z, y, x), the scan's grid
        Not empty.
    """
    faces = np.array([[-0.5, -0.5, -0.5, 1.0], [*(n - 0.5 for n in frame.network.shape[::-1]), 1.0]])
    ends = (faces @ frame.network.affine.T @ np.linalg.inv(frame.scan.affine).T)[:, :3]
    low = np.maximum(np.ceil(ends.min(axis=0) - 1e-6), 0).astype(int)
    high = np.maximum(np.floor(ends.max(axis=0) + 1e-6), -1).astype(int) + 1
    inside = mask[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    return float(np.count_nonzero(inside)) / float(np.count_nonzero(mask))


def _first_and_last(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last index (x, y, z) in a box along each axis, float64."""
    ends = ends_of(box)[::-1].astype(float)
    return ends[1::2], ends[::2] - 1


def _oriented(direction: np.ndarray, orientation: str) -> tuple[list[int], np.ndarray]:
    """Return which scan axis becomes x, y and z, and the direction columns after their flips."""
    wanted = np.array([_AXES[letter] for letter in orientation], float)  # row: target axis
    if np.abs(wanted).sum(axis=0).tolist() != [1, 1, 1]:
        raise ScanError(f"orientation {orientation} names an axis twice; use one letter of each of RL, AP, IS")
    closeness = wanted @ direction  # row: target axis, column: scan axis
    order = max(permutations(range(3)), key=lambda p: sum(abs(closeness[i, a]) for i, a in enumerate(p)))
    columns = [direction[:, a] * (1.0 if closeness[i, a] > 0 else -1.0) for i, a in enumerate(order)]
    return list(order), np.stack(columns, axis=1)


def _resample(volume: Volume, target: Grid) -> np.ndarray:
    """Resample to `target`; a Gaussian first along axes where its voxels are coarser.

    The Gaussian has a standard deviation of ``0.5 sqrt((out / in)² - 1)`` voxels of the input, so that a box
    of one input voxel widens to about one of the output. The input is cropped to what `target` can see.
    """
    sigma = _sigma(volume.grid, target)
    z, y, x = (slice(0, side) for side in target.shape)
    if (box := _seen(volume.grid, target, (z, y, x), np.zeros(3), reach_voxels(sigma) + 2)) is None:
        return np.zeros(target.shape, np.float32)
    part = volume.crop(box)
    array = part.array if part.array.dtype in (bool, np.uint8) else part.array.astype(np.float32, copy=False)
    kept = [np.arange(side) for side in array.shape[:2]]
    if sigma.any():
        kept = _looked_at(part.grid, target)
        array = smoothed_at(array, sigma[::-1], kept)
    if (places := _itk_places(part.grid, target)) is not None:
        return _along_axes(array, part.grid, target, places, kept)
    whole = np.zeros(part.array.shape, np.float32)
    whole[np.ix_(*kept)] = array
    part = part.with_array(whole)

    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.shape[::-1])
    resampler.SetOutputSpacing(target.spacing_mm[::-1])
    resampler.SetOutputOrigin(target.origin)
    resampler.SetOutputDirection(target.itk_direction)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(0.0)
    result = sitk.GetArrayFromImage(resampler.Execute(part.to_itk()))
    return result.astype(np.float32, copy=False)


def _itk_places(source: Grid, target: Grid) -> list[np.ndarray] | None:
    """Return where ITK finds the target's voxels along the source's x, y and z, in its voxels and to the bit.

    Along x it asks for the two ends of a row, and goes from one to the other. None where an axis is not that of space
    with the same name: its inverse of such a matrix is rounded, and each row another.
    """
    turned = np.reshape([source.itk_direction, target.itk_direction], (2, 3, 3)) * ~np.eye(3, dtype=bool)
    if turned.any():
        return None
    here, there = (Volume.on(grid, np.zeros((1, 1, 1), np.uint8)).to_itk() for grid in (source, target))
    places = []
    for axis, side in enumerate(target.shape[::-1]):
        asked = np.zeros((side if axis else 2, 3), int)
        asked[:, axis] = np.arange(side) if axis else (0, side)
        points = map(there.TransformIndexToPhysicalPoint, asked.tolist())
        found = np.array([here.TransformPhysicalPointToContinuousIndex(point)[axis] for point in points])
        places.append(found if axis else found[0] + np.arange(side) / side * (found[1] - found[0]))
    return places


def _axes_along(source: Grid, target: Grid) -> np.ndarray:
    """Return the target's axis along the source's x, y and z."""
    steps = np.linalg.inv(source.affine) @ target.affine  # from indices (x, y, z) of the target to the source's
    along: np.ndarray = np.abs(steps[:3, :3]).argmax(axis=1)
    return along


def _along_axes(
    array: np.ndarray, source: Grid, target: Grid, places: Sequence[np.ndarray], kept: Sequence[np.ndarray]
) -> np.ndarray:
    """Resample, axis by axis, to a grid whose axes are those of the source, permuted and flipped.

    In float64 from x to z, as ITK does in each voxel; but only the last axis is gone along in as many voxels as the
    target has, so that a brain takes a tenth of the time.

    Parameters
    ----------
    array : ndarray, shape (kept z, kept y, x)
    source, target : Grid
    places : sequence of ndarray
        Of the target's voxels along the source's x, y and z, in its voxels.
    kept : sequence of ndarray
        Indices along the source's z and y that `array` has, ascending: all that are looked at.
    """
    order = _axes_along(source, target)
    sides = np.array(target.shape[::-1])[order]
    x, y, z = (_neighbours(each, side) for each, side in zip(places, source.shape[::-1], strict=True))
    z, y = ((*np.searchsorted(indices, pair[:2]), pair[2]) for indices, pair in zip(kept, (z, y), strict=True))
    first, last = z[0].min(initial=0), z[1].max(initial=0) + 1
    planes = array[first:last].astype(np.float64)
    planes = _between(planes[..., x[0]], planes[..., x[1]], x[2])
    planes = _between(planes[:, y[0]], planes[:, y[1]], y[2][:, None])
    result = np.empty(sides[::-1], np.float32)
    for plane, low, high, share in zip(result, z[0] - first, z[1] - first, z[2], strict=True):
        plane[...] = _between(planes[low], planes[high], share)
    for axis, (place, side) in enumerate(zip(places[::-1], source.shape, strict=True)):
        outside = ~((place >= -0.5) & (place < side - 0.5))
        result[(slice(None),) * axis + (outside,)] = 0
    return np.ascontiguousarray(result.transpose(np.argsort(2 - order[::-1])))


def _neighbours(places: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return between which two of a row of voxels each place lies, and its distance from the first of them."""
    low = np.clip(np.floor(places).astype(int), 0, side - 1)
    return low, np.minimum(low + 1, side - 1), np.maximum(places - low, 0.0)


def _between(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the linear interpolation of two arrays; `share` is that of the second."""
    found = high - low
    found *= share
    found += low
    return found


def _looked_at(grid: Grid, target: Grid) -> list[np.ndarray]:
    """Return the indices along z and y of the planes and rows that a linear interpolation to `target` looks at."""
    steps = np.linalg.inv(grid.affine) @ target.affine  # from indices (x, y, z) of the target to the grid's
    last = np.array(target.shape[::-1]) - 1
    wanted = []
    for axis, side in zip((2, 1), grid.shape, strict=False):
        along = int(np.abs(steps[axis, :3]).argmax())
        aside = np.delete(steps[axis, :3] * last, along)  # none, unless a file lies askew
        places = steps[axis, 3] + steps[axis, along] * np.arange(last[along] + 1)
        first = np.floor(places + np.minimum(aside, 0).sum() - _NEAR).astype(int)
        end = np.floor(places + np.maximum(aside, 0).sum() + _NEAR).astype(int) + 2
        looked = np.zeros(side, bool)
        for reach in range(int((end - first).max())):
            looked[np.clip(np.minimum(first + reach, end - 1), 0, side - 1)] = True
        wanted.append(np.flatnonzero(looked))
    return wanted


def _sigma(source: Grid, target: Grid) -> np.ndarray:
    """Return the deviations of the Gaussian that comes before resampling, along (x, y, z), in the source's voxels."""
    cosines = np.abs(np.reshape(source.direction, (3, 3)).T @ np.reshape(target.direction, (3, 3)))
    out_mm = np.array(target.spacing_mm[::-1])[cosines.argmax(axis=1)]  # along the source's x, y, z
    ratio = out_mm / np.array(source.spacing_mm[::-1])
    sigma: np.ndarray = 0.5 * np.sqrt(np.maximum(ratio**2 - 1.0, 0.0))
    return sigma


def _seen(grid: Grid, other: Grid, box: Box, reach: np.ndarray, margin: np.ndarray) -> Box | None:
    """Return the box of a grid's voxels that lie in a box of another; None if none does.

    Parameters
    ----------
    grid, other : Grid
    box : Box
        Of `other`.
    reach, margin : ndarray, shape (3,)
        What is added to each side along (x, y, z), in voxels of `other` and of `grid`.
    """
    first, last = ends_of(box)[::-1][1::2] - 0.5 - reach, ends_of(box)[::-1][::2] - 0.5 + reach
    corners = np.array([[i, j, k, 1] for i in (first[0], last[0]) for j in (first[1], last[1])
                        for k in (first[2], last[2])])  # fmt: skip
    seen = (corners @ other.affine.T @ np.linalg.inv(grid.affine).T)[:, :3]
    low = np.maximum(np.floor(seen.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(seen.max(axis=0) + margin) + 1, grid.shape[::-1]).astype(int)
    if (low >= high).any():
        return None
    return box_of(np.stack([low, high], axis=1)[::-1].ravel())
