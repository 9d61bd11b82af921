"""Registry: generators by name, those of other packages among them, and the ways that a command or a file names.

Another package brings one by an entry point of the group ``layered_tumors.generators``: its name is the generator's,
and it leads to an object as `synth.generators.generator.Generator` describes (``docs/extending.md``).
"""

import functools
import re
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from scans.catalog.settings import one_line
from scans.catalog.synthesis import override
from scans.errors import CatalogError, StoreError
from synth.generators.facts import COMMON
from synth.generators.generation import Generation
from synth.generators.generator import Generator
from synth.generators.way import Way

if TYPE_CHECKING:
    from scans.catalog.region import Region


GROUP = "layered_tumors.generators"
_OWN = {  # of this package: module and object; loaded when asked for
    "layers": ("synth.generators.layers", "LAYERS"),
    "compound": ("synth.compound.generator", "COMPOUND"),
    "smooth": ("synth.generators.smooth", "SMOOTH"),
}
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def names() -> list[str]:
    """Return the names of all generators that are here."""
    return sorted({*_OWN, *(point.name for point in entry_points(group=GROUP))})


@functools.cache
def named(name: str) -> Generator:
    """Return a generator.

    Raises
    ------
    CatalogError
        If there is none of that name, or the package that brings it cannot be used.
    """
    if name in _OWN:
        module, attribute = _OWN[name]
        own: Generator = getattr(import_module(module), attribute)
        return own
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        raise CatalogError(
            f"no generator is called {name!r:.80}; there are {', '.join(names())}. Install the package that brings it"
        )
    try:
        generator: Generator = found[0].load()
    except Exception as error:  # another package's own code
        raise CatalogError(f"generator {name}: {found[0].value} cannot be loaded ({error})") from error
    return _checked(name, generator, found[0].value)


def _checked(name: str, generator: Any, where: str) -> Generator:
    """Refuse an object that is no generator."""
    lacking = [
        part
        for part in ("name", "version", "settings", "recipe", "facts", "draw", "make", "check")
        if not hasattr(generator, part)
    ]
    if lacking:
        raise CatalogError(f"generator {name}: {where} is no generator, it lacks {', '.join(lacking)}")
    if generator.name != name or not _NAME.fullmatch(name):
        raise CatalogError(f"generator {name}: {where} calls itself {generator.name!r:.80}; give both one name")
    columns = generator.recipe.columns()
    if columns[0] != "index" or not set(COMMON) <= set(columns):
        raise CatalogError(f"generator {name}: its recipe begins with index, and has {', '.join(COMMON)}")
    checked: Generator = generator
    return checked


def way_of(region: "Region", name: str | None = None, assignments: Sequence[str] = ()) -> Way:
    """Return a way of making tumours in a region.

    Parameters
    ----------
    region : Region
    name : str, optional
        Of the generator; the region's own if not given.
    assignments : sequence of str
        ``key=value``, see `scans.catalog.synthesis.override`.

    Raises
    ------
    CatalogError
        For an unknown generator, or a setting that it does not allow.
    """
    generator = named(name or region.generator)
    if generator.name == "layers":
        settings: Any = region.synthesis
    else:
        try:
            settings = generator.settings.model_validate(region.generators.get(generator.name, {}))
        except ValidationError as error:
            raise CatalogError(f"region {region.name}, generator {generator.name}: {one_line(error)}") from error
    return Way(generator, override(settings, list(assignments)))


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


def recorded_ways(generations: Sequence[Generation], where: str) -> list[tuple[int, Way]]:
    """Return seed and way of each time that a corpus grew, as `recorded_way` does."""
    return [(generation.seed, recorded_way(generation, where)) for generation in generations]
