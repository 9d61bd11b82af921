"""Which samples are trained on, and which are held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.corpus import Corpus
from train.data.corpora import Corpora
from train.data.order import order
from train.settings import SettingsError

_PREPARES = ("orientation", "field_of_view", "normalisation", "roi")  # of a region: what makes the cube of a scan
_SPLIT = 2**64 - 1  # epoch number no training reaches; its order draws the held-out sources


@dataclass(frozen=True)
class Split:
    """Sample numbers to train and to validate on, and how they were parted."""

    training: np.ndarray
    validation: np.ndarray
    held_out: tuple[str, ...]
    note: str


def split_by_source(corpus: Corpus | Corpora, held_out: Sequence[str], seed: int, limit: int) -> Split:
    """Part a corpus so that no anatomy is on both sides.

    Validation takes samples whose normal is a held-out source, at most `limit`; training takes samples that
    use no held-out source, neither as normal nor as donor. Where that leaves nothing to train on, sources
    are held out as normals only; where there is one source, samples are parted instead. The note says which.

    Raises
    ------
    SettingsError
        If a name in `held_out` is no source of the corpus, or nothing is left to train or validate on.
    """
    names = [str(source["name"]) for source in corpus.sources]
    used = sorted(set(corpus.normal.tolist()))
    unknown = sorted(set(held_out) - set(names))
    if unknown:
        raise SettingsError(f"--validation-sources {unknown[0]}: no such source; there are {', '.join(names)}")
    if not held_out:
        drawn = order(len(used), seed, _SPLIT)[: max(1, len(used) // 10)]
        held_out = [names[used[i]] for i in drawn] if len(used) > 1 else []
    if not held_out:
        return _split_one_source(len(corpus), seed, limit)
    chosen = [number for number, name in enumerate(names) if name in held_out]
    is_validation = np.isin(corpus.normal, chosen)
    validation = np.flatnonzero(is_validation)
    training = np.flatnonzero(~is_validation & ~np.isin(corpus.donor, chosen))
    named = ", ".join(sorted(held_out))
    note = f"validation on {named}, which training sees neither as normal nor as donor"
    if not len(training):
        training = np.flatnonzero(~is_validation)
        note = f"validation on {named} as normal; too few sources, so training sees its tissue inside tumours"
    if not len(training) or not len(validation):
        raise SettingsError(
            f"--validation-sources {named}: leaves {len(training)} samples to train on and {len(validation)} "
            "to validate on; hold out fewer sources or make a larger corpus"
        )
    return Split(training, validation[:limit], tuple(sorted(held_out)), note)


@dataclass(frozen=True)
class Shifted:
    """Samples of a corpus of another generator, to validate on under a shift.

    Attributes
    ----------
    corpus : Corpus or Corpora
    numbers : ndarray of int
    note : str
        How they were chosen.
    """

    corpus: Corpus | Corpora
    numbers: np.ndarray
    note: str

    def to_json(self) -> dict[str, Any]:
        """Return what a record says of them."""
        return {"corpus": self.corpus.content_hash, "samples": len(self.numbers), "note": self.note}


def shifted_samples(corpus: Corpus | Corpora, split: Split, other: Corpus | Corpora, limit: int) -> Shifted:
    """Choose the samples of another generator's corpus that a training validates on, at most `limit`, evenly spread.

    Those in scans that the training holds out, if there are any: then no anatomy of them is trained on. Else all.

    Parameters
    ----------
    corpus : Corpus or Corpora
        That is trained on.
    split : Split
        Of `corpus`.
    other : Corpus or Corpora
    limit : int

    Raises
    ------
    SettingsError
        If the other corpus is the same one, or its samples are not in the network's units and cube.
    """
    if what := _misfit(corpus, other):
        raise SettingsError(
            f"--validation-corpus {other.where}: {what}; make it for the same region and size, from sources of "
            "the same normalisation, with other settings of synthesis"
        )
    held_out = {_content(source) for source in corpus.sources if str(source["name"]) in split.held_out}
    trained = {_content(source) for source in corpus.sources} - held_out
    theirs = [_content(source) for source in other.sources]
    apart = np.flatnonzero(np.isin(other.normal, [n for n, content in enumerate(theirs) if content in held_out]))
    numbers = evenly(apart if len(apart) else np.arange(len(other)), limit)
    if len(apart):
        note = f"{len(numbers)} samples in the scans that are held out of training"
    elif trained.isdisjoint(theirs):
        note = f"{len(numbers)} samples in scans that training does not know"
    else:
        note = f"{len(numbers)} samples; none is in a held-out scan, so training may know their anatomy"
    return Shifted(other, numbers, note)


def evenly(numbers: np.ndarray, most: int) -> np.ndarray:
    """Return `most` of the numbers at the most, evenly spread over them."""
    return numbers[np.linspace(0, len(numbers) - 1, min(most, len(numbers))).astype(int)]


def _misfit(corpus: Corpus | Corpora, other: Corpus | Corpora) -> str:
    """Say what keeps samples of another corpus from being shown to the network; empty if nothing does."""
    if other.content_hash == corpus.content_hash:
        return "is the corpus that is trained on"
    if other.size != corpus.size:
        return f"has cubes of {other.size} voxels, and the training's has {corpus.size}"
    ours, theirs = ([channel["region"]["modality"] for channel in each.channels] for each in (corpus, other))
    if ours != theirs:
        return f"is of {', '.join(theirs)}, and the training's of {', '.join(ours)}"
    for here, there in zip(corpus.channels, other.channels, strict=True):
        for name in sorted({*here["region"], *there["region"]} & set(_PREPARES)):
            if here["region"].get(name) != there["region"].get(name):
                return f"its region has another {name}"
        if here["statistics"] != there["statistics"]:
            return "is normalised by other statistics"
    return ""


def _content(source: dict[str, Any]) -> str:
    """Return what tells a source's scan from others, whatever it is called."""
    return str(source.get("content_sha256") or source["name"])


def _split_one_source(count: int, seed: int, limit: int) -> Split:
    if count < 2:
        raise SettingsError("the corpus holds one sample: nothing is left to validate on; make a larger one")
    shuffled = order(count, seed, _SPLIT)
    held = min(max(1, count // 10), limit)
    note = "only one source: validation sees the same anatomy as training, with other tumours"
    return Split(np.sort(shuffled[held:]), np.sort(shuffled[:held]), (), note)
