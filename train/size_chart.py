"""Dice over the volume of the tumour, a dot a case, as SVG."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from train.failures import Outcome
from train.svg import INK, as_svg, dress

NETWORK, THRESHOLD = "#1f6fb4", "#e08214"  # distinct for colour-blind readers, on white and on black


def size_chart(outcomes: Sequence[Outcome], name: str) -> str:
    """Draw network and threshold row; cases without a tumour have no place on the logarithmic axis.

    Parameters
    ----------
    outcomes : sequence of Outcome
    name : str
        What it shows, for readers who hear the page; another for each chart of a page.

    Returns
    -------
    str
        An ``<svg>`` element; empty if no case has a tumour.
    """
    drawn = [outcome for outcome in outcomes if outcome.scores.truth_ml > 0]
    if not drawn:
        return ""
    figure = Figure(figsize=(5.6, 2.9), layout="constrained")
    axes = figure.add_subplot()
    rows = [("network", [(o.scores.truth_ml, o.scores.dice) for o in drawn], NETWORK, 1.0)]
    compared = [(o.scores.truth_ml, o.threshold.dice) for o in drawn if o.threshold]
    if compared:
        rows.insert(0, ("threshold row", compared, THRESHOLD, 0.0))
    for label, points, colour, filled in rows:
        x, y = zip(*points, strict=True)
        face = colour if filled else "none"
        axes.plot(x, y, "o", color=colour, markerfacecolor=face, markersize=5, alpha=0.85, label=label, clip_on=False)
    axes.set_xscale("log")
    low, high = min(o.scores.truth_ml for o in drawn), max(o.scores.truth_ml for o in drawn)
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if high > 10 * low else (1, 2, 3, 5), numticks=12))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("tumour in the reference (ml)", color=INK, fontsize=9)
    axes.set_ylabel("Dice", color=INK, fontsize=9)
    dress(axes, legend=len(rows) > 1)
    return as_svg(figure, name)
