"""Alignment: whether two corpora, each of one modality, hold the same tumours in the same scans."""

import itertools

import numpy as np

from scans.errors import StoreError
from synth.corpus import Corpus

OWN = ("ratio", "sigma_mm")  # of a recipe: what each modality has for itself
_OWN_SETTINGS = ("linear", "blur")  # which they are drawn by
_TERMS = ("case", "licence", "terms", "citation", "redistribute_derived")
_SPACE = ("frame", "spacing_mm", "roi_voxels")
_REMEDY = (
    "make them from one dataset that lists the modalities: synth prepare --modality for each, "
    "then synth generate --generator layers with the same -n and --seed"
)


def check_aligned(first: Corpus, other: Corpus) -> None:
    """Stop if two corpora do not hold the same tumours in the same scans.

    Masks are compared as they are read (`Corpora.read`): they also depend on each voxel of the ROIs.

    Raises
    ------
    StoreError
        Saying in one sentence what differs, and how aligned ones are made.
    """
    what = _other_cubes(first, other) or _other_sources(first, other) or _other_tumours(first, other)
    if what:
        raise StoreError(f"{first.where} and {other.where} are not aligned: {what}; {_REMEDY}")


def _other_cubes(first: Corpus, other: Corpus) -> str:
    for what, here, there in (
        ("voxels a side", first.size, other.size),
        ("samples", len(first), len(other)),
    ):
        if here != there:
            return f"{here} against {there} {what}"
    return ""


def _other_sources(first: Corpus, other: Corpus) -> str:
    lone = {source["name"] for source in first.sources} ^ {source["name"] for source in other.sources}
    if lone:
        return f"source {min(lone)} is in one of them alone"
    for ours, theirs in zip(first.sources, other.sources, strict=True):
        name = ours["name"]
        if name != theirs["name"]:
            return f"one has source {name} where the other has {theirs['name']}"
        for key in (*_TERMS, *_SPACE):
            if ours.get(key) != theirs.get(key):
                files = "; its files need one grid and one ROI file" if key in _SPACE else ""
                return f"source {name} differs in its {key}{files}"
    return ""


def _other_tumours(first: Corpus, other: Corpus) -> str:
    for index in sorted(_starts(first) | _starts(other)):
        ours, theirs = first.settings(index), other.settings(index)
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in _OWN_SETTINGS and ours.get(key) != theirs.get(key):
                return f"their settings of {key} differ, and only those of {' and '.join(_OWN_SETTINGS)} may"
    same = first.alpha == other.alpha
    for position, name in enumerate(first.recipe(0)):
        if name not in OWN:
            same &= first.recipes[:, position] == other.recipes[:, position]
    return "" if same.all() else f"{np.count_nonzero(~same)} of {len(same)} tumours are others, as of another seed"


def _starts(corpus: Corpus) -> set[int]:
    """Return the samples at which a corpus's settings may change."""
    counts = [count for block in corpus.manifest.blocks for _, _, count in block.draws]
    return {0, *itertools.accumulate(counts[:-1])}
