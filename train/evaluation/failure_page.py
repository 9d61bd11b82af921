"""The part of an evaluation's page that shows failures: numbers by size, every case worst first, pictures."""

import base64
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from scans.page.svg import INK, as_svg, dress
from train.evaluation.failures import CaseOutcome, SizeClass, WorstAndOthers, by_size, in_common, in_sum, worst_first
from train.evaluation.lesions import size_name
from train.evaluation.metrics import AMOUNTS, ml
from train.run.scenes import FALSE, MISSED

MOST_PICTURES = 24  # in a page, about 0.25 MB each: what a mail still takes, and more than anybody looks through
COLOURS = {"missed": MISSED, "false": FALSE}


def failure_section(outcomes: Sequence[CaseOutcome], class_name: str = "", most: int = MOST_PICTURES) -> dict[str, Any]:
    """Return what ``failures.html`` shows of one class of tumour.

    Parameters
    ----------
    outcomes : sequence of CaseOutcome
        Of every case that was scored.
    class_name : str
        Empty if there is but one.
    most : int
        Pictures.
    """
    ordered = worst_first(outcomes)
    shown = [outcome.scores for outcome in ordered[:most]]
    return {
        "class_name": class_name,
        "said": in_sum(ordered),
        "chart": size_chart(ordered, f"Dice over the volume of the tumour {class_name}".strip()),
        "without_tumour": sum(outcome.scores.tumour_free for outcome in ordered),
        "sizes": [_size(each) for each in by_size(ordered)],
        "third": len(ordered) // 3,
        "in_common": [_contrast(each) for each in in_common(ordered)],
        "cases": [_case(outcome) for outcome in ordered],
        "compared": any(outcome.threshold for outcome in ordered),
        "pictures": [
            {**_case(outcome), "png": base64.b64encode(outcome.picture).decode()}
            for outcome in ordered[:most]
            if outcome.picture
        ],
        "left_out": max(0, len(ordered) - most),
        "best_shown": _number(max((s.dice for s in shown if not s.tumour_free), default=math.nan), 3),
    }


def _case(outcome: CaseOutcome) -> dict[str, Any]:
    scores = outcome.scores
    return {
        "name": outcome.case,
        "tumour_free": scores.tumour_free,
        "dice": _number(scores.dice, 3),
        "threshold": _number(outcome.threshold.dice, 3) if outcome.threshold else "",
        "threshold_false_ml": ml(outcome.threshold.false_ml) if outcome.threshold else "",
        "sensitivity": _number(scores.sensitivity, 3) or "undefined",
        "hd95_mm": _number(scores.hd95_mm, 1) or "undefined",
        **{name: ml(getattr(scores, name)) for name in AMOUNTS if name.endswith("_ml")},
        **{name: getattr(scores, name) for name in AMOUNTS if not name.endswith("_ml")},
    }


def _size(each: SizeClass) -> dict[str, Any]:
    scores = [outcome.scores for outcome in each.outcomes]
    compared = [outcome.threshold.dice for outcome in each.outcomes if outcome.threshold]
    truth, missed = math.fsum(s.truth_ml for s in scores), math.fsum(s.missed_ml for s in scores)
    return {
        "name": _span(each),
        "cases": len(scores),
        "dice": _mean([s.dice for s in scores], 3),
        "threshold": _mean(compared, 3),
        "missed": f"{missed / truth:.0%}" if truth else "",
        "missed_lesions": f"{sum(s.missed_lesions for s in scores)} of {sum(s.lesions for s in scores)}",
        "false_ml": _mean([s.false_ml for s in scores], 1),
    }


def _span(each: SizeClass) -> str:
    return size_name(each.low_ml, each.high_ml) if each.high_ml else "no tumour"


def _contrast(each: WorstAndOthers) -> dict[str, str]:
    return {
        "name": each.name,
        **{
            side: _number(value, each.digits) or "undefined"
            for side, value in (("worst", each.worst), ("others", each.others))
        },
    }


def _mean(values: Sequence[float], digits: int) -> str:
    defined = [value for value in values if not math.isnan(value)]
    return f"{math.fsum(defined) / len(defined):.{digits}f}" if defined else ""


def _number(value: float, digits: int) -> str:
    """Return a score as the page shows it; nothing where it is undefined."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


NETWORK, THRESHOLD = "#1f6fb4", "#e08214"  # distinct for colour-blind readers, on white and on black


def size_chart(outcomes: Sequence[CaseOutcome], name: str) -> str:
    """Draw network and threshold row; cases without a tumour have no place on the logarithmic axis.

    Parameters
    ----------
    outcomes : sequence of CaseOutcome
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
