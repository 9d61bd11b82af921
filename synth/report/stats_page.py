"""The statistics page: one HTML file that holds everything it shows."""

import itertools
import math
from html import escape
from pathlib import Path
from string import Template

import numpy as np
import yaml

from scans.durable import write_text
from synth.report.charts import histogram, picture
from synth.report.laws import chance
from synth.report.quantities import SECTIONS, Quantity, quantities
from synth.report.stats import Measurement
from synth.sources.reader import SourceStore
from synth.tumour.compose import make_sample
from synth.tumour.recipe import COLUMNS, Recipe

_PICTURES = 12
_NAMED_PAIRS = 5  # of duplicates

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1f2328; --soft: #656d76; --page: #ffffff; --rule: #d8dee4;
  --bar: #9fb8d3; --law: #c2410c; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --page: #0f1419; --rule: #30363d;
  --bar: #3f5d7e; --law: #f0883e; --bad: #ff7b72; } }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 70rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; font-weight: 600; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 2.6rem 0 .8rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 0; }
p { margin: .3rem 0; max-width: 52rem; }
.soft, figcaption, dt { color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); padding: .25rem .9rem .25rem 0; white-space: nowrap; }
td { border-top: 1px solid var(--rule); padding: .25rem .9rem .25rem 0; vertical-align: top; }
th.number, td.number { text-align: right; white-space: nowrap; }
tr.section td { color: var(--soft); padding-top: .9rem; border-top: 0; }
.scroll { overflow-x: auto; }
.charts, .slices { margin-top: 1.1rem; }
.key { margin-top: 2.6rem; }
.key + h2 { margin-top: 1.6rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.6rem 1.8rem; }
.slices { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .9rem; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { margin-top: .25rem; font-size: .82rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
td:last-child, th:last-child { padding-right: 0; }
.slice { aspect-ratio: 5 / 6; background: #000; border-radius: 3px; }
.slice path { fill: none; stroke: #39d353; stroke-width: 1.1; vector-effect: non-scaling-stroke; }
.slice:hover path { visibility: hidden; }
.key i { display: inline-block; width: 1.1em; height: .65em; margin: 0 .25em 0 .1em; background: var(--bar); }
.key i.law { height: 2px; background: var(--law); vertical-align: .25em; }
pre { font-size: .8rem; line-height: 1.4; overflow-x: auto; }
summary { cursor: pointer; }
</style>
</head>
<body>
<h1>$title</h1>
<p>$subject</p>
<p>$follows</p>
<p>$twins</p>

<h2>Samples</h2>
<p class="soft">From the smallest tumour to the largest; the axial slice with most of it. Point at a picture to take
the mask's contour away.</p>
<div class="slices">
$slices
</div>

<h2>Summary</h2>
<p class="soft">Distance: Kolmogorov–Smirnov, the largest difference between two cumulative shares. A quantity that a
recipe draws must follow its law; of the others, the distance says what scans and ROI make of it.</p>
<div class="scroll">
<table>
<thead><tr><th>quantity</th><th>law</th><th class="number">median</th><th class="number">5 % to 95 %</th>
<th class="number">distance</th><th class="number">n</th></tr></thead>
<tbody>
$rows
</tbody>
</table>
</div>

<p class="soft key"><i></i>share of the samples in each bar &ensp; <i class="law"></i>what the law expects</p>
$sections

<h2>Made from</h2>
<p>$made</p>
<details><summary>Sources</summary>
<ul>
$sources
</ul>
</details>
<details><summary>Settings</summary>
<pre>$settings</pre>
</details>
</body>
</html>
""")


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
    title = f"{count:,} artificial tumours, {store.region.name or 'region without a name'}"
    content = {
        "title": escape(title),
        "subject": escape(
            f"The recipes of seed {measured.seed} over {len(store)} prepared scans ({store.region.modality}): samples "
            f"0 to {count - 1:,} of any corpus of these sources, settings and seed."
        ),
        "follows": _follows(drawn, count),
        "twins": _twins(measured.duplicates()),
        "slices": "\n".join(_slices(measured, store)),
        "rows": "\n".join(_rows(shown)),
        "sections": "\n".join(_sections(shown)),
        "made": escape(f"Sources {store.path.name}, content {store.content_hash}; seed {measured.seed}."),
        "sources": "\n".join(f"<li>{escape(name)}</li>" for name in measured.sources),
        "settings": escape(yaml.safe_dump(measured.settings.model_dump(mode="json"), sort_keys=False)),
    }
    write_text(path, _PAGE.substitute(content))


def _follows(drawn: list[Quantity], count: int) -> str:
    strange = [quantity.name for quantity in drawn if quantity.strange]
    largest = max(quantity.distance or 0.0 for quantity in drawn)
    bound = (
        f"largest distance {largest:.4f}; that of {count:,} draws of the law itself is below {chance(count):.4f} in "
        "999 of 1000 cases"
    )
    if strange:
        return f'<span class="bad">Not as their law: {escape(", ".join(strange))}</span> ({bound}).'
    return f"All {len(drawn)} drawn quantities follow their laws ({bound})."


def _twins(duplicates: dict[str, list[tuple[int, int]]]) -> str:
    if not any(duplicates.values()):
        return "No two samples share a recipe, a noise seed or a mask."
    return f'<span class="bad">Duplicates:</span> {escape(told(duplicates))}.'


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


def _rows(shown: list[Quantity]) -> list[str]:
    rows = []
    for section, members in itertools.groupby(shown, key=lambda quantity: quantity.section):
        rows.append(f'<tr class="section"><td colspan="6">{escape(section)}</td></tr>')
        for quantity in members:
            low, median, high = _percentiles(quantity)
            law = f"{quantity.law}" if quantity.law else "–"
            if quantity.law and not quantity.drawn:
                law = f"held against: {law}"
            distance = "–" if quantity.distance is None else f"{quantity.distance:.4f}"
            rows.append(
                f'<tr><td>{escape(_label(quantity))}</td><td class="soft">{escape(law)}</td>'
                f'<td class="number">{median}</td><td class="number">{low} to {high}</td>'
                f'<td class="number{" bad" if quantity.strange else ""}">{distance}</td>'
                f'<td class="number">{quantity.measured.size:,}</td></tr>'
            )
    return rows


def _sections(shown: list[Quantity]) -> list[str]:
    parts = []
    for section, members in itertools.groupby(shown, key=lambda quantity: quantity.section):
        parts.append(f"<h2>{escape(section)}</h2>")
        parts.append(f'<p class="soft">{escape(SECTIONS[section])}</p>')
        parts.append('<div class="charts">')
        parts += [_chart(quantity) for quantity in members]
        parts.append("</div>")
    return parts


def _chart(quantity: Quantity) -> str:
    low, median, high = _percentiles(quantity)
    words = [f"Median {median}, 5–95 %: {low} to {high}"]
    if quantity.distance is not None:
        words.append(f"distance {quantity.distance:.4f}")
    caption = escape(
        "; ".join(words) + (f". {quantity.note[:1].upper()}{quantity.note[1:]}." if quantity.note else ".")
    )
    drawing = "<p>Nothing to measure.</p>"
    if quantity.measured.size:
        drawing = histogram(
            quantity.measured, quantity.law, quantity.unit or quantity.name, quantity.name, quantity.log, quantity.marks
        )
    return f"<figure>\n<h3>{escape(quantity.name)}</h3>\n{drawing}\n<figcaption>{caption}</figcaption>\n</figure>"


def _slices(measured: Measurement, store: SourceStore) -> list[str]:
    order = np.argsort(measured.values["kept_mm3"], kind="stable")
    figures = []
    for place in np.unique(np.linspace(0.02, 0.98, _PICTURES) * (len(order) - 1)).round().astype(int):
        index = int(order[place])
        recipe = Recipe.from_row(np.array([measured.values[name][index] for name in COLUMNS]))
        normal, donor = (store.load(measured.sources[position]) for position in (recipe.normal, recipe.donor))
        sample = make_sample(recipe, normal, donor, measured.settings)
        caption = (
            f"{measured.values['kept_mm3'][index] / 1000:.1f} ml, r {recipe.ratio:.2f}, α {recipe.alpha:.2f}, "
            f"contrast {measured.values['contrast'][index]:+.1f} σ"
        ).replace("-", "−")
        figures.append(
            f"<figure>{picture(sample, normal.spacing_mm)}"
            f"<figcaption>sample {index}<br>{escape(caption)}</figcaption></figure>"
        )
    return figures


def _label(quantity: Quantity) -> str:
    return f"{quantity.name} ({quantity.unit})" if quantity.unit else quantity.name


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
