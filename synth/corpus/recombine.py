"""Recombine: any tumour of a corpus in any of its sources, at another place, turned over, fainter or stronger.

A layered corpus keeps tumours as they were drawn, before an organ's edge cut them, so N tumours and M sources make
N x M samples and more. Sample `step` is a pure function of (corpus, seed, step): an endless stream without state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scans.errors import StoreError
from scans.image.box import Box, corner_of, overlap, sides_of, turn_of, turned
from scans.image.normalisation import Statistics, scale
from synth.tumour.blend import INSIDE, lay, lay_over, narrow, widen, write_normal
from synth.tumour.philox import Stream
from synth.tumour.sample import Layer, Sample, Tumour, empty_sample
from synth.tumour.source import lends_tumour

if TYPE_CHECKING:
    from synth.corpus.reader import Corpus


_STREAM = 6  # those below belong to `synth.generators.layers`; never renumber, samples would change
_TRIES = 20  # centres of one pair of tumour and source; then another pair is drawn
_MOST_PAIRS = 1000  # then the corpus cannot be recombined


@dataclass(frozen=True)
class Recombination:
    """What makes one recombined sample.

    Attributes
    ----------
    step : int
    tumour : int
        The sample of the corpus whose tumour it is.
    normal, donor : int
        Positions in the corpus's sources: who receives it, and whose tissue fills it.
    flip : tuple of bool
        Mirrored along (z, y, x).
    start : tuple of int
        First voxel (z, y, x) of the tumour's box, perhaps outside the cube.
    kept : float
        Share of the form's voxels, a soft edge around it not counted, that the ROI left.
    ratio : float
        r of Eq. 4.
    alpha : float
        Exact in float32.
    """

    step: int
    tumour: int
    normal: int
    donor: int
    flip: tuple[bool, bool, bool]
    start: tuple[int, int, int]
    kept: float
    ratio: float
    alpha: float


class Recombine:
    """An endless stream of samples that a corpus did not hold; each obeys Eq. 5, and no source fills itself.

    Parameters
    ----------
    corpus : Corpus
        ``layered`` for all that is drawn here; a dense one has lost what the ROI cut off.
    seed : int
        0 to 2**64 - 1.
    tumours : sequence of int, optional
        Samples whose tumours are used; all if not given.
    sources : sequence of int, optional
        Positions of the sources that receive them; all if not given. Those that lend a real tumour receive none.
    flip, move : bool
        Mirror each axis with probability 1/2; draw a new centre, uniform over the ROI, in place of the old one. A form
        that reaches a face of the cube keeps to it, since it may have been cut there.
    alpha, ratio : optional
        Interval of alpha and intervals of r; those of each tumour's settings if not given, and where these have none
        a tumour keeps its own.

    Raises
    ------
    StoreError
        If a number is out of range, or nothing can be combined: the only source left is the donor of every tumour.

    Examples
    --------
    >>> stream = Recombine(Corpus("corpus.zarr"), seed=1)   # doctest: +SKIP
    >>> sample = stream[1_000_000]                          # doctest: +SKIP
    """

    def __init__(
        self,
        corpus: "Corpus",
        seed: int,
        *,
        tumours: Sequence[int] | np.ndarray | None = None,
        sources: Sequence[int] | np.ndarray | None = None,
        flip: bool = True,
        move: bool = True,
        alpha: tuple[float, float] | None = None,
        ratio: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        self.corpus, self.seed, self.flip, self.move = corpus, seed, flip, move
        self._alpha, self._ratio = alpha, ratio
        given = {int(s) for s in (range(len(corpus.sources)) if sources is None else sources)}
        self._sources = sorted(s for s in given if not _lends_tumour(corpus, s))
        everyone = np.arange(len(corpus)) if tumours is None else np.asarray(tumours, int)
        self._check(everyone)
        if len(corpus.sources) > 1 and len(self._sources) == 1:  # its own tissue is no tumour
            everyone = everyone[corpus.donor[everyone] != self._sources[0]]
        self._tumours = everyone
        if not len(everyone) or not self._sources:
            raise StoreError(f"{corpus.store}: nothing to recombine; give more tumours, or more sources")

    def _check(self, tumours: np.ndarray) -> None:
        """Refuse numbers out of range."""
        sources, known = np.asarray(self._sources, int), len(self.corpus.sources)
        for name, given, count in (("source", sources, known), ("tumour", tumours, len(self.corpus))):
            wrong = given[(given < 0) | (given >= count)]
            if len(wrong):
                raise StoreError(f"{self.corpus.store}: no {name} {wrong[0]} to recombine; there are 0 to {count - 1}")
        if not 0 <= self.seed < 2**64:
            raise StoreError(f"seed {self.seed}: give a whole number from 0 to 2**64 - 1")
        if self._alpha is not None and not 0 <= self._alpha[0] <= self._alpha[1] <= 1:
            raise StoreError(f"alpha {self._alpha}: give an interval of [0, 1], its lower end first")
        if any(low > high for low, high in self._ratio or ()):
            raise StoreError(f"ratio {self._ratio}: give intervals, each with its lower end first")

    def draw(self, step: int) -> Recombination:
        """Draw what makes sample `step`."""
        return self._draw(step)[0]

    def _draw(self, step: int) -> tuple[Recombination, Layer]:
        stream = Stream(self.seed, step, _STREAM)
        for _ in range(_MOST_PAIRS):
            index = int(self._tumours[stream.below(len(self._tumours))])
            donor = int(self.corpus.donor[index])
            others = [s for s in self._sources if s != donor] or self._sources
            position = others[stream.below(len(others))]
            flip = tuple(bool(stream.below(2)) and self.flip for _ in range(3))
            generation = self.corpus.generation(index)
            intervals, strength = self._ratio or generation.facts.ratio, self._alpha or generation.facts.alpha
            ratio = stream.uniform_over(intervals) if intervals else 1.0
            alpha = float(np.float32(stream.uniform(*strength))) if strength else float(self.corpus.alpha[index])
            layer = self.corpus.layer(index)
            normal = self.corpus.source(position)
            if not len(normal.centres):
                continue
            anchor = self._anchor(index, layer.box, flip)
            core, old = _core(layer), corner_of(layer.box)
            pinned, count = _pinned(layer.box, flip, self.corpus.size), max(1, int(np.count_nonzero(core)))
            roi = normal.turned(turn_of(flip)).roi
            for _ in range(_TRIES if self.move else 1):
                free: tuple[int, ...] = old
                if self.move:
                    centre = normal.centres[stream.below(len(normal.centres))]
                    free = tuple(c - a for c, a in zip(centre, anchor, strict=True))
                start = tuple(f if p is None else p for f, p in zip(free, pinned, strict=True))
                kept = _seen_of(core, turned(start, core.shape, flip, self.corpus.size), roi) / count
                if kept >= generation.facts.least_kept:
                    z, y, x = start
                    mirror = (flip[0], flip[1], flip[2])
                    return Recombination(step, index, position, donor, mirror, (z, y, x), kept, ratio, alpha), layer
        raise StoreError(f"{self.corpus.store}: no tumour fits any source; their ROIs are too small")

    def _anchor(self, index: int, box: Box, flip: tuple[bool, ...]) -> tuple[int, ...]:
        """Return the form's centre, counted from its box's corner, after flipping."""
        recipe = self.corpus.recipe(index)
        within = [int(recipe[f"centre_{axis}"]) - start for axis, start in zip("zyx", corner_of(box), strict=True)]
        return tuple(n - 1 - c if over else c for c, n, over in zip(within, sides_of(box), flip, strict=True))

    def tumour(self, step: int) -> tuple[int, Tumour]:
        """Return the position of the normal of sample `step`, and its tumour."""
        drawn, layer, target = self._layer(step)
        turn = turn_of(drawn.flip)
        tumour = lay(layer, self.corpus.source(drawn.normal).turned(turn), drawn.alpha, target)
        z, y, x = turned(corner_of(layer.box), layer.form.shape, drawn.flip, self.corpus.size)
        depth, height, width = layer.form.shape
        box = slice(z, z + depth), slice(y, y + height), slice(x, x + width)
        layers = (tumour.composite, tumour.texture, tumour.mask)
        composite, texture, mask = (np.ascontiguousarray(part[turn]) for part in layers)
        return drawn.normal, Tumour(box, composite, texture, mask, tumour.alpha)

    def _layer(self, step: int) -> tuple[Recombination, Layer, str]:
        """Return what makes a sample, its tumour as it stands in the corpus, cut to the cube, and the target.

        It is the normal that is turned over in its stead: to look at an array from the other side costs nothing.
        """
        drawn, layer = self._draw(step)
        start = turned(drawn.start, layer.form.shape, drawn.flip, self.corpus.size)
        moved = self._in_units_of(drawn, _moved(layer, start, self.corpus.size))
        return drawn, moved, self.corpus.generation(drawn.tumour).facts.target

    def _in_units_of(self, drawn: Recombination, layer: Layer) -> Layer:
        """Bring the tissue from the scale and contrast of its first normal to those of the new one (Eq. 4)."""
        kind = self.corpus.generation(drawn.tumour).facts.tissue
        if kind == "network" or _lends_tumour(self.corpus, drawn.donor):
            return layer  # its contrast is in units of the organ's tissue, whatever the normal
        recipe = self.corpus.recipe(drawn.tumour)
        before, after = (self.corpus.manifest.sources[int(p)] for p in (recipe["normal"], drawn.normal))
        was, will = (self._statistics(source) for source in (before, after))
        raw = widen(layer.tissue)
        raw *= np.float32(was.std)
        raw += np.float32(was.mean)
        if kind == "scaled":
            # Eq. 4 made the tissue's mean r times the normal's; now it becomes r' times the new normal's.
            change = drawn.ratio / recipe["ratio"] if recipe["ratio"] else 0.0  # r = 0 left nothing to scale
            raw *= np.float32(change * (after["mean"] / before["mean"]))
        return Layer(layer.box, layer.form, narrow(scale(raw, will)), layer.edge)

    def _statistics(self, source: dict[str, Any]) -> Statistics:
        return Statistics.from_json(self.corpus.statistics or source["statistics"])

    def read(self, step: int, out: Sample) -> Sample:
        """Write sample `step` into arrays that are there; see `Corpus.read`."""
        drawn, layer, target = self._layer(step)
        normal, turn = self.corpus.source(drawn.normal), turn_of(drawn.flip)
        write_normal(normal.voxels, out)
        lay_over(layer, normal.turned(turn), drawn.alpha, target, out.turned(turn))
        return replace(out, alpha=drawn.alpha)

    def __getitem__(self, step: int) -> Sample:
        """Return sample `step`, 0 or more, float32."""
        if step < 0:
            raise IndexError("an endless stream has no end to count from")
        return self.read(step, empty_sample(self.corpus.size))

    def __iter__(self) -> Iterator[Sample]:
        """Yield samples from step 0 on, without end."""
        step = 0
        while True:
            yield self[step]
            step += 1


def _lends_tumour(corpus: "Corpus", position: int) -> bool:
    """Say whether a source is a scan with a real tumour; a number out of range is none."""
    sources = corpus.manifest.sources
    return 0 <= position < len(sources) and lends_tumour(sources[position])


def _pinned(box: Box, flip: Sequence[bool], size: int) -> tuple[int | None, ...]:
    """Return where a box must begin along each axis; None where it may begin anywhere.

    A form that reaches a face of the cube was perhaps cut off there. Its flat side stays at that face, or goes to the
    opposite one with the flip: in the middle of an organ no tumour ends in a plane.
    """
    pins: list[int | None] = []
    for part, over in zip(box, flip, strict=True):
        low, high = (part.start == 0, part.stop == size)[:: -1 if over else 1]
        pins.append(0 if low else size - (part.stop - part.start) if high else None)
    return tuple(pins)


def _core(layer: Layer) -> np.ndarray:
    """Return a form without the soft edge around it, bool, shape of the layer's box."""
    if layer.edge is None:
        return layer.form
    core = np.zeros(layer.form.shape, bool)
    core[layer.form] = layer.edge >= INSIDE
    return core


def _seen_of(core: np.ndarray, start: Sequence[int], roi: np.ndarray) -> int:
    """Return how many of a form's voxels a ROI leaves of it at `start`."""
    boxes = overlap(core.shape, start, roi.shape[0])
    if boxes is None:
        return 0
    cube, own = boxes
    return int(np.count_nonzero(core[own] & roi[cube]))


def _moved(layer: Layer, start: Sequence[int], size: int) -> Layer:
    """Put a layer's box elsewhere, cut to the cube."""
    boxes = overlap(layer.form.shape, start, size)
    assert boxes is not None  # most of it is kept
    cube, own = boxes
    form = layer.form[own]
    if form.shape == layer.form.shape:
        return Layer(cube, layer.form, layer.tissue, layer.edge)
    inside = np.zeros(layer.form.shape, bool)
    inside[own] = True
    taken = inside[layer.form]
    edge = None if layer.edge is None else layer.edge[taken]
    return Layer(cube, np.ascontiguousarray(form), layer.tissue[taken], edge)
