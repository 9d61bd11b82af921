"""Columns of a comparison: the tumours of one corpus, or of annotated scans, measured and ready to be shown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scans.errors import StoreError
from synth.compare.labelled import Labelled, annotated, annotated_scans, samples_of
from synth.compare.measuring import MEASURES, measure

if TYPE_CHECKING:
    from synth.corpus import Corpus
    from synth.sources.reader import SourceStore


@dataclass(frozen=True, eq=False)
class Slice:
    """The axial slice with most of a tumour.

    Attributes
    ----------
    name : str
    values : ndarray of float16, shape (y, x)
        In the network's units; 0 outside the organ.
    mask : ndarray of bool, same shape
    spacing_mm : tuple of float
        Pixel sides (y, x).
    volume : float
        Of the whole tumour, ml.
    """

    name: str
    values: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float]
    volume: float


@dataclass(frozen=True, eq=False)
class Column:
    """What is shown of one corpus, or of the annotated scans.

    Attributes
    ----------
    title, note : str
        Its name, and what it is in words.
    size : int
        Voxels along each side of the cubes.
    values : dict of str to ndarray of float64, shape (n,)
        By name of :data:`synth.compare.measuring.MEASURES`; NaN where there was nothing to measure.
    slices : list of Slice
        Of every scan with a tumour.
    """

    title: str
    note: str
    size: int
    values: dict[str, np.ndarray]
    slices: list[Slice]

    def __len__(self) -> int:
        """Return the number of scans."""
        return len(self.values["foci"])

    @property
    def empty(self) -> int:
        """How many scans are without a tumour."""
        return len(self) - len(self.slices)

    def measured(self, name: str) -> np.ndarray:
        """Return the values of a measure without NaN."""
        return self.values[name][~np.isnan(self.values[name])]

    def examples(self, count: int) -> list[Slice]:
        """Return slices of tumours from small to large, evenly spread over all."""
        order = sorted(self.slices, key=lambda each: each.volume)
        if not order or not count:
            return []
        places = np.unique(np.linspace(0.5 / count, 1 - 0.5 / count, count) * (len(order) - 1))
        return [order[place] for place in np.unique(places.round().astype(int))]


def column_of_corpus(corpus: "Corpus", most: int, progress: Callable[[int, int], None]) -> Column:
    """Measure samples of a corpus, evenly spread over it.

    Parameters
    ----------
    corpus : Corpus
    most : int
        At most so many.
    progress : callable
        Called with the samples measured since the last call, and with all there are to measure.
    """
    indices = np.unique(np.linspace(0, len(corpus) - 1, min(most, len(corpus))).round().astype(int)).tolist()
    name = corpus.where.rstrip("/").rpartition("/")[2]
    note = f"{len(indices):,} of {len(corpus):,} samples"
    return _column(name, note, corpus.size, samples_of(corpus, indices), len(indices), progress)


def column_of_annotated(store: "SourceStore", progress: Callable[[int, int], None]) -> Column:
    """Measure the annotated scans of a store of sources; further parameters as of `column_of_corpus`.

    Raises
    ------
    StoreError
        If it holds none.
    """
    names = annotated(store)
    note = f"{len(names):,} annotated scan{'s' * (len(names) > 1)} of {store.path.name}"
    scans = annotated_scans(store, names)
    return _column("real tumours", note, store.size, scans, len(names), progress)


def check_comparable(regions: Sequence[tuple[str, str]]) -> None:
    """Refuse to compare tumours of several regions.

    Parameters
    ----------
    regions : sequence of (str, str)
        What is compared, and its region.

    Raises
    ------
    StoreError
    """
    (first, region), *others = regions
    for other, its in others:
        if its != region:
            raise StoreError(f"{first} is of {region}, {other} of {its}: compare tumours of one region at a time")


def _column(
    title: str,
    note: str,
    size: int,
    scans: Iterable[Labelled],
    total: int,
    progress: Callable[[int, int], None],
) -> Column:
    rows, slices = [], []
    progress(0, total)
    for scan in scans:
        found = measure(scan)
        rows.append([found[name] for name in MEASURES])
        if scan.mask.any():
            z = int(scan.mask.sum(axis=(1, 2)).argmax())
            y_mm, x_mm = scan.spacing_mm[1:]
            # copies: a view would keep the whole cube
            slices.append(Slice(scan.name, scan.voxels[z].copy(), scan.mask[z].copy(), (y_mm, x_mm), found["volume"]))
        progress(1, total)
    table = np.array(rows, np.float64).reshape(-1, len(MEASURES))
    values = {name: table[:, place] for place, name in enumerate(MEASURES)}
    return Column(title, note, size, values, slices)
