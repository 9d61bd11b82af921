"""Show: a montage of samples, three planes each, with the numbers of their recipes."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scans.markdown import clean
from scans.page.greys import grey_window
from synth.corpus import Corpus
from synth.generators.registry import recorded_way
from synth.tumour.source import lends_tumour

_COLUMNS = ("composite", "normal", "tumour texture", "composite, mask contour")
_PLANES = ("axial", "coronal", "sagittal")
_ROWS = (("ratio", "alpha"), ("sigma_mm",), ("octaves", "axis_ratio"))  # of the recipe; other numbers follow
_LETTERS = 18  # of a name, beside the pictures


def montage_png(corpus: Corpus, indices: list[int], planes: int = len(_PLANES)) -> bytes:
    """Draw samples.

    Slices are drawn as a radiologist reads them: the patient's right on the left, anterior and superior up
    (prepared volumes point L, P, S). All pictures of a sample share one grey scale.

    Parameters
    ----------
    corpus : Corpus
    indices : list of int
    planes : int
        How many of axial, coronal and sagittal, in that order.

    Returns
    -------
    bytes
        A PNG.
    """
    # Rows are as tall, and columns as wide, as what they show is in millimetres; the first column holds text.
    extents = [[corpus.size * side for side in corpus.spacing_mm(index)] for index in indices]
    heights = [height for z, y, _ in extents for height in (y, z, z)[:planes]]
    width = max(max(y, x) for _, y, x in extents)
    widths = [0.62 * width] + [width] * len(_COLUMNS)
    inch = 2.6 / width
    figure = Figure(figsize=(sum(widths) * inch, sum(heights) * inch * 1.03), facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(heights), len(widths), height_ratios=heights, width_ratios=widths,
        left=0, right=1, bottom=0, top=1 - 0.35 / figure.get_figheight(), wspace=0.02, hspace=0.02,
    )  # fmt: skip
    axes = grid.subplots(squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, title in enumerate(_COLUMNS, start=1):
        axes[0, column].set_title(title, color="white", fontsize=10)
    for block, index in enumerate(indices):
        _draw_sample(corpus, index, axes[block * planes : (block + 1) * planes])
    file = io.BytesIO()
    figure.savefig(file, dpi=90, facecolor="black", format="png", metadata={"Software": None})
    return file.getvalue()


def _draw_sample(corpus: Corpus, index: int, axes: np.ndarray) -> None:
    sample, spacing = corpus[index], corpus.spacing_mm(index)
    low, high = grey_window(sample.normal, sample.composite[sample.mask > 0])
    shown = sample.mask > 0 if sample.mask.any() else sample.composite != sample.normal
    shown = shown if shown.any() else sample.normal != 0  # a scan without a tumour
    centre = [int(np.median(axis)) for axis in np.nonzero(shown)]
    background = sample.composite == 0
    for plane in range(len(axes)):
        mask = _slice(sample.mask, plane, centre[plane])
        hidden = _slice(background, plane, centre[plane])
        vertical, horizontal = [side for axis, side in enumerate(spacing) if axis != plane]
        for column, volume in enumerate((sample.composite, sample.normal, sample.texture, sample.composite), start=1):
            axis = axes[plane, column]
            picture = np.where(hidden, low, _slice(volume, plane, centre[plane]))
            if column == 3:  # the tumour's layer alone
                picture = np.where(mask > 0, picture, low)
            axis.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=vertical / horizontal)
            if column == 4 and mask.any():
                axis.contour(mask, levels=[0.5], colors="#39d353", linewidths=0.9)
    axes[0, 0].text(
        0.06, 0.95, numbers(corpus, index), color="white", fontsize=8, va="top", linespacing=1.5, parse_math=False
    )


def _slice(volume: np.ndarray, plane: int, position: int) -> np.ndarray:
    """Cut a plane out of a volume (z, y, x) pointing L, P, S, with superior and anterior up."""
    cut = np.take(volume, position, axis=plane)
    return cut if plane == 0 else cut[::-1]


def numbers(corpus: Corpus, index: int) -> str:
    """Return the numbers of a sample's recipe that a person reads, a line each, the sample's own first."""
    recipe = corpus.recipe(index)
    pair = [clean(corpus.sources[i]["name"].split("--")[-1]) for i in (corpus.normal[index], corpus.donor[index])]
    normal, donor = (name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…" for name in pair)
    numbers = recorded_way(corpus.generation(index), str(corpus.store)).numbers
    told = {column: number.short.format(recipe[column]) for column, number in numbers.items() if number.short}
    lines = [
        f"sample {index}",
        f"normal {normal}",
        f"donor {donor}",
        f"volume {recipe['volume_mm3'] * recipe['kept'] / 1000:.1f} ml",
        f"kept {recipe['kept']:.0%} of the form",
    ]
    if lends_tumour(corpus.sources[corpus.donor[index]]):
        return "\n".join([*lines, "a real tumour", told["alpha"]])
    beside = ["   ".join(told.pop(column) for column in row) for row in _ROWS if set(row) <= told.keys()]
    return "\n".join([*lines, *beside, *told.values()])
