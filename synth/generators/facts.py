"""Facts: what a reader of a corpus must know of a generation's settings. Needs nothing: a reader knows no generator."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

# What tools ask of every recipe, whatever else it has: the columns of these names mean the same in all of them.
COMMON = ("index", "normal", "donor", "centre_z", "centre_y", "centre_x", "volume_mm3", "kept", "alpha")


@dataclass(frozen=True)
class Facts:
    """What readers must know of a generation's settings; recorded beside them.

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
    ratio : tuple of (float, float)
        Intervals that recombination draws r of Eq. 4 from, whether it is used or not.
    tissue : {"scaled", "raw", "network"}
        What another normal leaves of the tissue: Eq. 4 with the drawn r, its raw intensities, or its contrast in the
        network's units.
    """

    soft: bool = False
    empty: bool = False
    target: str = "texture"
    least_kept: float = 0.5
    alpha: tuple[float, float] | None = None
    ratio: tuple[tuple[float, float], ...] = ()
    tissue: Literal["scaled", "raw", "network"] = "network"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = asdict(self)
        values["alpha"] = None if self.alpha is None else list(self.alpha)
        values["ratio"] = [list(interval) for interval in self.ratio]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Facts":
        """Make it of what `to_json` returned."""
        alpha = values["alpha"]
        ratio = tuple((float(low), float(high)) for low, high in values["ratio"])
        return cls(**{**values, "alpha": None if alpha is None else (float(alpha[0]), float(alpha[1])), "ratio": ratio})

    @classmethod
    def of_layers(cls, settings: dict[str, Any]) -> "Facts":
        """Make it of the settings of `layers`: corpora from before there were others recorded nothing else."""
        low, high = settings["alpha"]
        return cls(
            soft=bool(settings["mask"]["soft_mm"]),
            target=str(settings["texture_target"]),
            least_kept=float(settings["mask"]["least_kept"]),
            alpha=(float(low), float(high)),
            ratio=tuple((float(low), float(high)) for low, high in settings["linear"]["ratio"]),
            tissue="scaled" if settings["linear"]["enabled"] else "raw",
        )
