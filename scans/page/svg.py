"""Charts as SVG that stands inside a page: no script, no font, no file beside it, in the page's own text colour."""

import html
import io
import re
from collections.abc import Mapping

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's text colour until the drawing is done


def dress(axes: Axes, *, legend: bool) -> None:
    """Draw axes, grid and legend as all charts of a page have them."""
    axes.tick_params(which="both", colors=INK, labelsize=8.5)
    axes.grid(color=INK, alpha=0.13, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axes.set_facecolor("none")
    if legend:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="best")


def as_svg(figure: Figure, name: str, colours: Mapping[str, str] = {INK: "currentColor"}) -> str:
    """Return a figure as an element that a page may hold beside others.

    Parameters
    ----------
    figure : Figure
    name : str
        What it shows; no other of the page has it.
    colours : mapping of str to str
        What the page puts in place of colours it was drawn with.
    """
    figure.patch.set_alpha(0)
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # Text stays text. Identifiers are drawn from the name, so that no two charts of a page share one.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        FigureCanvasSVG(figure).print_svg(text, metadata=nothing)
    opening, _, content = text.getvalue().partition("<svg")[2].partition(">")
    view = re.search(r'viewBox="[^"]*"', opening)
    assert view is not None
    for drawn, shown in colours.items():
        content = content.replace(drawn, shown)
    content = re.sub(r'<g id="[^"]*"', "<g", content)
    content = re.sub(r"'DejaVu Sans'(, '[^']*')*, sans-serif", "system-ui, sans-serif", content)
    return f'<svg {view[0]} role="img" aria-label="{html.escape(name)}">{content}'
