"""Curves over the steps of a training, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from scans.page.svg import INK, as_svg, dress

# Distinct for colour-blind readers, on white and on black.
TRAINING, HELD_OUT, REAL, SHIFTED = "#5b8fd9", "#e08214", "#1b9e77", "#c0549e"
_POINTS = 400  # of a curve: more than a screen shows of a chart this wide
_SMOOTH = 25  # points of the average drawn over a noisy curve
_MARKED = 40  # points up to which each has a dot
_LOG_FROM = 8.0  # ratio of largest to smallest value above which a logarithmic axis shows more
_LARGE, _SMALL = (5.2, 2.7), (3.7, 2.2)  # inches; text keeps its size


@dataclass(frozen=True)
class Curve:
    """What is drawn of one quantity.

    Attributes
    ----------
    label : str
        Empty: not in the legend.
    steps, values : sequence of float
        NaN or None where undefined; such points are left out.
    colour : str
    noisy : bool
        Draw single values faintly and their running mean over them.
    faint : bool
    """

    label: str
    steps: Sequence[float]
    values: Sequence[float | None]
    colour: str
    noisy: bool = False
    faint: bool = False

    def defined(self) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and values where the value is a finite number, in the order of steps."""
        steps = np.asarray(self.steps, dtype=float)
        values = np.asarray([math.nan if value is None else value for value in self.values], dtype=float)
        kept = np.isfinite(values)
        order = np.argsort(steps[kept], kind="stable")
        return steps[kept][order], values[kept][order]


def thin(steps: np.ndarray, values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbours until `most` points are left; a curve of fewer is returned as it is.

    The last point is the mean of the last few values, never a remainder of one.
    """
    if len(steps) <= most:
        return steps, values
    edges = np.linspace(0, len(steps), most + 1).astype(int)
    counts = np.diff(edges)
    return np.add.reduceat(steps, edges[:-1]) / counts, np.add.reduceat(values, edges[:-1]) / counts


def chart(
    curves: Sequence[Curve],
    name: str,
    level: tuple[str, float] | None = None,
    *,
    whole: bool = False,
    large: bool = False,
) -> str:
    """Draw curves over steps.

    Parameters
    ----------
    curves : sequence of Curve
    name : str
        What it shows, for readers who hear the page.
    level : tuple of str and float, optional
        A horizontal line with its label.
    whole : bool
        The axis runs from 0 to 1, as for Dice.
    large : bool

    Returns
    -------
    str
        An ``<svg>`` element; empty if nothing is defined.
    """
    drawn = [(curve, *curve.defined()) for curve in curves]
    drawn = [(curve, steps, values) for curve, steps, values in drawn if len(steps)]
    if not drawn:
        return ""
    figure = Figure(figsize=_LARGE if large else _SMALL, layout="constrained")
    axes = figure.add_subplot()
    for curve, steps, values in drawn:
        _draw(axes, curve, steps, values)
    if level is not None:
        axes.axhline(level[1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label=level[0])
    everything = np.concatenate([values for _, _, values in drawn])
    _frame(axes, everything, whole, legend=level is not None or any(curve.label for curve, _, _ in drawn))
    return as_svg(figure, name)


def _draw(axes: Axes, curve: Curve, steps: np.ndarray, values: np.ndarray) -> None:
    label = curve.label or None
    if curve.noisy and len(steps) > 2 * _SMOOTH:
        axes.plot(*thin(steps, values, _POINTS), color=curve.colour, linewidth=0.7, alpha=0.35)
        axes.plot(*thin(steps, values, _SMOOTH), color=curve.colour, linewidth=1.6, label=label)
        return
    dots = {"marker": "o", "markersize": 2.5 if curve.faint else 3.5} if len(steps) <= _MARKED else {}
    width, alpha = (0.8, 0.55) if curve.faint else (1.6, 1.0)
    axes.plot(
        *thin(steps, values, _POINTS),
        color=curve.colour,
        linewidth=width,
        alpha=alpha,
        label=label,
        **dots,  # type: ignore[arg-type]
    )


def _frame(axes: Axes, values: np.ndarray, whole: bool, legend: bool) -> None:
    if whole:
        axes.set_ylim(-0.02, 1.02)
    elif values.min() == values.max() > 0:
        axes.set_ylim(0, 1.25 * values.max())
    elif values.min() > 0 and values.max() > _LOG_FROM * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("step", color=INK, fontsize=9)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    dress(axes, legend=legend)
