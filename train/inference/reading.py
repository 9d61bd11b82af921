"""Reading out: how what a network found in a scan becomes a mask.

The plain way is the mask channel at probability 0.5. A network of layers knows more: what it takes for tumour differs
from the normal that it predicts, so the residual ``|scan - normal|`` is a second opinion, which fails elsewhere. Either
way, or the mean of both, is a share in [0, 1] in each voxel; a level cuts it, and small parts may be left out.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from scans.catalog.settings import Strict
from scans.errors import CheckpointError
from scans.image.smoothing import smooth
from train.settings import recorded

Way = Literal["plain", "mask", "residual", "both"]
Level = Annotated[float, Field(gt=0, lt=1)] | Literal["scan"]
Clean = Literal["none", "large", "largest"]
LARGE = 0.25  # of the largest part's volume: what is far smaller is more often a mistake than a second tumour
_FAINT = 0.1  # least share of what `own_level` parts; below it is what nobody would take for tumour
_OWN = (0.25, 0.75)  # bounds of a scan's own level: something is always above the lower half of what there is
_BINS = 180


class Reading(Strict):
    """One way of reading a network's output; by default the plain one.

    Attributes
    ----------
    by : str
        ``mask``: the mask channel's probability. ``residual``: r / (r + `residual_scale`), where r is the distance
        of the scan from its predicted normal, the mean over modalities, smoothed within the ROI. ``both``: their mean.
    level : float or str
        Least share that counts as tumour; ``scan``: each scan's own, see `own_level`.
    smooth_mm : float
        Sigma of the residual's smoothing.
    residual_scale : float
        Residual whose share is 0.5, in the network's units.
    clean : str
        ``largest``: the largest connected part alone. ``large``: parts of at least a quarter of its volume.
    least_ml : float
        Least volume of a connected part.
    """

    by: Literal["mask", "residual", "both"] = "mask"
    level: Level = 0.5
    smooth_mm: float = Field(0.0, ge=0, allow_inf_nan=False)
    residual_scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    clean: Clean = "none"
    least_ml: float = Field(0.0, ge=0, allow_inf_nan=False)

    def share(
        self,
        scan: np.ndarray,
        normal: np.ndarray,
        probability: np.ndarray,
        roi: np.ndarray,
        spacing_mm: tuple[float, float, float],
    ) -> np.ndarray:
        """Return the share of tumour in each voxel, float32 in [0, 1], of the shape of `probability`.

        Parameters
        ----------
        scan, normal : ndarray of float32, shape (C, z, y, x)
            In the network's units.
        probability : ndarray of float32, shape (K, z, y, x)
            Of the mask channel; K is 1 unless it is read by itself.
        roi : ndarray of bool, shape (z, y, x)
        spacing_mm : tuple of float
            (z, y, x).
        """
        if self.by == "mask":
            return probability
        return self.share_of(distance(scan, normal), probability[0], roi, spacing_mm)[None]

    def share_of(
        self, residual: np.ndarray, probability: np.ndarray, roi: np.ndarray, spacing_mm: tuple[float, float, float]
    ) -> np.ndarray:
        """Return what `share` does, from a `distance`; all of shape (z, y, x)."""
        if self.by == "mask":
            return probability
        return self.mixed(smooth(residual, roi, self.smooth_mm, spacing_mm), probability)

    def mixed(self, smoothed: np.ndarray, probability: np.ndarray) -> np.ndarray:
        """Return the share by a residual that is smoothed already; same shapes."""
        far = smoothed / (smoothed + np.float32(self.residual_scale))
        return far if self.by == "residual" else (far + probability) / 2

    def reached(self, share: np.ndarray) -> np.ndarray:
        """Return where a share, shape (z, y, x), reaches the level: bool, before any clean-up."""
        level = own_level(share) if self.level == "scan" else self.level
        reached: np.ndarray = share >= np.float32(level)
        return reached

    @property
    def least(self) -> float:
        """Least share that decides anything about a mask."""
        return _FAINT if self.level == "scan" else self.level

    def kept_parts(self) -> dict[str, Any]:
        """Return which connected parts stay, as `scans.image.components.keep_parts` is told."""
        return {"largest": self.clean == "largest", "of_largest": LARGE if self.clean == "large" else 0.0}

    def said(self) -> str:
        """Return what differs from the plain reading, as the summary of a segmented folder records it."""
        changed = self.model_dump(exclude_defaults=True)
        return " ".join(f"{'read' if name == 'by' else name}={_short(value)}" for name, value in changed.items())

    def words(self) -> str:
        """Say in words how a mask comes about."""
        far = "the distance of the scan from the predicted normal"
        if self.smooth_mm:
            far += f", smoothed by {self.smooth_mm:g} mm"
        far += f" (share 0.5 at {self.residual_scale:.3g} in the network's units)"
        by = {
            "mask": "probability of the mask channel",
            "residual": f"share by {far}",
            "both": f"mean of the mask channel's probability and the share by {far}",
        }[self.by]
        parts = {
            "none": "",
            "large": f", connected parts of at least {LARGE:g} of the largest one's volume",
            "largest": ", the largest connected part alone",
        }[self.clean]
        parts += f", connected parts of at least {self.least_ml:g} ml" if self.least_ml else ""
        level = "a level of each scan's own" if self.level == "scan" else f"{self.level:g}"
        return f"{by}, where it is at least {level}{parts}"


PLAIN = Reading()


class Scored(Reading):
    """A reading with its mean Dice on the samples that it was chosen on, corpora counting alike."""

    dice: float = Field(ge=0, le=1)

    def reading(self) -> Reading:
        """Return it without its Dice."""
        return Reading(**self.model_dump(exclude={"dice"}))


class Readings(Strict):
    """What a checkpoint records: the best reading of each way, which of them is used, and on what they were chosen.

    Attributes
    ----------
    chosen : str
        Name of a way.
    samples : tuple of int
        How many of each corpus they were chosen on: held-out ones of the training's, then of the validation corpus.
    """

    chosen: Way = "plain"
    plain: Scored
    mask: Scored
    residual: Scored
    both: Scored
    samples: tuple[int, ...]

    def way(self, name: Way) -> Scored:
        """Return the reading of a way."""
        scored: Scored = getattr(self, name)
        return scored

    def words(self) -> str:
        """Say which reading was chosen, and how well it does."""
        best, count = self.way(self.chosen), sum(self.samples)
        if self.chosen == "plain":
            return f"{best.words()} (Dice {best.dice:.3f} on {count} artificial tumours; no other reading gains enough)"
        return (
            f"{best.words()} (Dice {best.dice:.3f} on {count} artificial tumours, {self.plain.dice:.3f} read plainly)"
        )


class Asked(Strict):
    """What a user wants of the reading in place of what the checkpoint records."""

    read: Way | None = None
    level: Level | None = None
    clean: Clean | None = None
    least_ml: float | None = Field(None, ge=0, allow_inf_nan=False)


def distance(scan: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return how far a scan is from its normal, both (C, z, y, x): the mean over modalities, float32 (z, y, x)."""
    far: np.ndarray = np.abs(scan - normal).mean(axis=0, dtype=np.float32)
    return far


def own_level(share: np.ndarray) -> float:
    """Return the level that parts the shares of one scan best into two: Otsu's, without what is faint.

    Parameters
    ----------
    share : ndarray of float32
        In [0, 1], of any shape.

    Returns
    -------
    float
        From 0.25 to 0.75; 0.5 where no share is worth parting.
    """
    counts, edges = np.histogram(share, _BINS, (_FAINT, 1.0))
    middles = (edges[1:] + edges[:-1]) / 2
    below, total = counts.cumsum()[:-1], counts.sum()
    above = total - below
    both = (below > 0) & (above > 0)
    if not both.any():
        return 0.5
    sums = (counts * middles).cumsum()
    between = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    at = int(np.argmax(np.where(both, below * above * between**2, -1.0)))
    return float(np.clip(edges[at + 1], *_OWN))


def recorded_readings(values: dict[str, Any] | None, where: str) -> Readings | None:
    """Return what a checkpoint records of its readings; None if it records none.

    Raises
    ------
    CheckpointError
        If that does not fit this release.
    """
    return None if values is None else recorded(Readings, values, where)


def wanted_reading(readings: Readings | None, asked: Asked, where: str) -> Reading:
    """Return the reading to use: the recorded one, the plain one where there is none, or what is asked for.

    Raises
    ------
    CheckpointError
        If a way is asked for that the checkpoint records no reading of.
    """
    way = asked.read or ("plain" if readings is None else readings.chosen)
    if way != "plain" and readings is None:
        raise CheckpointError(
            f"{where}: records no reading by {way}; a network of layers gets one when its training ends "
            "(train pretrain --resume with its own options adds it); leave out --read, or give --read plain"
        )
    reading = Reading() if readings is None or way == "plain" else readings.way(way).reading()
    changed = asked.model_dump(include={"level", "clean", "least_ml"}, exclude_none=True)
    return Reading(**{**reading.model_dump(), **changed})


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
