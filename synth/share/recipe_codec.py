"""Recipes in few bytes, exactly: a table's columns one behind the other, as Blosc packs numbers that are alike.

A table of N recipes becomes one frame of Blosc (Zstandard 9, byte shuffle) and its CRC-32C. In it stand the columns in
the order of `synth.tumour.recipe.COLUMNS` without ``index``, which the manifest knows, N float64 each, little endian.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from scans.errors import StoreError
from synth.corpus.codec import decode, encode
from synth.corpus.layout import Array
from synth.tumour.recipe import COLUMNS, Recipe

_LEVEL = 9  # written once, read seldom
_WHOLE = [number for number, field in enumerate(dataclasses.fields(Recipe)) if field.type in (int, "int")]


def encode_recipes(rows: np.ndarray) -> bytes:
    """Encode recipes.

    Parameters
    ----------
    rows : ndarray of float64, shape (n, columns)
        In the order of `COLUMNS`.
    """
    return encode(_table(len(rows)), np.ascontiguousarray(rows[:, 1:].T, "<f8"), _LEVEL)


def decode_recipes(content: bytes, indices: np.ndarray) -> np.ndarray:
    """Decode recipes from an untrusted place.

    Parameters
    ----------
    content : bytes
    indices : ndarray of int64, shape (n,)
        The column ``index``.

    Returns
    -------
    ndarray of float64, shape (n, columns)
        Whole numbers where `Recipe` has them; anything else may be wrong.

    Raises
    ------
    StoreError
        If it is not what `encode_recipes` writes for n recipes; the message has no place in it.
    """
    columns = decode(_table(len(indices)), content).reshape(len(COLUMNS) - 1, len(indices))
    rows = np.column_stack([indices.astype(np.float64), *columns])
    whole = rows[:, _WHOLE[1:]]
    if not (np.abs(whole) <= 2.0**53).all() or (whole != np.rint(whole)).any():
        raise StoreError("its recipes hold numbers that cannot be")
    return rows


def _table(recipes: int) -> Array:
    """Return how a table is encoded: as a chunk of an array of that many rows."""
    columns = len(COLUMNS) - 1
    return Array("recipes", "float64", (columns,), (columns,), "tissue", False, ("column", "recipe"), recipes)


def groups(shards: int, shard_size: int) -> Iterator[range]:
    """Yield the shards whose recipes are encoded together: enough for a good ratio, few enough to be read for one."""
    each = max(1, 4096 // shard_size)
    return (range(first, min(first + each, shards)) for first in range(0, shards, each))
