"""What a corpus will hold: its manifest, or that of one that grows."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from scans.catalog.region import Region
from scans.catalog.synthesis import override
from scans.errors import CatalogError, StoreError
from synth.corpus.manifest import Block, Manifest
from synth.corpus.manifest_checks import LAYOUTS, MOST_DRAWS, MOST_IN_SHARD
from synth.generators.generation import Generation
from synth.generators.mixture import Mixture, parse_mixture
from synth.generators.registry import recorded_way, way_of
from synth.generators.way import Way
from synth.sources.reader import SourceStore

_SOFTWARE = ("layered-tumors", "numpy", "numba", "opensimplex", "numcodecs", "SimpleITK", "scipy")


def make_manifest(
    sources: SourceStore,
    samples: int,
    seed: int,
    mixture: Mixture | None = None,
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
    mixture : Mixture, optional
        What makes the tumours; the generator of the sources' region if not given.
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
    mixture = mixture or Mixture.of(way_of(sources.region))
    names = list(dict.fromkeys(name for way in mixture.ways for name in sources.drawn_from(way.tumours)))
    places = {name: place for place, name in enumerate(names)}
    manifest = Manifest(
        layout=layout,
        size=sources.size,
        shard_size=shard_size,
        region=sources.region.model_dump(mode="json"),
        statistics=sources.statistics,
        sources=tuple(sources.provenance(name) for name in names),
        generations=tuple(
            _generation(seed, way, [places[name] for name in sources.drawn_from(way.tumours)]) for way in mixture.ways
        ),
        blocks=(Block(_drawn(mixture.runs(seed, 0, samples))),),
    )
    return arranged(manifest, layout, shard_size)


def _generation(seed: int, way: Way, positions: list[int]) -> Generation:
    settings = way.settings.model_dump(mode="json")
    return Generation(
        seed, settings, tuple(positions), software(), way.name, way.generator.version, way.columns, way.facts
    )


def _drawn(runs: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Return the draws of a block, if they are not more than a manifest may hold."""
    if len(runs) > MOST_DRAWS:
        raise StoreError(f"a mixture of so many samples is more than {MOST_DRAWS} runs; make several corpora")
    return tuple(runs)


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
    there: Manifest, sources: SourceStore, samples: int, seed: int | None = None, mixture: Mixture | None = None
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
    mixture : Mixture, optional
        Likewise, see `last_mixture`.

    Raises
    ------
    StoreError
        If the corpus holds more, or the sources or the generators do not go with it.
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
    mixture = mixture or last_mixture(there)
    seed = there.generations[there.blocks[-1].draws[-1][0]].seed if seed is None else seed
    for way in mixture.ways:
        if not set(way.columns) <= set(there.columns):
            raise StoreError(
                f"--append: the corpus has no columns for recipes of generator {way.name}, and what is written stays "
                "as it is; make a corpus of its own, and one of both with synth merge"
            )
    positions = {source["content_sha256"]: number for number, source in enumerate(there.sources)}
    taken = {source["name"] for source in there.sources}
    joined: list[dict[str, Any]] = []
    for name in dict.fromkeys(name for way in mixture.ways for name in sources.drawn_from(way.tumours)):
        entry = sources.provenance(name)
        if entry["content_sha256"] in positions:
            continue
        if name in taken:
            raise StoreError(f"{sources.path}: source {name} is not the corpus's source of that name; rename one")
        positions[entry["content_sha256"]] = len(there.sources) + len(joined)
        joined.append(entry)
    generations, numbers = there.generations, []
    for way in mixture.ways:
        drawn_from = [positions[sources.provenance(n)["content_sha256"]] for n in sources.drawn_from(way.tumours)]
        generation = _generation(seed, way, drawn_from)
        if generation not in generations:
            generations = (*generations, generation)
        numbers.append(generations.index(generation))
    # Behind all samples of its seed: an index drawn twice gives one form twice, whatever the settings.
    first = max((f + n for b in there.blocks for g, f, n in b.draws if generations[g].seed == seed), default=0)
    runs = [(numbers[way], at, count) for way, at, count in mixture.runs(seed, first, samples - len(there))]
    return replace(
        there,
        sources=(*there.sources, *joined),
        generations=generations,
        blocks=(*there.blocks, Block(_drawn(runs))),
    )


def last_mixture(there: Manifest) -> Mixture:
    """Return the mixture that made the last block of a corpus, by the shares that it has there."""
    made: dict[int, int] = {}
    for generation, _, count in there.blocks[-1].draws:
        made[generation] = made.get(generation, 0) + count
    ways = tuple(recorded_way(there.generations[number], "the corpus") for number in sorted(made))
    return Mixture(ways, tuple(float(made[number]) for number in sorted(made)))


def regrown(there: Manifest, region: Region, generators: Sequence[str], assignments: Sequence[str]) -> Mixture:
    """Return what makes the new samples of a corpus that grows: the last mixture, if no generator is named.

    Raises
    ------
    CatalogError
        As of `synth.generators.mixture.parse_mixture`.
    """
    if generators:
        return parse_mixture(region, generators, assignments)
    last = last_mixture(there)
    if not assignments:
        return last
    if len(last.ways) > 1:
        raise CatalogError(
            "--set: the corpus is a mixture; name its generators again, each with --generator NAME:SHARE"
        )
    (way,) = last.ways
    return Mixture.of(Way(way.generator, override(way.settings, list(assignments))))


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
