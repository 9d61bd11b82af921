"""Pictures of layers: one per validation, three planes per case for the report.

Matplotlib takes half a second to import, and a training can do without it: it is imported where something is drawn.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from train.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH, PREDICTION, THRESHOLD = "#f0a202", "#25c5f5", "#d86cf0"  # distinct for colour-blind readers, on grey
PLANES = ("axial", "coronal", "sagittal")  # fixed z, y, x
_LABEL = 30  # letters of a name that fit beside a row; the end of a long one tells most


@dataclass(frozen=True)
class Views:
    """What is shown of one scan: volumes (z, y, x) on one grid; ``None`` is left out.

    ``scan``, ``normal``, ``texture`` are in network units; ``mask`` and ``truth`` are boolean.
    """

    name: str
    scan: np.ndarray
    normal: np.ndarray | None
    texture: np.ndarray | None
    mask: np.ndarray
    truth: np.ndarray | None
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    threshold: np.ndarray | None = None


Window = tuple[float, float]


def centre(views: Views) -> tuple[int, int, int]:
    """Return the slices (z, y, x) with most truth, else most prediction, else the middle."""
    for mask in (views.truth, views.mask):
        if mask is not None and mask.any():
            areas = [mask.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
            z, y, x = (int(area.argmax()) for area in areas)
            return z, y, x
    z, y, x = (side // 2 for side in views.scan.shape)
    return z, y, x


def validation_picture(samples: Sequence[Views], path: Path) -> np.ndarray:
    """Draw input, predicted normal, predicted tumour, predicted mask and truth, one row a sample.

    Parameters
    ----------
    samples : sequence of Views
        Their names stand beside the rows.
    path : Path
        Written whole or not at all.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        The picture written to `path`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles = ("input", "predicted normal", "predicted tumour", "predicted mask", "truth")
    figure = Figure(figsize=(2.0 * len(titles), 2.1 * len(samples)), dpi=80, layout="constrained")
    axes = figure.subplots(len(samples), len(titles), squeeze=False)
    for row, views in zip(axes, samples, strict=True):
        plane = centre(views)[0]
        nothing = np.zeros_like(views.scan)
        layers = [nothing if volume is None else volume for volume in (views.scan, views.normal, views.texture)]
        masks = [nothing if mask is None else mask.astype(float) for mask in (views.mask, views.truth)]
        windows = [*_windows(views), (0.0, 1.0), (0.0, 1.0)]
        for axis, volume, window in zip(row, [*layers, *masks], windows, strict=True):
            _show(axis, _on_black(volume, views.scan, window)[plane], window, 1.0)
        row[0].set_ylabel(views.name if len(views.name) <= _LABEL else f"…{views.name[1 - _LABEL :]}", fontsize=7)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": ""})
    write_atomically(path, png.getvalue())
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def case_picture(views: Views) -> bytes:
    """Draw three planes of scan, predicted normal, predicted tumour and contours; return a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    window, _, tumour_window = _windows(views)
    columns = [("scan", views.scan, window)]
    if views.normal is not None and views.texture is not None:
        columns += [
            ("predicted normal", views.normal, window),
            ("predicted tumour", views.texture, tumour_window),
        ]
    columns.append(("contours", views.scan, window))
    figure = Figure(figsize=(2.4 * len(columns), 2.4 * 3), dpi=80, layout="constrained", facecolor="white")
    axes = figure.subplots(3, len(columns), squeeze=False)
    at = centre(views)
    for fixed, (row, plane) in enumerate(zip(axes, PLANES, strict=True)):
        down, right = (s for a, s in enumerate(views.spacing_mm) if a != fixed)
        for axis, (title, volume, shown) in zip(row, columns, strict=True):
            _show(axis, _plane(_on_black(volume, views.scan, shown), fixed, at), shown, down / right)
            if fixed == 0:
                axis.set_title(title, fontsize=9)
        row[0].set_ylabel(plane, fontsize=9)
        for mask, colour in ((views.threshold, THRESHOLD), (views.truth, TRUTH), (views.mask, PREDICTION)):
            if mask is not None and (cut := _plane(mask, fixed, at)).any():
                row[-1].contour(cut.astype(float), levels=[0.5], colors=[colour], linewidths=1.2)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _plane(volume: np.ndarray, fixed: int, at: tuple[int, int, int]) -> np.ndarray:
    """Cut a plane; coronal and sagittal are turned head up (z grows towards the head in LPS and RAS)."""
    cut = np.take(volume, at[fixed], axis=fixed)
    return cut if fixed == 0 else cut[::-1]


def _windows(views: Views) -> tuple[Window, Window, Window]:
    """Return grey windows of scan, normal and tumour; the unblended tumour may be far brighter than the scan."""
    inside = views.scan[views.scan != 0]
    low, high = np.percentile(inside, (1, 99.5)) if inside.size else (0.0, 1.0)
    window = float(low), float(max(high, low + 1e-6))
    tumour = None if views.texture is None else views.texture[views.mask]
    brightest = window[1] if tumour is None or not tumour.size else float(np.percentile(tumour, 99))
    return window, window, (window[0], max(window[1], brightest))


def _on_black(volume: np.ndarray, scan: np.ndarray, window: Window) -> np.ndarray:
    """Show what lies outside the scan, or is 0 in a layer, at the window's dark end."""
    return np.where((scan == 0) | (volume == 0), window[0], volume)


def _show(axis: "Axes", plane: np.ndarray, window: tuple[float, float], aspect: float) -> None:
    axis.imshow(plane, cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
