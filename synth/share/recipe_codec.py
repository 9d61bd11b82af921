"""Recipes in few bytes, exactly: a table's columns one behind the other, as Blosc packs numbers that are alike.

A table of N recipes becomes one frame of Blosc (Zstandard 9, byte shuffle) and its CRC-32C. In it stand the columns in
the order of the manifest without ``index``, which the manifest knows, N float64 each, little endian.
"""

from collections.abc import Iterator

import numpy as np

from synth.corpus.codec import decode, encode
from synth.corpus.layout import Array

_LEVEL = 9  # written once, read seldom


def encode_recipes(rows: np.ndarray) -> bytes:
    """Encode recipes.

    Parameters
    ----------
    rows : ndarray of float64, shape (n, columns)
        Their first is ``index``.
    """
    return encode(_table(len(rows), rows.shape[1] - 1), np.ascontiguousarray(rows[:, 1:].T, "<f8"), _LEVEL)


def decode_recipes(content: bytes, indices: np.ndarray, columns: int) -> np.ndarray:
    """Decode recipes from an untrusted place.

    Parameters
    ----------
    content : bytes
    indices : ndarray of int64, shape (n,)
        The column ``index``.
    columns : int
        How many there are, ``index`` among them.

    Returns
    -------
    ndarray of float64, shape (n, columns)
        Anything may be wrong in them.

    Raises
    ------
    StoreError
        If it is not what `encode_recipes` writes for n recipes; the message has no place in it.
    """
    table = decode(_table(len(indices), columns - 1), content).reshape(columns - 1, len(indices))
    return np.column_stack([indices.astype(np.float64), *table])


def _table(recipes: int, columns: int) -> Array:
    """Return how a table is encoded: as a chunk of an array of that many rows."""
    return Array("recipes", "float64", (columns,), (columns,), "tissue", False, ("column", "recipe"), recipes)


def groups(shards: int, shard_size: int) -> Iterator[range]:
    """Yield the shards whose recipes are encoded together: enough for a good ratio, few enough to be read for one."""
    each = max(1, 4096 // shard_size)
    return (range(first, min(first + each, shards)) for first in range(0, shards, each))
