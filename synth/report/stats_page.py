"""The statistics page: one HTML file that holds everything it shows."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from scans.durable import write_text
from scans.page.render import render
from synth.report.charts import histogram, picture
from synth.report.laws import chance
from synth.report.quantities import SECTIONS, Quantity, quantities
from synth.report.stats import Measurement
from synth.sources.reader import SourceStore
from synth.tumour.blend import paste
from synth.tumour.sample import empty_sample

_PICTURES = 12
_NAMED_PAIRS = 5  # of duplicates


def write_page(measured: Measurement, store: SourceStore, path: Path) -> None:
    """Write the page. Every text that comes from outside is escaped.

    Parameters
    ----------
    measured : Measurement
    store : SourceStore
        The sources it was measured on.
    path : Path
        The HTML file; it appears only once it is complete.
    """
    shown = quantities(measured, store.region.orientation)
    drawn = [quantity for quantity in shown if quantity.drawn]
    count = len(measured)
    page = render(
        "synth",
        "stats.html",
        title=f"{count:,} artificial tumours, {store.region.name or 'region without a name'}",
        subject=f"The recipes of generator {measured.way.name}, seed {measured.seed}, over {len(store)} prepared scans "
        f"({store.region.modality}): "
        f"samples 0 to {count - 1:,} of any corpus of these sources, settings and seed.",
        strange=[quantity.name for quantity in drawn if quantity.strange],
        drawn=len(drawn),
        bound=f"largest distance {max(quantity.distance or 0.0 for quantity in drawn):.4f}; that of {count:,} draws "
        f"of the law itself is below {chance(count):.4f} in 999 of 1000 cases",
        twins=told(measured.duplicates()),
        slices=_slices(measured, store),
        sections=[
            {"name": name, "words": SECTIONS[name], "shown": [_shown(quantity) for quantity in members]}
            for name, members in itertools.groupby(shown, key=lambda quantity: quantity.section)
        ],
        made=f"Sources {store.path.name}, content {store.content_hash}; seed {measured.seed}.",
        sources=measured.sources,
        settings=yaml.safe_dump(measured.way.settings.model_dump(mode="json"), sort_keys=False),
    )
    write_text(path, f"{page}\n")


def told(duplicates: dict[str, list[tuple[int, int]]]) -> str:
    """Say how many duplicates there are, and name the first."""
    return "; ".join(
        f"{len(pairs):,} {kind} ("
        + ", ".join(f"{later} as {first}" for first, later in pairs[:_NAMED_PAIRS])
        + (", ..." if len(pairs) > _NAMED_PAIRS else "")
        + ")"
        for kind, pairs in duplicates.items()
        if pairs
    )


def _shown(quantity: Quantity) -> dict[str, Any]:
    """Return what the page tells of a quantity: its row of the summary, and its chart."""
    low, median, high = _percentiles(quantity)
    words = [f"Median {median}, 5–95 %: {low} to {high}"]
    if quantity.distance is not None:
        words.append(f"distance {quantity.distance:.4f}")
    return {
        "name": quantity.name,
        "label": f"{quantity.name} ({quantity.unit})" if quantity.unit else quantity.name,
        "law": f"{'' if quantity.drawn else 'held against: '}{quantity.law}" if quantity.law else "–",
        "low": low,
        "median": median,
        "high": high,
        "distance": "–" if quantity.distance is None else f"{quantity.distance:.4f}",
        "strange": quantity.strange,
        "count": f"{quantity.measured.size:,}",
        "caption": "; ".join(words) + (f". {quantity.note[:1].upper()}{quantity.note[1:]}." if quantity.note else "."),
        "chart": Markup(histogram(
            quantity.measured, quantity.law, quantity.unit or quantity.name, quantity.name, quantity.log, quantity.marks
        )) if quantity.measured.size else None,
    }  # fmt: skip


def _slices(measured: Measurement, store: SourceStore) -> list[dict[str, Any]]:
    order = np.argsort(measured.values["kept_mm3"], kind="stable")
    order = order[measured.values["kept_mm3"][order] > 0]
    figures = []
    for place in np.unique(np.linspace(0.02, 0.98, _PICTURES) * (len(order) - 1)).round().astype(int):
        index = int(order[place])
        way = measured.way
        recipe = way.recipe(np.array([measured.recipes[name][index] for name in way.columns]))
        normal, donor = (store.load(measured.sources[position]) for position in (recipe.normal, recipe.donor))
        sample = paste(normal.normal.voxels, way.tumour(recipe, normal, donor), empty_sample(len(normal.roi)))
        ratio = f"r {recipe.ratio:.2f}, " if hasattr(recipe, "ratio") else ""
        caption = (
            f"{measured.values['kept_mm3'][index] / 1000:.1f} ml, {ratio}α {recipe.alpha:.2f}, "
            f"contrast {measured.values['contrast'][index]:+.1f} σ"
        ).replace("-", "−")
        figures.append({"index": index, "picture": Markup(picture(sample, normal.spacing_mm)), "caption": caption})
    return figures


def _percentiles(quantity: Quantity) -> tuple[str, str, str]:
    if not quantity.measured.size:
        return "–", "–", "–"
    low, median, high = np.percentile(quantity.measured, [5, 50, 95])
    whole = bool((quantity.measured == np.round(quantity.measured)).all())
    texts = (f"{value:,.0f}" if whole else _number(value, high - low) for value in (low, median, high))
    low_text, median_text, high_text = (text.replace("-", "−") for text in texts)
    return low_text, median_text, high_text


def _number(value: float, spread: float) -> str:
    """Write a number to three digits of the spread, and at least two of its own."""
    digits = [wanted - math.floor(math.log10(abs(size))) for size, wanted in ((spread, 2), (value, 1)) if size]
    return f"{value:,.{min(max(0, *digits), 4) if digits else 0}f}"
