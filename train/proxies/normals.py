"""The normal volumes of a corpus: what the layers' network sees, without the tumours."""

from dataclasses import dataclass

import numpy as np

from synth.corpus import Corpus
from train.data.corpora import Corpora
from train.data.order import Endless
from train.data.random_bits import Draws
from train.data.split import Split

_TRAINING, _VALIDATION = 2**63, 2**62  # streams of random bits beside the order of samples


@dataclass(frozen=True)
class NormalScan:
    """A normal volume.

    Attributes
    ----------
    position : int
        Of the source in the corpus.
    voxels : ndarray of float32, shape (C, z, y, x)
        In the network's units, 0 outside the organ.
    """

    position: int
    voxels: np.ndarray

    @property
    def organ(self) -> np.ndarray:
        """Voxels of the organ in any modality, bool (z, y, x)."""
        return np.any(self.voxels != 0, axis=0)


class Normals:
    """An endless stream of training sources, every one once an epoch, and some of those held out.

    What is done to a scan is drawn for its place in the stream, so that it is another thing in each epoch.

    Parameters
    ----------
    corpus : Corpus or Corpora
    split : Split
        Only the normals of its samples are read: a donor may be no healthy scan. With a single source, training
        and validation see the same one, as its note says.
    seed : int
    """

    def __init__(self, corpus: Corpus | Corpora, split: Split, seed: int) -> None:
        self._each = corpus.each if isinstance(corpus, Corpora) else (corpus,)
        self._seed = seed
        self.names = [str(source["name"]) for source in corpus.sources]
        self.training = sorted({int(position) for position in corpus.normal[split.training]})
        self.validation = sorted({int(position) for position in corpus.normal[split.validation]})
        self._order = Endless(np.zeros(len(self.training), int), seed)

    def scan(self, position: int) -> NormalScan:
        """Read a source."""
        voxels = [corpus.source(position).voxels for corpus in self._each]
        return NormalScan(position, np.stack(voxels).astype(np.float32))

    def source_at(self, place: int) -> int:
        """Return the position of the source that comes at a place of the stream."""
        return self.training[self._order[place]]

    def draws_at(self, place: int) -> Draws:
        """Return the random numbers of a place of the stream."""
        return Draws(self._seed, _TRAINING + place)

    def held_out(self, number: int) -> tuple[int, Draws]:
        """Return the position of the source of a validation example, and its random numbers."""
        return self.validation[number % len(self.validation)], Draws(self._seed, _VALIDATION + number)
