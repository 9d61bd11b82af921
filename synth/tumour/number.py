"""Number: what one number of a recipe is, told once to all who check it, describe it or draw a chart of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scans.catalog.synthesis import Synthesis


@dataclass(frozen=True)
class Number:
    """What one number of a recipe is; all but its column and type may be left out.

    Attributes
    ----------
    column : str
        Its name in the recipe.
    whole : bool
        Whether it is a whole number.
    words : str
        What it is, for catalogues; empty if only the program needs it.
    name, unit : str
        Of its chart; no name, no chart.
    per_unit : float
        What one `unit` is in the column's own.
    short : str
        Beside a picture, with the place of the value, e.g. ``"r {:.2f}"``.
    section : str
        Of the statistics page, see `synth.report.quantities.SECTIONS`.
    within : callable
        From the settings to the intervals, ends included, that hold it; none if it is not theirs to say.
    drawn : bool
        Every value of these intervals is as likely, or every logarithm if `log` says so of the settings.
    used : callable
        Whether settings make use of it: all choices are drawn, whatever the settings leave out.
    """

    column: str = ""
    whole: bool = False
    words: str = ""
    name: str = ""
    unit: str = ""
    per_unit: float = 1.0
    short: str = ""
    section: str = ""
    within: "Callable[[Synthesis], Sequence[tuple[float, float]]]" = lambda settings: ()
    drawn: bool = False
    log: "Callable[[Synthesis], bool]" = lambda settings: False
    used: "Callable[[Synthesis], bool]" = lambda settings: True

    def allows(self, value: float, settings: "Synthesis") -> bool:
        """Say whether settings allow a value."""
        intervals = self.within(settings)
        return not intervals or any(low <= value <= high for low, high in intervals)


def described(
    within: "Callable[[Any], Sequence[tuple[float, float]]]" = Number.within, **said: Any
) -> dict[str, Number]:
    """Return the metadata of a recipe's field that is a `Number`: what holds it, and what else is said of it."""
    return {"number": Number(within=within, **said)}


# What means the same in every recipe.
INDEX = described(words="number of the sample")
VOLUME = described(words="volume of the form as used, in mm3; less than drawn if no centre left room for it")
TRIES = described(words="centres tried until one left enough of the form", name="centres tried")
HIGH = described(lambda settings: ((0, 2**31 - 1),))  # of a seed of 63 bits
WORD = described(lambda settings: ((0, 2**32 - 1),))  # of half a seed


def numbers_of(recipe: type[Any]) -> dict[str, Number]:
    """Return what the fields of a recipe's dataclass are, by column: their metadata, where they have any."""
    return {
        f.name: replace(f.metadata.get("number", Number()), column=f.name, whole=f.type is int) for f in fields(recipe)
    }


def ordered(numbers: Mapping[str, Number], first: Sequence[str]) -> list[Number]:
    """Return numbers, those of the columns named `first` before all others."""
    return [numbers[column] for column in (*first, *(column for column in numbers if column not in first))]
