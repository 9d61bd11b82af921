"""The generations of a corpus: seed and settings of each time that it grew."""

from typing import TYPE_CHECKING

from scans.catalog.synthesis import Synthesis, recorded

if TYPE_CHECKING:
    from synth.corpus.reader import Corpus


def generations_of(corpus: "Corpus") -> list[tuple[int, Synthesis]]:
    """Return seed and settings of every generation of a corpus."""
    return [(g.seed, recorded(g.settings, corpus.where)) for g in corpus.manifest.generations]
