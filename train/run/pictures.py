"""Pictures of layers, one per validation.

Matplotlib takes half a second to import, and a training can do without it: it is imported where something is drawn.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scans.durable import write_atomically
from scans.page.greys import Window, grey_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LABEL = 30  # letters of a name that fit beside a row; the end of a long one tells most


@dataclass(frozen=True)
class Views:
    """What is shown of one scan: volumes (z, y, x) on one grid; ``None`` is left out.

    ``scan``, ``normal``, ``texture`` are in network units; ``mask`` and ``truth`` are boolean. Without ``spacing_mm``,
    of the voxels (z, y, x), slices can be drawn and the whole cannot.
    """

    name: str
    scan: np.ndarray
    normal: np.ndarray | None
    texture: np.ndarray | None
    mask: np.ndarray
    truth: np.ndarray | None
    spacing_mm: tuple[float, float, float] | None = None


def centre(views: Views) -> int:
    """Return the axial slice with most truth, else most prediction, else the middle."""
    for mask in (views.truth, views.mask):
        if mask is not None and mask.any():
            return int(mask.sum(axis=(1, 2)).argmax())
    return views.scan.shape[0] // 2


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
        plane = centre(views)
        nothing = np.zeros_like(views.scan)
        layers = [nothing if volume is None else volume for volume in (views.scan, views.normal, views.texture)]
        masks = [nothing if mask is None else mask.astype(float) for mask in (views.mask, views.truth)]
        windows = [*_windows(views), (0.0, 1.0), (0.0, 1.0)]
        for axis, volume, window in zip(row, [*layers, *masks], windows, strict=True):
            _show(axis, _on_black(volume, views.scan, window)[plane], window)
        row[0].set_ylabel(views.name if len(views.name) <= _LABEL else f"…{views.name[1 - _LABEL :]}", fontsize=7)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": ""})
    write_atomically(path, png.getvalue())
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _windows(views: Views) -> tuple[Window, Window, Window]:
    """Return grey windows of scan, normal and tumour; the unblended tumour may be far brighter than the scan."""
    window = grey_window(views.scan)
    tumour = None if views.texture is None else views.texture[views.mask]
    return window, window, grey_window(views.scan, tumour)


def _on_black(volume: np.ndarray, scan: np.ndarray, window: Window) -> np.ndarray:
    """Show what lies outside the scan, or is 0 in a layer, at the window's dark end."""
    return np.where((scan == 0) | (volume == 0), window[0], volume)


def _show(axis: "Axes", plane: np.ndarray, window: Window) -> None:
    axis.imshow(plane, cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
