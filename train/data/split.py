"""Which samples are trained on, and which are held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.corpus import Corpus
from train.data.corpora import Corpora
from train.data.order import order
from train.settings import SettingsError

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


def _split_one_source(count: int, seed: int, limit: int) -> Split:
    if count < 2:
        raise SettingsError("the corpus holds one sample: nothing is left to validate on; make a larger one")
    shuffled = order(count, seed, _SPLIT)
    held = min(max(1, count // 10), limit)
    note = "only one source: validation sees the same anatomy as training, with other tumours"
    return Split(np.sort(shuffled[held:]), np.sort(shuffled[:held]), (), note)
