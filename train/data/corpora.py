"""Aligned corpora: one a modality, whose samples have the same tumours in the same scans.

They come from one dataset of several modalities, prepared and generated once for each with the same seed; all that
a corpus draws but the contrast is then the same in each. Sample i of them all is one scan of C modalities.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scans import memory
from scans.errors import StoreError
from synth.corpus import Corpus, Recombination, Recombine, Sample
from train.data.alignment import check_aligned

_SHARED = {
    "shards", "size", "seed", "region", "statistics", "sources", "normal", "donor", "alpha", "recipe", "spacing_mm",
}  # fmt: skip


class Corpora:
    """Read aligned corpora as one corpus of several modalities.

    Reading is thread-safe. What is not drawn of a modality (``size``, ``sources``, ``alpha``, ``recipe``, ...: see
    :class:`synth.corpus.Corpus`) is the first one's.

    Parameters
    ----------
    paths : sequence of (str or Path)
        One a modality, in the order of the network's channels.
    cache : Path, optional
        See :class:`synth.corpus.Corpus`.

    Raises
    ------
    StoreError
        If one cannot be read, two are of one modality, or they are not aligned.

    Examples
    --------
    >>> corpora = Corpora(["flair.zarr", "t1.zarr"])        # doctest: +SKIP
    >>> corpora[0].composite.shape                          # doctest: +SKIP
    (2, 128, 128, 128)
    """

    def __init__(self, paths: Sequence[str | Path], cache: Path | None = None) -> None:
        if not paths:
            raise StoreError("give at least one corpus")
        self._opened = (tuple(paths), cache)
        self.each = tuple(Corpus(path, cache=cache) for path in paths)
        for position, corpus in enumerate(self.each[1:], 1):
            for other in self.each[:position]:
                if corpus.region["modality"] == other.region["modality"]:
                    raise StoreError(f"{other.where} and {corpus.where} are both of {corpus.region['modality']}")
            check_aligned(self.first, corpus)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as the arguments it was opened with."""
        return Corpora, self._opened

    @property
    def first(self) -> Corpus:
        """The corpus of the first modality."""
        return self.each[0]

    @property
    def channels(self) -> list[dict[str, Any]]:
        """What a checkpoint records of each modality: its region, and the normalisation its sources share."""
        return [{"region": corpus.region, "statistics": corpus.statistics} for corpus in self.each]

    @property
    def where(self) -> str:
        """Path or URL of each."""
        return ", ".join(corpus.where for corpus in self.each)

    @property
    def content_hash(self) -> str:
        """SHA-256 over the content of each, in their order."""
        return hashlib.sha256("".join(corpus.content_hash for corpus in self.each).encode()).hexdigest()

    def __getattr__(self, name: str) -> Any:
        """Return what is the first modality's."""
        if name in _SHARED:
            return getattr(self.first, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name}")

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.first)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` (0 to N - 1; negative counts from the end), float32; see `read`."""
        return self.read(index, empty_sample(len(self.each), self.size))

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples in order."""
        return (self[index] for index in range(len(self)))

    def read(self, index: int, out: Sample) -> Sample:
        """Read sample `index` into arrays that are there.

        Parameters
        ----------
        index : int
        out : Sample
            ``composite``, ``normal`` and ``texture`` float16 or float32 (C, z, y, x), ``mask`` uint8 (z, y, x).

        Returns
        -------
        Sample
            Of `out`'s arrays.

        Raises
        ------
        IndexError
            If there is no such sample.
        StoreError
            If it is missing or damaged, or its mask is not the same in each modality.
        """
        return _together(self.each, index, out)


class Recombined:
    """The same recombination in each modality: its draws see forms and ROIs, no intensity.

    An endless stream of new samples; see :class:`synth.corpus.recombine.Recombine`.
    """

    def __init__(
        self,
        corpora: Corpora,
        seed: int,
        tumours: Sequence[int] | np.ndarray | None = None,
        sources: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        self.each = tuple(Recombine(corpus, seed, tumours=tumours, sources=sources) for corpus in corpora.each)
        self._size = corpora.size

    def draw(self, step: int) -> Recombination:
        """Draw what makes sample `step`, of the first modality: the others differ in contrast."""
        return self.each[0].draw(step)

    def __getitem__(self, step: int) -> Sample:
        """Return sample `step`, 0 or more, float32; see `Corpora.read`."""
        return self.read(step, empty_sample(len(self.each), self._size))

    def read(self, step: int, out: Sample) -> Sample:
        """Write sample `step` into arrays that are there; parameters and errors as of `Corpora.read`."""
        return _together(self.each, step, out)


def open_corpus(paths: str | Path | Sequence[str | Path], cache: Path | None = None) -> Corpus | Corpora:
    """Open a corpus of one modality, or aligned corpora of several.

    Raises
    ------
    StoreError
        As of :class:`Corpora`.
    """
    each = [paths] if isinstance(paths, str | Path) else list(paths)
    return Corpus(each[0], cache=cache) if len(each) == 1 else Corpora(each, cache)


def empty_sample(channels: int, size: int, dtype: type = np.float32) -> Sample:
    """Return a sample of several modalities without content, to be written over; `dtype` is that of its layers."""
    composite, normal, texture = (memory.empty((channels, size, size, size), dtype) for _ in range(3))
    return Sample(composite, normal, texture, memory.empty((size, size, size), np.uint8), 0.0)


def _together(each: Sequence[Corpus | Recombine], index: int, out: Sample) -> Sample:
    """Write one sample of every modality into `out`."""
    alpha = 0.0
    for channel, reader in enumerate(each):
        mask = out.mask if channel == 0 else np.empty_like(out.mask)
        place = Sample(out.composite[channel], out.normal[channel], out.texture[channel], mask, 0.0)
        alpha = reader.read(index, place).alpha
        if channel and not np.array_equal(mask, out.mask):
            here, there = (r.corpus if isinstance(r, Recombine) else r for r in (each[0], reader))
            raise StoreError(
                f"{here.where} and {there.where}: the mask of sample {index} differs; the scans need one ROI "
                "file for all modalities in the catalog's layout: give it, then prepare and generate again"
            )
    return replace(out, alpha=alpha)
