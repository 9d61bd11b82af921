"""The page of a comparison: one HTML file that holds everything it shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from scans.durable import write_bytes, write_text
from scans.page.render import render
from synth.compare.column import Column
from synth.compare.figure import common_window, comparison_png, label_of, scale_of, summary
from synth.compare.measuring import MEASURES
from synth.report.charts import HistogramScale, histogram, picture_of_slice


def write_comparison(columns: Sequence[Column], path: Path, pictures: int) -> None:
    """Write a comparison: a picture where the name ends with ``.png``, else a page.

    Parameters
    ----------
    columns : sequence of Column
    path : Path
        The file; it appears only once it is complete.
    pictures : int
        Of each column, from the smallest tumour to the largest. 0: numbers alone, which may be passed on where scans
        may not.
    """
    if path.suffix.lower() == ".png":
        write_bytes(path, comparison_png(columns, pictures))
    else:
        write_text(path, f"{_page(columns, pictures)}\n")


def _page(columns: Sequence[Column], pictures: int) -> str:
    window = common_window(columns)
    sizes = sorted({column.size for column in columns})
    return render(
        "synth",
        "compare.html",
        title="Tumours side by side",
        columns=[
            {"title": each.title, "note": each.note + f", {each.empty:,} of them without a tumour" * bool(each.empty)}
            for each in columns
        ],
        sizes=", ".join(f"{size}³" for size in sizes) if len(sizes) > 1 else "",
        rows=[
            {"name": measure.name, "words": measure.words, "cells": _cells(columns, name)}
            for name, measure in MEASURES.items()
        ],
        pictures=[
            [
                {
                    "picture": Markup(picture_of_slice(each.values, each.mask, each.spacing_mm, window)),
                    "caption": f"{each.name}, {each.volume:.3g}\u00a0ml",
                }
                for each in column.examples(pictures)
            ]
            for column in columns
        ] if pictures else [],
    )  # fmt: skip


def _cells(columns: Sequence[Column], name: str) -> list[dict[str, Any]]:
    scale = scale_of(columns, name)
    return [_cell(place, column, name, scale) for place, column in enumerate(columns)]


def _cell(place: int, column: Column, name: str, scale: HistogramScale | None) -> dict[str, Any]:
    """Return the chart and the numbers of a measure in a column."""
    values, measure, chart = column.measured(name), MEASURES[name], None
    if scale is not None and len(values):
        marks = ((float(np.median(values)), ""),)
        # The place tells charts apart that are named alike: two corpora may have one name.
        what = f"{measure.name}, column {place + 1}: {column.title}"
        chart = Markup(histogram(values, None, label_of(name), what, measure.log, marks, scale))
    return {"chart": chart, "words": summary(values), "count": f"{len(values):,}"}
