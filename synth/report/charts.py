"""Charts: histograms and pictures of samples as SVG that stands in a page and takes the page's colours."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import image, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scans.page.greys import grey_window
from scans.page.svg import INK, as_svg
from synth.report.laws import Intervals, Law, Steps
from synth.tumour.sample import Sample

_BARS = 40  # at most
_BARS_OF_STEPS = 20  # where a law has steps, bars as narrow as those would show which fall into which


@dataclass(frozen=True)
class Colours:
    """Colours of a histogram, as Matplotlib names them."""

    ink: str
    bar: str
    law: str
    rule: str


@dataclass(frozen=True)
class HistogramScale:
    """Bars and height that several histograms share.

    Attributes
    ----------
    edges : ndarray of float64, shape (n + 1,)
        Of the bars; values beyond them count into the last ones.
    top : float
        Share of the tallest bar, per cent.
    """

    edges: np.ndarray
    top: float

    @classmethod
    def of(cls, several: Sequence[np.ndarray], log: bool = False) -> "HistogramScale":
        """Return the scale of several arrays of values, each of at least one."""
        # Each counts as much as the others, however many values it has.
        most = max(len(values) for values in several)
        edges = _edges(np.concatenate([np.resize(values, most) for values in several]), None, log, [])
        return cls(edges, max(_shares(values, edges).max() for values in several))


# Matplotlib draws with these; in the page they become the page's own colours, light or dark.
_MARKS = Colours(INK, "#010204", "#010205", "#010206")
_PAGE = {
    _MARKS.ink: "currentColor", _MARKS.bar: "var(--bar)", _MARKS.law: "var(--law)", _MARKS.rule: "var(--rule)",
}  # fmt: skip


def histogram(
    values: np.ndarray,
    law: Law | None,
    label: str,
    name: str,
    log: bool = False,
    marks: tuple[tuple[float, str], ...] = (),
    scale: HistogramScale | None = None,
) -> str:
    """Draw the distribution of measured values as bars, and what a law expects of each bar as a line.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Finite.
    law : Law or None
    label : str
        Of the horizontal axis.
    name : str
        What it shows; different for each chart of a page.
    log : bool
        Logarithmic axis.
    marks : tuple of (float, str)
        Values marked by a line, each with a word, perhaps empty.
    scale : HistogramScale, optional
        That of several histograms side by side; each its own if not given.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    figure = Figure(figsize=(3.7, 2.0))
    axes = figure.add_axes((0.11, 0.235, 0.84, 0.68), facecolor="none")
    draw_histogram(axes, values, law, label, log, marks, scale=scale)
    return as_svg(figure, name, _PAGE)


def draw_histogram(
    axes: Axes,
    values: np.ndarray,
    law: Law | None,
    label: str,
    log: bool = False,
    marks: tuple[tuple[float, str], ...] = (),
    colours: Colours = _MARKS,
    scale: HistogramScale | None = None,
) -> None:
    """Draw what :func:`histogram` draws into axes of any figure.

    Parameters
    ----------
    axes : Axes
    values, law, label, log, marks, scale
        As for :func:`histogram`.
    colours : Colours
    """
    edges = _edges(values, law, log, [at for at, _ in marks]) if scale is None else scale.edges
    shares = _shares(values, edges)
    width = np.diff(edges)
    gap = 0.06 * width if not log else 0 * width
    axes.bar(edges[:-1] + gap / 2, shares, width - gap, align="edge", color=colours.bar, linewidth=0)
    top = shares.max() if scale is None else scale.top
    if law is not None:
        below = law.cdf(edges)
        below[0], below[-1] = 0.0, 1.0  # tails count into the last bars, as those of the values do
        expected = 100 * np.diff(below)
        axes.stairs(expected, edges, color=colours.law, linewidth=1.5, baseline=None)
        top = max(top, expected.max())
    for row, (at, word) in enumerate(marks):
        axes.axvline(at, color=colours.law, linewidth=1.2, linestyle=(0, (3, 2)))
        axes.annotate(word, (at, 1), (-3, -2 - 9 * row), xycoords=("data", "axes fraction"), textcoords="offset points",
                      ha="right", va="top", fontsize=7.5, color=colours.ink)  # fmt: skip
    axes.set_ylim(0, (1.12 + 0.13 * sum(bool(word) for _, word in marks)) * top)  # room for the words
    axes.set_xlim(edges[0], edges[-1])
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=12))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,g}"))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=_whole(values, law), min_n_ticks=1))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(3))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:g} %"))
    axes.set_xlabel(label, fontsize=8.5, color=colours.ink, labelpad=3)
    axes.tick_params(length=0, labelsize=8, labelcolor=colours.ink, pad=3)
    axes.grid(axis="y", color=colours.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours.rule)


def picture(sample: Sample, spacing_mm: tuple[float, float, float]) -> str:
    """Draw the axial slice with most of the tumour, the mask's contour above it.

    Parameters
    ----------
    sample : Sample
    spacing_mm : tuple of float
        Voxel sides (z, y, x).

    Returns
    -------
    str
        An ``<svg>`` element; the contour is its ``<path>``.
    """
    level = int(sample.mask.sum(axis=(1, 2)).argmax())
    window = grey_window(sample.normal, sample.composite[sample.mask > 0])
    return picture_of_slice(sample.composite[level], sample.mask[level], spacing_mm[1:], window)


def picture_of_slice(
    values: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float], window: tuple[float, float]
) -> str:
    """Draw a slice, the mask's contour above it.

    Parameters
    ----------
    values : ndarray of float, shape (y, x)
        0 outside the organ, which is drawn black.
    mask : ndarray, same shape
    spacing_mm : tuple of float
        Pixel sides (y, x).
    window : tuple of float
        Values drawn black and white.

    Returns
    -------
    str
        An ``<svg>`` element; the contour is its ``<path>``.
    """
    from contourpy import contour_generator

    low, high = window
    file = io.BytesIO()
    image.imsave(file, np.where(values == 0, low, values), cmap="gray", vmin=low, vmax=high, format="png")
    lines = contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    # A pad of one voxel, and a voxel's centre is half a voxel from its edge.
    outlines = [np.asarray(line) - 0.5 for line in lines]
    points = [" L".join(f"{x:.2f} {y:.2f}" for x, y in outline) for outline in outlines]
    rows, columns = values.shape
    tall, wide = rows * spacing_mm[0], columns * spacing_mm[1]
    return (
        f'<svg class="slice" viewBox="0 0 {wide:.1f} {tall:.1f}" role="img">'
        f'<g transform="scale({spacing_mm[1]:.4f} {spacing_mm[0]:.4f})">'
        f'<image width="{columns}" height="{rows}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"/>'
        f'<path d="{" ".join(f"M{line} Z" for line in points)}"/></g></svg>'
    )


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the share of the values in each bar, per cent."""
    return 100 * np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)


def _whole(values: np.ndarray, law: Law | None) -> bool:
    """Tell whether only whole numbers can occur, as far as law and values say."""
    known = law.values if isinstance(law, Steps) else values
    return not isinstance(law, Intervals) and bool((known == np.round(known)).all())


def _edges(values: np.ndarray, law: Law | None, log: bool, marked: list[float]) -> np.ndarray:
    """Return the borders of the bars; tails beyond them count into the last ones."""
    if _whole(values, law):
        first, last = int(values.min()), int(values.max())
        if isinstance(law, Steps):
            first, last = int(min(first, law.values.min())), int(max(last, law.values.max()))
        step = -(-(last - first + 1) // _BARS)
        return np.arange(first, last + step + 1, step) - 0.5
    low, high = np.percentile(values, [0.2, 99.8])
    if isinstance(law, Intervals):
        low, high = min(low, *(a for a, _ in law.intervals)), max(high, *(b for _, b in law.intervals))
    elif isinstance(law, Steps):
        low, high = min(low, law.quantile(0.002)), max(high, law.quantile(0.998))
    low, high = min(low, *marked, high), max(high, *marked, low)
    if low == high:
        low, high = (low / 1.5, high * 1.5) if log else (low - 0.5, high + 0.5)
    most = _BARS_OF_STEPS if isinstance(law, Steps) else _BARS
    bars = int(np.clip(2 * len(values) ** (1 / 3), 8, most))  # Rice's rule
    return np.geomspace(low, high, bars + 1) if log else np.linspace(low, high, bars + 1)
