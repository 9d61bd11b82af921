"""What a network missed in a scan, and what it found where nothing is: a picture, and a scene to be looked into."""

import io
import threading
from typing import TYPE_CHECKING

import numpy as np

from scans.page.greys import grey_window
from scans.page.scene import Grey, Scene
from train.evaluation.upright import Plane, Upright, cut, telling_planes
from train.run.scenes import FALSE, MISSED, outcome_areas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_COLUMNS = ("scan", "reference and network", "predicted normal", "predicted tumour")
_TINT = 0.4  # opacity of what is missed or false; what is found stays clear
_INCH = 2.5  # of the widest panel
_MARGIN = 0.04  # of a plane's sides, for the letters
_drawing = threading.Lock()  # matplotlib draws one picture at a time, cases are scored several at a time


def failure_picture(views: Upright) -> bytes:
    """Draw each telling plane without and with outlines, and the layers that were found there.

    Parameters
    ----------
    views : Upright
        Its layers, if any, are the predicted normal and tumour of its scan.

    Returns
    -------
    bytes
        A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    planes = telling_planes(views)
    columns = _COLUMNS[: 2 + len(views.layers)]
    sides = [n * side for n, side in zip(views.scan.shape, views.spacing_mm, strict=True)]
    heights, width = [sides[1] if plane.axis == 0 else sides[0] for plane in planes], sides[2]
    inch = _INCH / max(width, 0.6 * max(heights))
    top, gap = 0.25, 0.03  # inches
    height = sum(heights) * inch + top + gap * len(planes)
    figure = Figure(figsize=((width * inch + gap) * len(columns), height), dpi=96, facecolor="black")
    grid = figure.add_gridspec(
        len(planes), len(columns), height_ratios=heights, left=0, right=1, bottom=0, top=1 - top / height,
        wspace=gap / (width * inch), hspace=gap / (np.mean(heights) * inch),
    )  # fmt: skip
    axes = grid.subplots(squeeze=False)
    low, high = grey_window(views.scan)
    windows = [(low, high)] * len(columns)
    if len(views.layers) > 1:  # a tumour that is not blended may be far brighter than the scan
        windows[-1] = low, max(high, grey_window(views.layers[-1])[1])
    for row, plane in zip(axes, planes, strict=True):
        volumes = [views.scan, views.scan, *views.layers]
        for axis, volume, window in zip(row, volumes, windows, strict=True):
            _show(axis, volume, views, plane, window)
        _outline(row[1], views, plane)
        _mark(row[0], plane, f"{plane.name}, {plane.shows}")
        _mark(row[1], plane)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, color="white", fontsize=8.5, pad=4)
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    with _drawing:
        figure.savefig(file, format="png", facecolor="black", metadata={"Software": ""})
    return file.getvalue()


def failure_scene(name: str, views: Upright) -> Scene:
    """Return a scan with what is found, missed and false in it; places are told in the scan's own millimetres.

    Parameters
    ----------
    name : str
        Of the case.
    views : Upright
        As of `failure_picture`.
    """
    wrong = views.truth != views.mask
    greys = [Grey(title, voxels) for title, voxels in zip(_COLUMNS[2:], views.layers, strict=False)]
    return Scene(
        name=name,
        grid=views.grid,
        greys=(Grey("scan", views.scan, shown=True), *greys),
        window=grey_window(views.scan),
        unit="the network's units",
        areas=outcome_areas(views.truth, views.mask),
        focus=wrong if wrong.any() else views.truth,
        in_scan=True,
    )


def _show(axis: "Axes", volume: np.ndarray, views: Upright, plane: Plane, window: tuple[float, float]) -> None:
    outside = cut((views.scan == 0) | (volume == 0), plane)
    picture = np.where(outside, window[0], cut(volume, plane))
    down, right = (side for a, side in enumerate(views.spacing_mm) if a != plane.axis)
    axis.imshow(picture, cmap="gray", vmin=window[0], vmax=window[1], aspect=down / right, interpolation="nearest")
    rows, columns = picture.shape
    axis.set_xlim(-_MARGIN * columns, (1 + _MARGIN) * columns)
    axis.set_ylim((1 + _MARGIN) * rows, -_MARGIN * rows)
    axis.set_axis_off()


def _outline(axis: "Axes", views: Upright, plane: Plane) -> None:
    from matplotlib.colors import to_rgb

    truth, mask = cut(views.truth, plane), cut(views.mask, plane)
    limits = axis.get_xlim(), axis.get_ylim()
    tint = np.zeros((*truth.shape, 4))
    for wrong, colour in ((truth & ~mask, MISSED), (mask & ~truth, FALSE)):
        tint[wrong] = (*to_rgb(colour), _TINT)
    axis.imshow(tint, aspect=axis.get_aspect(), interpolation="nearest")
    for area, colour, wide in ((truth, MISSED, 1.6), (mask, FALSE, 0.9)):
        if area.any():
            axis.contour(area.astype(float), levels=[0.5], colors=[colour], linewidths=wide)
    axis.set_xlim(limits[0])
    axis.set_ylim(limits[1])


def _mark(axis: "Axes", plane: Plane, words: str = "") -> None:
    """Say which side is which, and which plane it is."""
    left, right, upper, lower = plane.marks
    places = ((left, 0.015, 0.5, "left", "center"), (right, 0.985, 0.5, "right", "center"),
              (upper, 0.5, 0.985, "center", "top"), (lower, 0.5, 0.015, "center", "bottom"))  # fmt: skip
    for letter, x, y, across, along in places:
        axis.text(x, y, letter, transform=axis.transAxes, color="#b8b8b8", fontsize=7, ha=across, va=along)
    axis.text(0.015, 0.985, words, transform=axis.transAxes, color="white", fontsize=7, ha="left", va="top")
