"""The figure of a comparison: a row a measure, a column a corpus, pictures below; as a PNG for papers and pages."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scans.markdown import clean
from scans.page.greys import grey_window
from synth.compare.column import Column
from synth.compare.measuring import MEASURES
from synth.report.charts import Colours, HistogramScale, draw_histogram

_COLOURS = Colours(ink="#1f2328", bar="#9fb8d3", law="#c2410c", rule="#d8dee4")
_SOFT = "#656d76"
_WIDTH, _HEIGHT, _HEAD = 3.6, 1.55, 0.75  # inches of a chart, and of the titles
_LEFT = 0.12  # of a column's width, for the numbers beside a chart
_TALL = 1.45  # of a row of pictures
_A_ROW = 3


def common_window(columns: Sequence[Column]) -> tuple[float, float]:
    """Return the values drawn black and white in all pictures, so that they can be compared."""
    shown = [np.asarray(each.values, np.float32) for column in columns for each in column.slices]
    if not shown:
        return 0.0, 1.0
    # Of most scans, not of the median one: scans of a `window` region differ in level, and dark ones would be black.
    lows, highs = np.transpose([grey_window(values) for values in shown])
    low, high = np.percentile(lows, 10), np.percentile(highs, 75)
    return float(low), max(float(high), float(low) + 1e-3)


def scale_of(columns: Sequence[Column], name: str) -> HistogramScale | None:
    """Return the scale that the histograms of a measure share; None if none has a value."""
    several = [values for column in columns if len(values := column.measured(name))]
    return HistogramScale.of(several, MEASURES[name].log) if several else None


def summary(values: np.ndarray) -> str:
    """Say median, 5th and 95th percentile, and how many were measured."""
    if not len(values):
        return "nothing to measure"
    low, median, high = (f"{value:.3g}".replace("-", "−") for value in np.percentile(values, [5, 50, 95]))
    return f"median {median}, 5–95 %: {low} to {high}"


def label_of(name: str) -> str:
    """Return name and unit of a measure."""
    measure = MEASURES[name]
    return f"{measure.name} ({measure.unit})" if measure.unit else measure.name


def comparison_png(columns: Sequence[Column], pictures: int) -> bytes:
    """Draw the comparison.

    Parameters
    ----------
    columns : sequence of Column
    pictures : int
        Of each column, from the smallest tumour to the largest; may be 0.

    Returns
    -------
    bytes
        A PNG.
    """
    rows, picture_rows = len(MEASURES), -(-pictures // _A_ROW)
    tall = _HEAD + rows * _HEIGHT + picture_rows * _TALL
    figure = Figure(figsize=(_WIDTH * len(columns), tall), facecolor="white")
    FigureCanvasAgg(figure)
    for place, column in enumerate(columns):
        left = (place + _LEFT) / len(columns)
        for text, above, size, colour in ((column.title, 0.3, 11.0, _COLOURS.ink), (column.note, 0.52, 8.5, _SOFT)):
            figure.text(left, 1 - above / tall, clean(text), fontsize=size, color=colour, parse_math=False)
    for row, (name, measure) in enumerate(MEASURES.items()):
        scale = scale_of(columns, name)
        for place, column in enumerate(columns):
            bottom = tall - _HEAD - (row + 1) * _HEIGHT + 0.5
            axes = figure.add_axes(
                ((place + _LEFT) / len(columns), bottom / tall, (0.96 - _LEFT) / len(columns), (_HEIGHT - 0.78) / tall)
            )
            values = column.measured(name)
            if scale is None or not len(values):
                axes.set_axis_off()
            else:
                marks = ((float(np.median(values)), ""),)
                draw_histogram(axes, values, None, label_of(name), measure.log, marks, _COLOURS, scale)
                axes.tick_params(axis="x", pad=6)  # clear of the vertical axis's zero
            axes.set_title(summary(values), loc="left", fontsize=8, color=_SOFT, pad=3)
    low, high = common_window(columns)
    for place, column in enumerate(columns):
        for number, each in enumerate(column.examples(pictures)):
            row, at = divmod(number, _A_ROW)
            width = 0.92 / _A_ROW / len(columns)
            axes = figure.add_axes(
                ((place + 0.04) / len(columns) + at * width, 1 - (tall - (picture_rows - row) * _TALL + _TALL) / tall,
                 width * 0.97, _TALL * 0.97 / tall)
            )  # fmt: skip
            axes.set_axis_off()
            axes.imshow(
                np.where(each.values == 0, low, each.values).astype(np.float32), cmap="gray", vmin=low, vmax=high,
                aspect=each.spacing_mm[0] / each.spacing_mm[1],
            )  # fmt: skip
            axes.contour(each.mask, levels=[0.5], colors="#39d353", linewidths=0.8)
    file = io.BytesIO()
    figure.savefig(file, dpi=110, format="png", metadata={"Software": None})
    return file.getvalue()
