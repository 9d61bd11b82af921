"""Show, as a page: samples to be looked into, layer by layer and slice by slice, and their montage below."""

import base64
from collections.abc import Iterator
from typing import Any

from scans.page.greys import grey_window
from scans.page.render import render
from scans.page.scene import Areas, Grey, Scene, oriented_grid, pack
from scans.page.viewer import viewer
from synth.corpus import Corpus
from synth.report.montage import montage_png, numbers

TUMOUR = "#f0a202"  # on grey, also for colour-blind readers


def sample_page(corpus: Corpus, indices: list[int]) -> str:
    """Return an HTML page of samples, complete in itself.

    Parameters
    ----------
    corpus : Corpus
    indices : list of int
        Those that do not fit into a page are left to the montage, which shows them all.

    Returns
    -------
    str
    """
    return render(
        "synth",
        "samples.html",
        viewer=viewer(_packed(corpus, indices)),
        title=f"Samples of {corpus.where.rstrip('/').rpartition('/')[2]}",
        region=corpus.region,
        identity=corpus.identity,
        montage=base64.b64encode(montage_png(corpus, indices)).decode(),
    )


def _packed(corpus: Corpus, indices: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the samples one by one: a corpus is larger than memory, and so may be what a user asks for."""
    return (pack(sample_scene(corpus, index)) for index in dict.fromkeys(indices))


def sample_scene(corpus: Corpus, index: int) -> Scene:
    """Return a sample's layers, its mask over them; voxels are counted as in the corpus's arrays."""
    sample = corpus[index]
    grid = oriented_grid(sample.normal.shape, corpus.spacing_mm(index), corpus.region.get("orientation", "LPS"))
    greys = (
        Grey("composite", sample.composite, shown=True),
        Grey("normal", sample.normal),
        Grey("tumour texture", sample.texture),
    )
    title, *lines = numbers(corpus, index).splitlines()
    return Scene(
        name=title,
        grid=grid,
        greys=greys,
        window=grey_window(sample.normal, sample.composite[sample.mask > 0]),
        unit="the network's units",
        areas=Areas("mask", (sample.mask > 0).view("uint8"), (("tumour", TUMOUR),)),
        said=" · ".join(lines),
    )
