"""Way: a generator with its settings, and how it draws and makes the samples of a generation."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synth.generators.facts import Facts
from synth.generators.generator import Draw, Generator
from synth.tumour.blend import lay
from synth.tumour.number import Number, numbers_of
from synth.tumour.philox import Stream
from synth.tumour.sample import Layer, Tumour

if TYPE_CHECKING:
    from synth.tumour.source import Source


_PAIR = 0  # the stream that normal and donor are drawn from


@dataclass(frozen=True)
class Way:
    """A way of making tumours.

    Attributes
    ----------
    generator : Generator
    settings : Strict
        Of the generator's class of settings.
    """

    generator: Generator
    settings: Any

    @property
    def name(self) -> str:
        """The generator's."""
        return self.generator.name

    @functools.cached_property
    def facts(self) -> Facts:
        """What readers must know of the settings."""
        return self.generator.facts(self.settings)

    @property
    def tumours(self) -> tuple[str, ...]:
        """Names of the sources whose real tumours are lent; none but with ``donor.tumours`` of `layers`."""
        return tuple(getattr(getattr(self.settings, "donor", None), "tumours", ()))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a recipe's numbers."""
        return self.generator.recipe.columns()

    @functools.cached_property
    def numbers(self) -> dict[str, Number]:
        """What these are."""
        return numbers_of(self.generator.recipe)

    def draw(
        self,
        load: "Callable[[int], Source]",
        source_count: int,
        seed: int,
        index: int,
        tumours: Sequence[int] = (),
    ) -> Any:
        """Draw the recipe of sample `index`: a pure function of (sources, settings, seed, index).

        Parameters
        ----------
        load : callable
            Returns a source by its position.
        source_count : int
        seed : int
            Of the corpus, 0 to 2**64 - 1.
        index : int
        tumours : sequence of int
            Positions of the sources that lend a tumour, and receive none.

        Raises
        ------
        StoreError
            If no tumour fits the normal.
        """
        lending = frozenset(tumours)
        normals = [position for position in range(source_count) if position not in lending]
        lenders = {position: functools.partial(load, position) for position in tumours}
        pair = Stream(seed, index, _PAIR)
        number = pair.below(len(normals))
        normal = donor = normals[number]
        if len(normals) > 1:  # uniform over the others
            donor = normals[(number + 1 + pair.below(len(normals) - 1)) % len(normals)]
        return self.generator.draw(Draw(seed, index, normal, donor, lenders), load(normal), load(donor), self.settings)

    def make(self, recipe: Any, normal: "Source", donor: "Source") -> Layer:
        """Make the layer that a recipe describes, before the normal's ROI cuts it."""
        return self.generator.make(recipe, normal, donor, self.settings)

    def tumour(self, recipe: Any, normal: "Source", donor: "Source") -> Tumour:
        """Make what tells a sample from its normal (Eq. 5)."""
        return lay(self.make(recipe, normal, donor), normal.normal, recipe.alpha, self.facts.target)

    def fits(self, recipe: Any, normal: "Source", donor: "Source") -> bool:
        """Say whether a stranger's recipe, once checked, can be made of these sources."""
        fits = getattr(self.generator, "fits", None)
        if fits is not None:
            return bool(fits(recipe, normal, donor, self.settings))
        return bool(recipe.volume_mm3 <= math.prod(normal.spacing_mm) * normal.roi.size)

    def recipe(self, row: np.ndarray) -> Any:
        """Make a recipe of its row; ValueError if it holds what is no number."""
        return self.generator.recipe.from_row(row)

    def check(self, recipe: Any, sources: Sequence[int], size: int) -> list[str]:
        """Say which numbers of a recipe cannot come from the settings, or from the positions it was drawn among."""
        within = {
            **{name: number.allows(getattr(recipe, name), self.settings) for name, number in self.numbers.items()},
            "alpha": 0 <= recipe.alpha <= 1 and self.numbers["alpha"].allows(recipe.alpha, self.settings),
            "centre": all(0 <= c < size for c in recipe.centre),
            "normal": recipe.normal in sources,
            "donor": recipe.donor in sources and (recipe.donor != recipe.normal or len(sources) == 1),
            **dict.fromkeys(self.generator.check(recipe, self.settings, size), False),
        }
        return [f"recipe: {name} is out of range" for name, right in within.items() if not right]
