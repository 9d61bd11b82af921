"""Subset: choose samples of a corpus, and say what a corpus of them holds."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scans.errors import StoreError
from synth.corpus import Corpus
from synth.corpus.manifest import Block, Manifest
from synth.generate.plan import arranged

_MOST_RUNS = 2**21  # runs of samples that a manifest names: 100 MB of it
_COMPARISON = re.compile(r"\s*(\w+)\s*(<=|>=|==|!=|<|>|=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "==": operator.eq,
    "!=": operator.ne,
}  # fmt: skip


def choose(
    corpus: Corpus,
    samples: Sequence[str] = (),
    sources: Sequence[str] = (),
    donors_too: bool = False,
    where: Sequence[str] = (),
    every: int = 1,
    first: int | None = None,
) -> np.ndarray:
    """Choose samples of a corpus.

    Parameters
    ----------
    corpus : Corpus
    samples : sequence of str
        Those in any of these slices, as ``0:1000``, ``::2``, ``-100:`` or ``7``; all if not given.
    sources : sequence of str
        Of these, those whose normal is one of the sources so named.
    donors_too : bool
        The donor is to be one of them as well.
    where : sequence of str
        Of these, those whose recipe fits every comparison, as ``kept>0.9`` or ``alpha<=0.5``.
    every, first : int
        Of these, every k-th; and of these, so many at the most.

    Returns
    -------
    ndarray of int64
        Their indices, in order.

    Raises
    ------
    StoreError
        For a slice, a name or a comparison that says nothing, and if no sample is left.
    """
    chosen = np.full(len(corpus), not samples)
    for text in samples:
        chosen[_slice(text, len(corpus))] = True
    if sources or donors_too:
        positions = _positions(corpus, sources)
        chosen &= np.isin(corpus.normal, positions)
        if donors_too:
            chosen &= np.isin(corpus.donor, positions)
    for text in where:
        column, compare, number = _comparison(text, corpus.manifest.columns)
        chosen &= compare(corpus.recipes[:, column], number)
    if every < 1 or (first is not None and first < 1):
        raise StoreError("--every and --first: give a whole number, 1 or more")
    indices = np.flatnonzero(chosen)[::every][:first]
    if not len(indices):
        raise StoreError(f"no sample of {corpus.store} is chosen; ask for less")
    return indices


def subset(corpus: Corpus, indices: np.ndarray, shard_size: int | None = None) -> Manifest:
    """Say what a corpus of some samples of another will hold.

    Which source a recipe names depends on the whole list that it was drawn from. So a source goes only if no sample
    that stays was drawn from a list with it; otherwise the samples could not be made again.

    Parameters
    ----------
    corpus : Corpus
    indices : ndarray of int
        In order, each once.
    shard_size : int, optional
        Samples in a shard; that of `corpus` if not given.

    Raises
    ------
    StoreError
        If the choice is in too many pieces.
    """
    whole = corpus.manifest
    draws = np.array([draw for block in whole.blocks for draw in block.draws], np.int64)
    counts = draws[:, 2]
    generation = np.repeat(draws[:, 0], counts)[indices]
    number = (np.arange(len(whole)) + np.repeat(draws[:, 1] - (np.cumsum(counts) - counts), counts))[indices]
    starts = np.flatnonzero((np.diff(number, prepend=-2) != 1) | (np.diff(generation, prepend=-1) != 0))
    if len(starts) > _MOST_RUNS:
        raise StoreError(
            f"the choice is in {len(starts)} pieces, more than {_MOST_RUNS}; choose longer runs of samples"
        )
    kept = sorted(set(generation.tolist()))
    positions = sorted({position for g in kept for position in whole.generations[g].sources})
    places = {position: place for place, position in enumerate(positions)}
    runs = zip(
        np.searchsorted(kept, generation[starts]).tolist(),
        number[starts].tolist(),
        np.diff(starts, append=len(indices)).tolist(),
        strict=True,
    )
    manifest = replace(
        whole,
        sources=tuple(whole.sources[position] for position in positions),
        generations=tuple(
            replace(g, sources=tuple(places[position] for position in g.sources))
            for g in (whole.generations[number] for number in kept)
        ),
        blocks=(Block(tuple(runs)),),
    )
    return arranged(manifest, shard_size=shard_size)


def _slice(text: str, length: int) -> slice:
    parts = text.strip().split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
        if len(numbers) > 3 or (len(numbers) == 3 and numbers[2] is not None and numbers[2] < 1):
            raise ValueError
        if len(numbers) > 1:
            return slice(*numbers)
        index = range(length)[int(parts[0])]
    except ValueError as error:
        raise StoreError(f"--samples {text}: give a slice, as 0:1000 or ::2, or one number") from error
    except IndexError as error:
        raise StoreError(f"--samples {text}: there are samples 0 to {length - 1}") from error
    return slice(index, index + 1)


def _positions(corpus: Corpus, names: Sequence[str]) -> list[int]:
    there = [source["name"] for source in corpus.manifest.sources]
    unknown = [name for name in names if name not in there]
    if unknown:
        raise StoreError(f"--source {unknown[0]}: {corpus.store} has {', '.join(there)}")
    if not names:
        raise StoreError("--donors-too says that donors are to be of the sources given, too; give --source NAME")
    return [there.index(name) for name in names]


def _comparison(text: str, columns: Sequence[str]) -> tuple[int, Callable[[Any, Any], Any], float]:
    """Parse ``NAME OPERATOR NUMBER``."""
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise StoreError(f"--where {text}: give a column of the recipes, one of < <= > >= = !=, and a number")
    name, sign, number = match.groups()
    if name not in columns:
        raise StoreError(f"--where {text}: the recipes have {', '.join(columns)}")
    return columns.index(name), _OPERATORS[sign], float(number)
