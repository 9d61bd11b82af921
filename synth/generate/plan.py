"""What a corpus will hold: its manifest, or that of one that grows."""

import platform
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from scans.catalog.synthesis import Synthesis, recorded
from scans.errors import StoreError
from synth.corpus.manifest import Block, Generation, Manifest
from synth.corpus.manifest_checks import LAYOUTS, MOST_IN_SHARD
from synth.sources.reader import SourceStore

_SOFTWARE = ("layered-tumors", "numpy", "numba", "opensimplex", "numcodecs", "SimpleITK", "scipy")


def make_manifest(
    sources: SourceStore,
    samples: int,
    seed: int,
    settings: Synthesis | None = None,
    shard_size: int = 64,
    layout: str = "layered",
) -> Manifest:
    """Say what a corpus will hold.

    Parameters
    ----------
    sources : SourceStore
    samples : int
        N, at least 1.
    seed : int
        0 to 2**64 - 1.
    settings : Synthesis, optional
        Those of the sources' region if not given.
    shard_size : int
        Samples in a shard.
    layout : {"layered", "dense"}

    Raises
    ------
    StoreError
        For numbers out of range, or a store without sources.
    """
    if samples < 1:
        raise StoreError(f"-n {samples}: ask for at least one sample")
    if not 0 <= seed < 2**64:
        raise StoreError(f"--seed {seed}: give a whole number from 0 to 2**64 - 1")
    drawn = settings or sources.region.synthesis
    names = sources.drawn_from(drawn.donor.tumours)
    manifest = Manifest(
        layout=layout,
        size=sources.size,
        shard_size=shard_size,
        region=sources.region.model_dump(mode="json"),
        statistics=sources.statistics,
        sources=tuple(sources.provenance(name) for name in names),
        generations=(Generation(seed, drawn.model_dump(mode="json"), tuple(range(len(names))), software()),),
        blocks=(Block(((0, 0, samples),)),),
    )
    return arranged(manifest, layout, shard_size)


def arranged(manifest: Manifest, layout: str | None = None, shard_size: int | None = None) -> Manifest:
    """Say what a corpus of the same samples, kept otherwise, will hold.

    Parameters
    ----------
    manifest : Manifest
    layout : {"layered", "dense"}, optional
        As it is if not given.
    shard_size : int, optional
        Samples in a shard; likewise.

    Raises
    ------
    StoreError
        If there is no such layout or shard.
    """
    if layout not in (None, *LAYOUTS):
        raise StoreError(f"--layout {layout}: give {' or '.join(LAYOUTS)}")
    if shard_size is not None and not 1 <= shard_size <= MOST_IN_SHARD:
        raise StoreError(f"--shard-size {shard_size}: a shard holds 1 to {MOST_IN_SHARD} samples")
    return replace(manifest, layout=layout or manifest.layout, shard_size=shard_size or manifest.shard_size)


def grown(
    there: Manifest, sources: SourceStore, samples: int, seed: int | None = None, settings: Synthesis | None = None
) -> Manifest:
    """Say what a corpus will hold when it has grown to `samples`; the new ones stand in a block of their own.

    Parameters
    ----------
    there : Manifest
        The corpus as it is.
    sources : SourceStore
        Those to draw the new samples from: the same, or more.
    samples : int
        In the end, so that the same command run again adds nothing.
    seed : int, optional
        The last one goes on if not given.
    settings : Synthesis, optional
        Likewise.

    Raises
    ------
    StoreError
        If the corpus holds more, or the sources do not go with it.
    """
    if samples < len(there):
        raise StoreError(f"-n {samples}: the corpus holds {len(there)} samples already; say how many it is to hold")
    if samples == len(there):
        return there
    if (
        sources.size != there.size
        or sources.region.normalisation.model_dump(mode="json") != there.region["normalisation"]
    ):
        raise StoreError(f"{sources.path} was prepared otherwise than the sources of the corpus; prepare them alike")
    last = there.generations[there.blocks[-1].draws[-1][0]]
    positions = {source["content_sha256"]: number for number, source in enumerate(there.sources)}
    taken = {source["name"] for source in there.sources}
    drawn = recorded(last.settings, "the corpus") if settings is None else settings
    names = sources.drawn_from(drawn.donor.tumours)
    joined: list[dict[str, Any]] = []
    for name in names:
        entry = sources.provenance(name)
        if entry["content_sha256"] in positions:
            continue
        if name in taken:
            raise StoreError(f"{sources.path}: source {name} is not the corpus's source of that name; rename one")
        positions[entry["content_sha256"]] = len(there.sources) + len(joined)
        joined.append(entry)
    drawn_from = tuple(positions[sources.provenance(name)["content_sha256"]] for name in names)
    own = last.settings if settings is None else settings.model_dump(mode="json")
    generation = Generation(last.seed if seed is None else seed, own, drawn_from, software())
    generations = there.generations
    if generation not in generations:
        generations = (*generations, generation)
    number = generations.index(generation)
    # Behind all samples of its seed: an index drawn twice gives one form twice, whatever the settings.
    first = max(
        (f + n for b in there.blocks for g, f, n in b.draws if generations[g].seed == generation.seed), default=0
    )
    return replace(
        there,
        sources=(*there.sources, *joined),
        generations=generations,
        blocks=(*there.blocks, Block(((number, first, samples - len(there)),))),
    )


def software() -> dict[str, str]:
    """Return the versions that samples made here and now depend on."""
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        package: version(package) for package in _SOFTWARE
    }


def parse_shards(text: str) -> slice:
    """Read which shards to make, as Python reads a slice: ``3::100``, ``0:50``, or one number.

    Raises
    ------
    StoreError
        If it is no such thing.
    """
    try:
        asked = text if ":" in text else f"{text}:{int(text) + 1}"
        parts = [int(part) if part.strip() else None for part in asked.split(":")]
        if len(parts) > 3 or any(part is not None and part < 0 for part in parts) or parts[2:] == [0]:
            raise ValueError
    except ValueError as error:
        raise StoreError(
            f"--shards {text}: give START::STEP, as 3::100 for shards 3, 103, 203 and so on, START:STOP, or one number"
        ) from error
    return slice(*parts)
