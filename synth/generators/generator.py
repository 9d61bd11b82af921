"""Generator: what a way of making tumours must offer, and what it is given.

A generator draws a recipe, plain numbers, and makes of it a layer to lay over a normal (Eq. 5). Corpora, packs and pages
keep its columns and layers without knowing what they mean, so that another package may bring one
(`synth.generators.registry`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from scans.catalog.settings import Strict
from synth.tumour.philox import Stream
from synth.tumour.recipe import Numbers
from synth.tumour.sample import Layer

if TYPE_CHECKING:
    from synth.tumour.source import Source


# What tools ask of every recipe, whatever else it has: the columns of these names mean the same in all of them.
COMMON = ("index", "normal", "donor", "centre_z", "centre_y", "centre_x", "volume_mm3", "kept", "alpha")


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


@dataclass(frozen=True)
class Facts:
    """What readers must know of a generation's settings; recorded beside them, since a reader knows no generator.

    Attributes
    ----------
    soft : bool
        Whether a layer may have an edge: weights between 0 and 1, or tissue outside the mask.
    empty : bool
        Whether a mask may be empty: scans without a tumour.
    target : {"texture", "composite"}
        What the texture in a sample is: the layer's own, or the composite inside the mask.
    least_kept : float
        Share of a form that the ROI must leave; recombination keeps to it.
    alpha : tuple of float, or None
        Interval that recombination draws alpha from; None: each tumour keeps its own.
    ratio : sequence of (float, float)
        Intervals that recombination draws r of Eq. 4 from; empty: tissue keeps its contrast, in the network's units.
    """

    soft: bool = False
    empty: bool = False
    target: str = "texture"
    least_kept: float = 0.5
    alpha: tuple[float, float] | None = None
    ratio: tuple[tuple[float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


class Generator(Protocol):
    """A way of making tumours.

    Attributes
    ----------
    name : str
        In lower case, as in ``--generator name``.
    version : int
        Of its samples: it is raised when the same recipe would make another layer.
    settings : type
        Of its settings, with every default; `scans.catalog.settings.Strict`.
    recipe : type
        A frozen dataclass derived from `synth.tumour.recipe.Numbers`, with at least the columns of `COMMON`. What a
        number is, its field's metadata say (`synth.tumour.number.Number`).
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
        ...

    def draw(self, draw: Draw, normal: "Source", donor: "Source", settings: Any) -> Any:
        """Draw a recipe: a pure function of its arguments.

        All choices are drawn, whatever the settings leave out, each use from a stream of its own: two corpora that
        differ in one setting share every other choice.

        Raises
        ------
        StoreError
            If no tumour fits the normal.
        """
        ...

    def make(self, recipe: Any, normal: "Source", donor: "Source", settings: Any) -> Layer:
        """Make what the recipe describes, before the normal's ROI cuts it: a pure function, with the same bits everywhere.

        Add, multiply, compare, take a square root: powers, sines and logarithms differ in their last bit between
        machines, sums of arrays in their order.
        """
        ...

    def check(self, recipe: Any, settings: Any, size: int) -> Sequence[str]:
        """Name what the intervals of its numbers do not tell is wrong with a recipe; nothing if all is right."""
        ...
