"""Recipe packs: what another lab needs to make a corpus from its own copy of the scans, and no pixels.

A pack of recipes is a bag (`synth.share.bag`) of four files:

================== =====================================================================================
``manifest.json``  the manifest, as in the corpus
``recipes.json``   format, version, identity of the corpus, names of the columns; sealed
``recipes.bin``    where each group of shards ends (uint64, counted from the first), then their recipes,
                   encoded by `synth.share.recipe_codec`
``receipts.bin``   of each shard, SHA-256 of its content and of its receipt (64 bytes)
================== =====================================================================================

It reveals what the manifest says: name, dataset and case of each scan, its files' names and SHA-256, licence and
terms, frame and voxel size, size of its region of interest, mean and standard deviation of its intensities; and from
the recipes, voxels that lie in that region. No intensity of a voxel, no picture. Where the name of a case or a file
is itself in need of protection, rename it before preparing.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scans.errors import StoreError
from synth.corpus.codec import decode
from synth.corpus.layout import sample_arrays
from synth.corpus.manifest import COPY, Manifest, load_manifest
from synth.corpus.receipt import Receipt
from synth.generators.registry import recorded_way
from synth.generators.way import Way
from synth.share.bag import RECIPES, Bag, item_of, write_bag
from synth.share.pack import Packed, Progress, complete, local, told_of
from synth.share.recipe_codec import decode_recipes, encode_recipes, groups
from synth.share.unpack import open_bag
from synth.store.base import Store
from synth.store.sealed_json import check_seal, parse, seal, to_bytes

FORMAT, VERSION = "layered-tumors-recipes", 2
_HEADER, _TABLE, _DIGESTS = "recipes.json", "recipes.bin", "receipts.bin"
_DIGEST = 32  # bytes
_MOST_HEADER = 2**16


def pack_recipes(where: str | Path, out: str | Path, progress: Progress = lambda files, total: None) -> Packed:
    """Pack what makes a corpus again from the same scans, and no pixels.

    Parameters and errors as of `synth.share.pack.pack`; the terms of no source stand against it.
    """
    path = local(out)
    store, manifest, receipts = complete(where)
    encoded = []
    for group in groups(manifest.shard_count, manifest.shard_size):
        tables = []
        for shard in group:
            tables.append(_recipes(store, manifest, receipts[shard]))
            check_rows(manifest, shard, tables[-1], str(store))
        encoded.append(encode_recipes(np.concatenate(tables)))
    ends = np.cumsum([len(content) for content in encoded]).astype("<u8")
    header = {"format": FORMAT, "version": VERSION, "identity": manifest.identity, "columns": list(manifest.columns)}
    digests = (
        bytes.fromhex(receipts[shard].content) + hashlib.sha256(receipts[shard].to_bytes()).digest()
        for shard in range(manifest.shard_count)
    )
    items = [
        item_of(COPY, manifest.files()[COPY]),
        item_of(_HEADER, to_bytes(seal(header))),
        item_of(_TABLE, b"".join([ends.tobytes(), *encoded])),
        item_of(_DIGESTS, b"".join(digests)),
    ]
    new = write_bag(path, RECIPES, items, told_of("The recipes of a corpus", manifest, receipts), progress)
    return Packed(path, path.stat().st_size, len(manifest), new)


def _recipes(store: Store, manifest: Manifest, receipt: Receipt) -> np.ndarray:
    """Read the recipes of one shard, checked against its receipt."""
    array = sample_arrays(manifest)["recipes"]
    key = array.key(receipt.shard)
    entry = receipt.files[key]
    content = store.read(key, entry["bytes"]) if store.size(key) == entry["bytes"] else b""
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise StoreError(f"{store}/{key} is missing or damaged; run synth verify")
    return decode(array, content).reshape(array.rows, *array.row)[: receipt.samples]


class Recipes:
    """The recipes of a corpus, in an untrusted pack; thread-safe.

    Parameters
    ----------
    pack : str or Path
        Made by `pack_recipes`.

    Raises
    ------
    StoreError
        If it is none, or damaged.
    """

    def __init__(self, pack: str | Path) -> None:
        self._bag: Bag = open_bag(pack, RECIPES)
        bag = self._bag
        if set(bag.sums) != {COPY, _HEADER, _TABLE, _DIGESTS}:
            raise self._refused("it lacks a file, or holds others")
        for key in bag.sums:
            bag.sha256(key)
        self.manifest: Manifest = load_manifest(bag, COPY)
        where = f"{bag}/{_HEADER}"
        header = check_seal(parse(bag.read(_HEADER, _MOST_HEADER), where), where)
        if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
            raise StoreError(
                f"{bag} holds recipes of version {header.get('version')!r:.20}, this program reads {VERSION}; "
                "use the release of layered-tumors that wrote them"
            )
        if header.get("identity") != self.manifest.identity or header.get("columns") != list(self.manifest.columns):
            raise self._refused("its parts do not belong together")
        if bag.size(_DIGESTS) != 2 * _DIGEST * self.manifest.shard_count:
            raise self._refused("it lacks shards, or has more than its manifest says")
        self._each = len(next(groups(self.manifest.shard_count, self.manifest.shard_size)))
        count = -(-self.manifest.shard_count // self._each)
        self._head = 8 * count
        if bag.size(_TABLE) < self._head:
            raise self._refused(f"{_TABLE} is too short")
        ends = np.frombuffer(bag.read_part(_TABLE, 0, self._head), "<u8")
        if (ends[1:] < ends[:-1]).any() or int(ends[-1]) + self._head != bag.size(_TABLE):
            raise self._refused(f"{_TABLE} does not say where its parts are")
        self._ends = [0, *ends.tolist()]
        self._group = functools.lru_cache(maxsize=2)(self._decoded)

    def _refused(self, what: str) -> StoreError:
        return StoreError(f"{self._bag} is not a pack of recipes as synth pack makes it: {what}; get it again")

    def rows(self, shard: int) -> np.ndarray:
        """Return the recipes of a shard, float64, shape (samples, columns); see `check_rows`."""
        group = shard // self._each
        before = sum(len(self.manifest.indices(other)) for other in range(group * self._each, shard))
        return self._group(group)[before : before + len(self.manifest.indices(shard))]

    def _decoded(self, group: int) -> np.ndarray:
        shards = range(group * self._each, min((group + 1) * self._each, self.manifest.shard_count))
        draws = [draw for shard in shards for draw in self.manifest.draws(self.manifest.indices(shard))]
        indices = np.concatenate([np.arange(first, first + count) for _, first, count in draws])  # in its generation
        start, stop = self._ends[group], self._ends[group + 1]
        content = self._bag.read_part(_TABLE, self._head + start, stop - start)
        try:
            return decode_recipes(content, indices, len(self.manifest.columns))
        except StoreError as error:
            raise self._refused(str(error)) from error

    def digests(self, shard: int) -> tuple[str, bytes]:
        """Return what the original's receipt of a shard says of its content, and the SHA-256 of that receipt."""
        both = self._bag.read_part(_DIGESTS, 2 * _DIGEST * shard, 2 * _DIGEST)
        return both[:_DIGEST].hex(), both[_DIGEST:]


def check_rows(manifest: Manifest, shard: int, rows: np.ndarray, where: str) -> Iterator[tuple[int, Any, Way]]:
    """Return the recipes of a shard, each with its generation and the way it is made.

    Parameters
    ----------
    manifest : Manifest
    shard : int
    rows : ndarray of float64, shape (samples, columns)
    where : str
        For the message.

    Raises
    ------
    StoreError
        Naming the first that cannot have been drawn with its settings.
    """
    sample = manifest.indices(shard).start
    checked: list[tuple[int, Any, Way]] = []

    @functools.cache  # of a corpus chosen from another, each sample may be a draw of its own
    def drawn_with(number: int) -> tuple[Way, tuple[int, ...]]:
        generation = manifest.generations[number]
        return recorded_way(generation, where), generation.sources

    for number, first, count in manifest.draws(manifest.indices(shard)):
        way, drawn_from = drawn_with(number)
        own = manifest.own_columns[number]
        whole = [column for column, name in enumerate(way.columns) if way.numbers[name].whole]
        table = rows[len(checked) : len(checked) + count]
        numbers, others = table[:, own], np.delete(table, own, axis=1)
        if (
            not (np.abs(numbers) <= 2.0**53).all()
            or (numbers[:, whole] != np.rint(numbers[:, whole])).any()
            or not np.isnan(others).all()
        ):
            raise StoreError(f"{where}: shard {shard} holds recipes that are no numbers; ask whoever made it")
        for index, row in enumerate(numbers, start=first):
            recipe = way.recipe(row)
            wrong = way.check(recipe, drawn_from, manifest.size)
            if recipe.index != index:
                wrong.append(f"recipe: it is that of index {recipe.index}, not {index}")
            if wrong:
                raise StoreError(f"{where}: sample {sample + len(checked)}: {wrong[0]}; ask whoever made it")
            checked.append((number, recipe, way))
    return iter(checked)
