"""Whereabouts: where each sample of some corpora stands, told by their manifests alone.

It is the same sample where a generation of one seed, one setting and sources of one content drew it at one index,
whatever positions the sources have.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

from synth.corpus.manifest import Manifest
from synth.store.sealed_json import digest


def drawn_by(manifest: Manifest) -> list[str]:
    """Return for each generation a hash of all that decides its samples, wherever its sources stand in a list."""
    contents = [source["content_sha256"] for source in manifest.sources]
    frame = [manifest.size, manifest.statistics]
    return [digest([*frame, *g.drawn, [contents[p] for p in g.sources]]) for g in manifest.generations]


@dataclass(frozen=True)
class Stretch:
    """Consecutive samples of a generation that stand one behind the other in a corpus.

    Attributes
    ----------
    first, stop : int
        Their indices in the generation.
    corpus, at : int
        Which corpus holds them, and the index of the first there.
    """

    first: int
    stop: int
    corpus: int
    at: int


class Whereabouts:
    """Where the samples of some corpora stand, each once: where it was added first."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Stretch]] = {}  # by generation; disjoint, in order
        self._corpora = 0

    def add(self, manifest: Manifest) -> Iterator[tuple[int, int, int, Stretch | None]]:
        """Add a corpus, which is known by how many were added before it.

        Yields
        ------
        tuple of (generation, first index, count, Stretch or None)
            Its samples in order; a run where they are known already.
        """
        number, self._corpora, at = self._corpora, self._corpora + 1, 0
        names = drawn_by(manifest)
        for block in manifest.blocks:
            for generation, first, count in block.draws:
                for start, stop, known in list(self.find(names[generation], first, first + count)):
                    if known is None:
                        runs = self._runs.setdefault(names[generation], [])
                        bisect.insort(runs, Stretch(start, stop, number, at), key=lambda run: run.first)
                    at += stop - start
                    yield generation, start, stop - start, known

    def find(self, drawn: str, first: int, stop: int) -> Iterator[tuple[int, int, Stretch | None]]:
        """Yield (first, stop, run) of indices of a generation; the run is None where nobody has them.

        A run is the part asked for: it begins at `first`.
        """
        runs = self._runs.get(drawn, [])
        place = max(bisect.bisect_right(runs, first, key=lambda run: run.first) - 1, 0)
        for run in map(runs.__getitem__, range(place, len(runs))):
            if run.stop <= first:
                continue
            if run.first >= stop:
                break
            if run.first > first:
                yield first, run.first, None
                first = run.first
            end = min(run.stop, stop)
            yield first, end, Stretch(first, end, run.corpus, run.at + first - run.first)
            first = end
        if first < stop:
            yield first, stop, None
