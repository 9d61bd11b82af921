"""The generations of a corpus: seed and way of each time that it grew."""

from typing import TYPE_CHECKING

from synth.generators.registry import recorded_way
from synth.generators.way import Way

if TYPE_CHECKING:
    from synth.corpus.reader import Corpus


def generations_of(corpus: "Corpus") -> list[tuple[int, Way]]:
    """Return seed and way of every generation of a corpus."""
    return [(g.seed, recorded_way(g, corpus.where)) for g in corpus.manifest.generations]
