"""Labelled scans: what a network is shown, and the mask of its tumours; from a corpus, or annotated by people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scans.errors import StoreError
from synth.tumour.sample import empty_sample
from synth.tumour.source import lends_tumour

if TYPE_CHECKING:
    from synth.corpus import Corpus
    from synth.sources.reader import SourceStore


@dataclass(frozen=True, eq=False)
class Labelled:
    """A scan in the network's cube, and the mask of its tumours.

    Attributes
    ----------
    name : str
    voxels : ndarray of float16, shape (z, y, x)
        In the network's units; 0 outside the organ.
    mask : ndarray of bool, same shape
    roi : ndarray of bool, same shape
        Where a tumour may be visible; holds the mask.
    spacing_mm : tuple of float
        Voxel sides (z, y, x).
    """

    name: str
    voxels: np.ndarray
    mask: np.ndarray
    roi: np.ndarray
    spacing_mm: tuple[float, float, float]


def samples_of(corpus: "Corpus", indices: Sequence[int]) -> Iterator[Labelled]:
    """Yield samples of a corpus.

    Raises
    ------
    StoreError
        If one is missing or damaged.
    """
    for index in indices:
        sample = corpus.read(index, empty_sample(corpus.size, np.float16))
        roi = corpus.source(int(corpus.normal[index])).roi
        yield Labelled(f"sample {index}", sample.composite, sample.mask > 0, roi, corpus.spacing_mm(index))


def annotated(store: "SourceStore") -> list[str]:
    """Return the names of the sources with a real tumour.

    Raises
    ------
    StoreError
        If there is none.
    """
    names = [name for name in store.names if lends_tumour(store.provenance(name))]
    if not names:
        raise StoreError(
            f"{store.path} holds no annotated scan; bring some into it with synth prepare --tumours DATASET"
        )
    return names


def annotated_scans(store: "SourceStore", names: Sequence[str]) -> Iterator[Labelled]:
    """Yield annotated scans of a store of sources, their tumours where foreground and ROI differ."""
    for name in names:
        scan = store.load(name)
        tumour = scan.foreground & ~scan.roi
        yield Labelled(name.rpartition("--")[2], scan.normal.voxels, tumour, scan.foreground, scan.spacing_mm)
