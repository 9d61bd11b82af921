"""Distributions: what the recipes of a corpus hold, as numbers and as one picture of small charts."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from synth.generators.way import Way
from synth.report.charts import Colours, draw_histogram
from synth.report.laws import Law, law_of, one_of
from synth.tumour.number import Number, ordered

if TYPE_CHECKING:
    from synth.corpus import Corpus


_COLUMNS = 4
_COLOURS = Colours(ink="#1f2328", bar="#9fb8d3", law="#c2410c", rule="#d8dee4")
_SOFT = "#656d76"
_UNUSED = ", drawn but not used"
# Numbers of a recipe in the order of their charts; others with a name and words follow.
_FIRST = ("drawn_volume_mm3", "kept", "tries", "alpha", "ratio", "sigma_mm", "octaves", "axis_ratio")


@dataclass(frozen=True)
class Distribution:
    """One number of every sample.

    Attributes
    ----------
    name, unit : str
    values : ndarray of float64, shape (n,)
    law : Law or None
        The one it was drawn from, if all generations of the corpus share it.
    log : bool
        Shown on a logarithmic axis.
    ordinal : bool
        Names something: a median would say nothing.
    """

    name: str
    unit: str
    values: np.ndarray
    law: Law | None = None
    log: bool = False
    ordinal: bool = False

    @property
    def label(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def summary(self) -> tuple[str, str, str]:
        """Median, 5th and 95th percentile, to three digits."""
        percentiles = np.percentile(self.values, [50, 5, 95], method="inverted_cdf")
        median, low, high = (f"{value:,.3g}" for value in percentiles)
        return median, low, high


def distributions(corpus: "Corpus", ways: Sequence[Way]) -> list[Distribution]:
    """Return what is worth a chart.

    Parameters
    ----------
    corpus : Corpus
    ways : sequence of Way
        Of each generation of the corpus.
    """
    column = {name: corpus.recipes[:, position] for position, name in enumerate(corpus.manifest.columns)}
    last = len(corpus.sources)
    real = [bool(way.tumours) for way in ways]
    chosen = one_of(1, last) if len(ways) == 1 and not any(real) else None  # later ones may know more scans

    volume = column["volume_mm3"] * column["kept"] / 1000
    volume = volume[volume > 0]  # scans without a tumour have none
    log = all(way.numbers["drawn_volume_mm3"].log(way.settings) for way in ways if "drawn_volume_mm3" in way.numbers)
    shown = [Distribution("volume of the tumour", "ml", volume, log=log)]
    for number in numbers_in(ways):
        if number.name and number.words:
            own = [way for way in ways if number.column in way.numbers]
            laws = [law_of(way.numbers[number.column], way.settings) for way in own]
            law = laws[0] if len({str(each) for each in laws}) == 1 else None
            name = number.name + ("" if any(way.numbers[number.column].used(way.settings) for way in own) else _UNUSED)
            values, log = column[number.column] / number.per_unit, all(number.log(way.settings) for way in own)
            shown.append(Distribution(name, number.unit, values[~np.isnan(values)], law, log))
    for name, positions in (("normal: receives the tumour", corpus.normal), ("donor: lends the texture", corpus.donor)):
        shown.append(Distribution(name, "row in the table of scans", positions + 1.0, chosen, ordinal=True))
    return shown


def numbers_in(ways: Sequence[Way]) -> list[Number]:
    """Return the numbers of all ways' recipes, each column once, in the order of their charts."""
    found: dict[str, Number] = {}
    for way in ways:
        found = {**way.numbers, **found}
    return ordered(found, [name for name in _FIRST if name in found])


def distributions_png(shown: Sequence[Distribution]) -> bytes:
    """Draw the distributions side by side; where a law is known, what it expects is drawn as a line.

    Returns
    -------
    bytes
        A PNG.
    """
    rows = -(-(len(shown) + 1) // _COLUMNS)  # one place is the key's
    figure = Figure(figsize=(12.4, 2.5 * rows), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False, gridspec_kw={"wspace": 0.24, "hspace": 0.76})
    figure.subplots_adjust(left=0.045, right=0.985, top=1 - 0.52 / (2.5 * rows), bottom=0.5 / (2.5 * rows))
    for chart in axes.flat[len(shown) :]:
        chart.set_axis_off()
    for chart, distribution in zip(axes.flat, shown, strict=False):
        draw_histogram(
            chart, distribution.values, distribution.law, distribution.unit or " ", distribution.log, colours=_COLOURS
        )
        chart.tick_params(axis="x", pad=6)  # clear of the vertical axis's zero
        for bar in chart.patches:
            bar.set_snap(False)  # to whole pixels, it would make gaps that look like missing bars
        _head(chart, distribution)
    axes.flat[len(shown)].legend(
        handles=[
            Patch(color=_COLOURS.bar, label="share of the samples"),
            Line2D([], [], color=_COLOURS.law, linewidth=1.5, label="the law it was drawn from"),
        ],
        loc="center left", frameon=False, fontsize=9, labelcolor=_COLOURS.ink, handlelength=1.6, labelspacing=0.9,
    )  # fmt: skip
    file = io.BytesIO()
    figure.savefig(file, dpi=110, format="png", metadata={"Software": None})
    return file.getvalue()


def _head(chart: Axes, distribution: Distribution) -> None:
    """Write the name above a chart, and its numbers below the name."""
    if distribution.ordinal:
        note = f"scans in use: {len(np.unique(distribution.values)):,}"
    else:
        median, low, high = distribution.summary
        note = f"median {median}, 5 % to 95 %: {low} to {high}"
    for text, above, size, colour in ((distribution.name, 17, 9.5, _COLOURS.ink), (note, 5, 8, _SOFT)):
        chart.annotate(text, (0, 1), (0, above), xycoords="axes fraction", textcoords="offset points", fontsize=size,
                       color=colour)  # fmt: skip
