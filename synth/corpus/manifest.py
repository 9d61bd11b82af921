"""The manifest: all that a corpus says of itself, and all that decides its samples.

A corpus holds blocks of samples, one behind the other. A block says which generation each of its samples was drawn
by and at which index; a generation is a seed, settings and a list of sources. A corpus made in one go has one of
each; growing, merging and choosing add to them. Needs NumPy alone: `train` reads it too.
"""

import bisect
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scans.errors import StoreError
from synth.corpus.manifest_checks import check
from synth.generators.generation import Generation
from synth.store.base import Readable
from synth.store.sealed_json import MOST_BYTES, check_seal, digest, parse, seal, to_bytes

FORMAT = "layered-tumors-corpus"
VERSION = 3
ROOT, COPY = "zarr.json", "manifest.json"  # the manifest stands in both


@dataclass(frozen=True)
class Block:
    """Consecutive samples of a corpus; it begins with a shard of its own, and only its last shard may be short.

    Attributes
    ----------
    draws : tuple of (int, int, int)
        Generation, first index, count: what the samples are, in order.
    """

    draws: tuple[tuple[int, int, int], ...]

    @functools.cached_property
    def ends(self) -> list[int]:
        """Samples up to the end of each draw."""
        return list(itertools.accumulate(count for _, _, count in self.draws))

    @property
    def samples(self) -> int:
        """Samples in the block."""
        return self.ends[-1]


@dataclass(frozen=True)
class Manifest:
    """What a corpus says of itself.

    Attributes
    ----------
    layout : {"layered", "dense"}
        How the samples are kept; decides none of them.
    size : int
        Voxels along a side.
    shard_size : int
        Samples in a full shard (K).
    region : dict
        JSON of ``scans.catalog.region.Region``: name, modality, preparation.
    statistics : dict or None
        Normalisation common to all sources, or None where each has its own.
    sources : tuple of dict
        Provenance of each source: name, dataset, licence, terms, content hash, spacing, ...
    generations : tuple of Generation
    blocks : tuple of Block
    """

    layout: str
    size: int
    shard_size: int
    region: dict[str, Any]
    statistics: dict[str, Any] | None
    sources: tuple[dict[str, Any], ...]
    generations: tuple[Generation, ...]
    blocks: tuple[Block, ...]

    def __len__(self) -> int:
        """Return the number of samples in the finished corpus."""
        return self._sample_ends[-1]

    @property
    def shard_count(self) -> int:
        """Shards of the finished corpus."""
        return self._shard_ends[-1]

    @property
    def slots(self) -> int:
        """Length of the first axis of its arrays: there is a slot more or less free behind each block."""
        before = self._shard_ends[-2] if len(self.blocks) > 1 else 0
        return before * self.shard_size + self.blocks[-1].samples

    @property
    def soft(self) -> bool:
        """Whether any sample may have a soft edge."""
        return any(generation.facts.soft for generation in self.generations)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers in its table of recipes: those of every generator, each once."""
        return tuple(dict.fromkeys(name for generation in self.generations for name in generation.columns))

    @functools.cached_property
    def own_columns(self) -> "tuple[np.ndarray, ...]":
        """Where in that table the numbers of each generation stand."""
        return tuple(np.array([self.columns.index(name) for name in g.columns]) for g in self.generations)

    def soft_in(self, shard: int) -> bool:
        """Say whether any sample of a shard may have one: what was made before the first such stays as it is."""
        return self.soft and any(
            self.generations[generation].facts.soft for generation, _, _ in self.draws(self.indices(shard))
        )

    @functools.cached_property
    def _sample_ends(self) -> list[int]:
        return list(itertools.accumulate(block.samples for block in self.blocks))

    @functools.cached_property
    def _shard_ends(self) -> list[int]:
        return list(itertools.accumulate(-(-block.samples // self.shard_size) for block in self.blocks))

    def indices(self, shard: int) -> range:
        """Return the samples of a shard."""
        number = bisect.bisect_right(self._shard_ends, shard)
        within = shard - (self._shard_ends[number - 1] if number else 0)
        first = (self._sample_ends[number - 1] if number else 0) + within * self.shard_size
        return range(first, min(first + self.shard_size, self._sample_ends[number]))

    def locate(self, index: int) -> tuple[int, int]:
        """Return the shard of a sample, and its place therein."""
        number = bisect.bisect_right(self._sample_ends, index)
        within = index - (self._sample_ends[number - 1] if number else 0)
        shard, place = divmod(within, self.shard_size)
        return (self._shard_ends[number - 1] if number else 0) + shard, place

    def draws(self, samples: range) -> Iterator[tuple[int, int, int]]:
        """Yield (generation, first index, count) of consecutive samples of one block."""
        number = bisect.bisect_right(self._sample_ends, samples.start)
        block = self.blocks[number]
        at = samples.start - (self._sample_ends[number - 1] if number else 0)
        left = len(samples)
        which = bisect.bisect_right(block.ends, at)
        while left:
            generation, first, count = block.draws[which]
            skipped = at - (block.ends[which] - count)
            taken = min(count - skipped, left)
            yield generation, first + skipped, taken
            at, left, which = at + taken, left - taken, which + 1

    def draw(self, index: int) -> tuple[int, int]:
        """Return the generation that a sample was drawn by, and its index there."""
        generation, first, _ = next(self.draws(range(index, index + 1)))
        return generation, first

    # What decides the samples, as hashes.

    @property
    def identity(self) -> str:
        """SHA-256 over what the samples depend on: two corpora with it hold the same samples, in whatever layout."""
        blocks = [[list(draw) for draw in block.draws] for block in self.blocks]
        return digest([*self._frame, [source["content_sha256"] for source in self.sources], self._drawn_by, blocks])

    def shard_identity(self, shard: int) -> str:
        """SHA-256 over what the samples of one shard depend on; stays as it is when the corpus grows."""
        draws = [[self._drawn_by[g], first, count] for g, first, count in self.draws(self.indices(shard))]
        return digest([*self._frame, draws])

    @property
    def sources_identity(self) -> str:
        """SHA-256 over the sources' contents and their normalisation."""
        contents = [[source["content_sha256"], source["statistics"]] for source in self.sources]
        return digest([FORMAT, VERSION, self.size, self.statistics, contents])

    @property
    def _frame(self) -> list[Any]:
        return [FORMAT, VERSION, self.size, self.shard_size, self.statistics]

    @functools.cached_property
    def _drawn_by(self) -> list[str]:
        contents = [source["content_sha256"] for source in self.sources]
        return [
            digest([*g.drawn, [[position, contents[position]] for position in g.sources]]) for g in self.generations
        ]

    # As JSON.

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as the sealed attributes of the corpus's group."""
        return seal(
            {
                "format": FORMAT,
                "version": VERSION,
                "layout": self.layout,
                "identity": self.identity,
                "samples": len(self),
                "size": self.size,
                "shard_size": self.shard_size,
                "region": self.region,
                "statistics": self.statistics,
                "sources": list(self.sources),
                "generations": [generation.to_json() for generation in self.generations],
                "blocks": [
                    {"samples": block.samples, "draws": [list(draw) for draw in block.draws]} for block in self.blocks
                ],
            }
        )

    def files(self) -> dict[str, bytes]:
        """Return the two files that hold the manifest, the one that makes a corpus of the folder last."""
        attributes = self.to_json()
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        return {COPY: to_bytes(attributes), ROOT: to_bytes(group)}


def load_manifest(store: Readable, key: str = ROOT) -> Manifest:
    """Read the manifest of a corpus, from its group or from the copy.

    Parameters
    ----------
    store : Readable
    key : {"zarr.json", "manifest.json"}

    Raises
    ------
    StoreError
        If there is no corpus, it is damaged, or of a version this program does not know.
    """
    where = f"{store}/{key}"
    try:
        content = parse(store.read(key, MOST_BYTES), where)
    except FileNotFoundError as error:
        other = COPY if key == ROOT else ROOT
        if store.size(other) >= 0:
            raise StoreError(f"{where} is missing; synth repair brings it back from {other}") from error
        raise StoreError(f"{store}: no corpus here; make one with synth generate --out {store}") from error
    attributes = content if key == COPY else content.get("attributes")
    if not isinstance(attributes, dict) or "format" not in attributes:
        raise StoreError(f"{where} is damaged or not a corpus; if it was one, synth repair may bring it back")
    if attributes["format"] != FORMAT:
        kind = str(attributes["format"])[:40]
        raise StoreError(f"{store} is a {kind!r} store, not a corpus; give one made by synth generate")
    if attributes.get("version") != VERSION:
        raise StoreError(
            f"{store} has corpus format {attributes.get('version')!r:.20}, this program reads {VERSION}; "
            "use the release of layered-tumors that wrote it, or make it again"
        )
    return from_json(check_seal(attributes, where), where)


def from_json(content: dict[str, Any], where: str) -> Manifest:
    """Make a manifest of what an untrusted file says.

    Raises
    ------
    StoreError
        Naming the first thing that is not as it must be.
    """
    try:
        check(content)
        manifest = _made_of(content)
        same = manifest.identity == content["identity"] and len(manifest) == content["samples"]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        told = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise StoreError(f"{where}: the manifest is not as the format says ({told})") from error
    if not same:
        raise StoreError(f"{where}: its identity does not match its settings; the file was changed after it was made")
    return manifest


def _made_of(content: dict[str, Any]) -> Manifest:
    generations = tuple(map(Generation.from_json, content["generations"]))
    blocks = tuple(Block(tuple((g, first, count) for g, first, count in b["draws"])) for b in content["blocks"])
    plain = {key: content[key] for key in ("layout", "size", "shard_size", "region", "statistics")}
    return Manifest(**plain, sources=tuple(content["sources"]), generations=generations, blocks=blocks)
