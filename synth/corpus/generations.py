"""The generations of a corpus: seed and way of each time that it grew."""

from typing import TYPE_CHECKING

from pydantic import ValidationError

from scans.catalog.settings import one_line
from scans.errors import CatalogError, StoreError
from synth.corpus.manifest import Generation
from synth.generators.registry import named
from synth.generators.way import Way

if TYPE_CHECKING:
    from synth.corpus.reader import Corpus


def generations_of(corpus: "Corpus") -> list[tuple[int, Way]]:
    """Return seed and way of every generation of a corpus."""
    return [(g.seed, recorded_way(g, corpus.where)) for g in corpus.manifest.generations]


def recorded_way(generation: Generation, where: str) -> Way:
    """Return the way that a generation of a corpus recorded.

    Raises
    ------
    StoreError
        If its generator is not here, of another version, or does not know its settings.
    """
    try:
        generator = named(generation.generator)
    except CatalogError as error:
        raise StoreError(f"{where}: {error}") from error
    if generator.version != generation.version or generator.recipe.columns() != generation.columns:
        raise StoreError(
            f"{where}: was made by version {generation.version} of generator {generator.name}, here is "
            f"{generator.version}; use the release that made it"
        )
    try:
        settings = generator.settings.model_validate(generation.settings)
    except ValidationError as error:
        raise StoreError(
            f"{where}: its settings do not fit this release of layered-tumors ({one_line(error)})"
        ) from error
    way = Way(generator, settings)
    if way.facts != generation.facts:
        raise StoreError(f"{where}: what it says of its settings is not what they say; it was changed, make it again")
    return way
