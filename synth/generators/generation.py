"""Generation: how samples of a corpus were drawn, as its manifest records it. Needs NumPy alone: `train` reads it."""

from dataclasses import dataclass, field
from typing import Any

from synth.generators.facts import Facts
from synth.tumour.recipe import COLUMNS


@dataclass(frozen=True)
class Generation:
    """How samples were drawn.

    Attributes
    ----------
    seed : int
        0 to 2**64 - 1.
    settings : dict
        JSON of the generator's settings; of `layers`, ``scans.catalog.synthesis.Synthesis``.
    sources : tuple of int
        Positions in the corpus's sources, in the order that the draws count them.
    software : dict of str to str
        Versions that made them; decides nothing.
    generator : str
    version : int
        Of the generator's samples.
    columns : tuple of str
        Names of a recipe's numbers.
    facts : Facts
        What a reader must know of the settings.
    named : bool
        Whether the manifest names the generator: those from before there were several do not, and stay as they are.
    """

    seed: int
    settings: dict[str, Any]
    sources: tuple[int, ...]
    software: dict[str, str] = field(compare=False)
    generator: str
    version: int
    columns: tuple[str, ...]
    facts: Facts
    named: bool = field(default=True, compare=False)

    @classmethod
    def of_layers(
        cls, seed: int, settings: dict[str, Any], sources: tuple[int, ...], software: dict[str, str], named: bool = True
    ) -> "Generation":
        """Return one of `layers`, whose facts follow from its settings."""
        return cls(seed, settings, sources, software, "layers", 1, COLUMNS, Facts.of_layers(settings), named)

    @property
    def drawn(self) -> list[Any]:
        """What decides its samples but the sources, as JSON; `layers` is not named, as before there were others."""
        if (self.generator, self.version) == ("layers", 1):
            return [self.seed, self.settings]
        return [self.seed, self.settings, self.generator, self.version, list(self.columns), self.facts.to_json()]

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in the manifest."""
        generator = {
            "name": self.generator,
            "version": self.version,
            "columns": list(self.columns),
            "facts": self.facts.to_json(),
        }
        return {
            "seed": self.seed,
            "settings": self.settings,
            "sources": list(self.sources),
            "software": self.software,
            **({"generator": generator} if self.named else {}),
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Generation":
        """Make it of what `to_json` returned, or of an entry from before there were generators."""
        plain = (entry["seed"], entry["settings"], tuple(entry["sources"]), entry["software"])
        if "generator" not in entry:
            return cls.of_layers(*plain, named=False)
        said = entry["generator"]
        facts = Facts.from_json(said["facts"])
        return cls(*plain, said["name"], said["version"], tuple(said["columns"]), facts)
