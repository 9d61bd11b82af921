"""Generator: what a way of making tumours must offer, and what it is given.

A generator draws a recipe, plain numbers, and makes of it a layer to lay over a normal (Eq. 5). Corpora, packs and
pages keep its columns and layers without knowing what they mean, so that another package may bring one
(`synth.generators.registry`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from scans.catalog.settings import Strict
from synth.generators.facts import Facts
from synth.tumour.philox import Stream
from synth.tumour.recipe import Numbers
from synth.tumour.sample import Layer

if TYPE_CHECKING:
    from synth.tumour.source import Source


@dataclass(frozen=True)
class Draw:
    """What the choices behind one sample come from.

    Attributes
    ----------
    seed, index : int
        Of the corpus, and of the sample in its generation.
    normal, donor : int
        Positions of the sources that were drawn, for the recipe.
    lenders : mapping of int to callable
        By position, what loads a source whose real tumour may be lent; only where the settings ask for them.
    """

    seed: int
    index: int
    normal: int
    donor: int
    lenders: "Mapping[int, Callable[[], Source]]" = field(default_factory=dict)

    def stream(self, number: int) -> Stream:
        """Return the random numbers of one use, from their beginning.

        0, 6 and 7 are taken. A use keeps its number for ever: other numbers would be other samples.
        """
        return Stream(self.seed, self.index, number)


class Generator(Protocol):
    """A way of making tumours.

    One that also has a method ``fits(recipe, normal, donor, settings) -> bool`` is asked by it whether a stranger's
    recipe, whose numbers are checked, can be made of these sources; of others the volume must fit the cube.

    Attributes
    ----------
    name : str
        In lower case, as in ``--generator name``.
    version : int
        Of its samples: it is raised when the same recipe would make another layer.
    settings : type
        Of its settings, with every default; `scans.catalog.settings.Strict`.
    recipe : type
        A frozen dataclass derived from `synth.tumour.recipe.Numbers`, with at least the columns of
        `synth.generators.facts.COMMON`. What a number is, its field's metadata say (`synth.tumour.number.Number`).
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def version(self) -> int: ...  # noqa: D102

    @property
    def settings(self) -> type[Strict]: ...  # noqa: D102

    @property
    def recipe(self) -> type[Numbers]: ...  # noqa: D102

    def facts(self, settings: Any) -> Facts:
        """Return what readers must know of settings."""

    def draw(self, draw: Draw, normal: "Source", donor: "Source", settings: Any) -> Any:
        """Draw a recipe: a pure function of its arguments.

        All choices are drawn, whatever the settings leave out, each use from a stream of its own: two corpora that
        differ in one setting share every other choice.

        Raises
        ------
        StoreError
            If no tumour fits the normal.
        """

    def make(self, recipe: Any, normal: "Source", donor: "Source", settings: Any) -> Layer:
        """Make what the recipe describes, before the ROI cuts it: a pure function, with the same bits everywhere.

        Add, multiply, compare, take a square root: powers, sines and logarithms differ in their last bit between
        machines, sums of arrays in their order.
        """

    def check(self, recipe: Any, settings: Any, size: int) -> Sequence[str]:
        """Name what the intervals of its numbers do not tell is wrong with a recipe; nothing if all is right."""
