"""A scene: volumes on one grid, packed so small that a page can carry them to be looked into.

Grey layers become a byte a voxel, as fine as a screen's greys; which intensities they stand for is told beside them.
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from scans.image.box import Box, clip, tight_box
from scans.image.grid import Grid
from scans.page.nifti import nifti_gz

_DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}  # LPS
_MARGIN = 2  # voxels kept around what is shown
_AROUND = 0.5  # of the window's width: intensities kept on either side of it, so that a user can widen it
_STEPS = 254  # between the 255 codes of what is shown; 0 is what lies outside


@dataclass(frozen=True)
class Grey:
    """A layer of intensities.

    Attributes
    ----------
    title : str
    voxels : ndarray of float, shape (z, y, x)
        0 where the layer has nothing: there the layer under it is seen.
    shown : bool
        Whether it is to be seen at first; a user switches it.
    """

    title: str
    voxels: np.ndarray
    shown: bool = False


@dataclass(frozen=True)
class Areas:
    """A layer of areas, drawn as outlines and tints over all others.

    Attributes
    ----------
    title : str
    labels : ndarray of uint8, shape (z, y, x)
        0 where nothing is, n for the n-th name.
    names : tuple of (str, str)
        What each area is, and its colour as ``#rrggbb``.
    """

    title: str
    labels: np.ndarray
    names: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scene:
    """What a page shows of one scan.

    Attributes
    ----------
    name : str
        By which a user chooses it.
    grid : Grid
        Of all layers.
    greys : tuple of Grey
        The first lies at the bottom. What it has nothing of is outside: no other layer is shown there.
    window : (float, float)
        Intensities shown black and white at first.
    unit : str
        Of the intensities, in words.
    areas : Areas or None
    focus : ndarray of bool, shape (z, y, x), or None
        What to look at first; without one the areas, and without those the middle.
    in_scan : bool
        Whether `grid` is that of a scan, so that places are told in its millimetres; else voxels are counted.
    said : str
        Lines about it.
    """

    name: str
    grid: Grid
    greys: tuple[Grey, ...]
    window: tuple[float, float]
    unit: str
    areas: Areas | None = None
    focus: np.ndarray | None = None
    in_scan: bool = False
    said: str = ""


def oriented_grid(shape: tuple[int, ...], spacing_mm: tuple[float, ...], orientation: str) -> Grid:
    """Return a grid whose axes x, y, z point where three letters say, such as ``LPS``; the first voxel lies at 0.

    Parameters
    ----------
    shape, spacing_mm : tuple
        Along (z, y, x).
    orientation : str
        Of R or L, A or P, I or S, in any order.
    """
    direction = np.array([_DIRECTIONS[letter] for letter in orientation], float).T
    z, y, x = shape
    dz, dy, dx = spacing_mm
    return Grid((z, y, x), (dz, dy, dx), (0.0, 0.0, 0.0), tuple(direction.ravel().tolist()))


def pack(scene: Scene) -> dict[str, Any]:
    """Return a scene as JSON takes it, its volumes cropped to what is shown and packed as NIfTI.

    Values that are not finite are shown as outside. The same scene gives the same bytes.
    """
    there = _finite(scene.greys[0].voxels) != 0
    labels = None if scene.areas is None else scene.areas.labels
    covered = there if labels is None else there | (labels > 0)
    box = _with_margin(covered)
    grid = scene.grid.part(box)
    layers = [_grey(grey, there, scene.window, box, grid) for grey in scene.greys]
    if scene.areas is not None:
        layers.append(_areas(scene.areas, box, grid))
    marks = [each[box] for each in (scene.focus, None if labels is None else labels > 0) if each is not None]
    low, high = scene.window
    return {
        "name": scene.name,
        "said": scene.said,
        "unit": scene.unit,
        "in_scan": scene.in_scan,
        "window": [float(low), float(high)],
        "affine": (np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine).round(6).tolist(),  # (x, y, z) to RAS in mm, as NIfTI
        "corner": [part.start for part in box],
        "whole": list(scene.grid.shape),
        "shape": list(grid.shape),
        "focus": _focus(marks, grid.shape),
        "layers": layers,
    }


def size_of(packed: dict[str, Any]) -> int:
    """Return about how many bytes a packed scene adds to a page."""
    return sum(len(layer["data"]) for layer in packed["layers"])


def _grey(grey: Grey, there: np.ndarray, window: tuple[float, float], box: Box, grid: Grid) -> dict[str, Any]:
    voxels = _finite(grey.voxels)[box]
    shown = there[box] & (voxels != 0)
    inside = voxels[shown]
    width = max(window[1] - window[0], 1e-6)
    least, most = (float(inside.min()), float(inside.max())) if inside.size else window
    low, high = max(least, window[0] - _AROUND * width), min(most, window[1] + _AROUND * width)
    step = max((high - low) / _STEPS, 1e-9 * width)
    codes = np.zeros(voxels.shape, np.uint8)
    codes[shown] = np.clip(np.rint((inside - low) / step), 0, _STEPS) + 1
    return {
        "title": grey.title,
        "shown": grey.shown,
        "opacity": 1.0,
        "first": low,  # the intensity of code 1
        "step": step,
        "range": [least, most],
        "data": _base64(nifti_gz(codes, grid)),
    }


def _areas(areas: Areas, box: Box, grid: Grid) -> dict[str, Any]:
    counts = np.bincount(areas.labels.ravel(), minlength=len(areas.names) + 1)[1 : len(areas.names) + 1]
    ml = grid.voxel_mm3 / 1000
    return {
        "title": areas.title,
        "shown": True,
        "opacity": 0.25,
        "areas": [
            {"name": name, "colour": colour, "ml": round(float(count) * ml, 4)}
            for (name, colour), count in zip(areas.names, counts, strict=True)
        ],
        "data": _base64(nifti_gz(np.ascontiguousarray(areas.labels[box], np.uint8), grid, labels=True)),
    }


def _focus(marks: list[np.ndarray], shape: tuple[int, ...]) -> list[int]:
    """Return the voxel (z, y, x) to look at first: in the slice with most of what is marked, near its middle."""
    mark = next((each for each in marks if each.any()), None)
    if mark is None:
        return [n // 2 for n in shape]
    z = int(mark.sum(axis=(1, 2)).argmax())
    places = np.argwhere(mark[z])
    y, x = places[np.square(places - np.median(places, axis=0)).sum(axis=1).argmin()].tolist()
    return [z, y, x]


def _with_margin(covered: np.ndarray) -> Box:
    box = tight_box(covered if covered.any() else np.ones_like(covered))
    return clip(box, (_MARGIN,) * 3, covered.shape)


def _finite(voxels: np.ndarray) -> np.ndarray:
    return np.nan_to_num(voxels, posinf=0.0, neginf=0.0)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
