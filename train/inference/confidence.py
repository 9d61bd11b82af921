"""Confidence: how far a mask can be trusted that nobody checked, from numbers that need no annotation.

No single number parts good masks from bad ones: a network is sure of a bright lesion that is no tumour, and of half a
tumour. Each number fails elsewhere, so all of them must hold. What they cannot see is a part of a tumour that both
readings miss.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from scans.catalog.settings import Interval, Strict
from scans.image.components import Parts, keep_parts
from scans.image.preparation import Prepared
from train.inference.model import Decomposed
from train.inference.reading import Reading, Readings
from train.network.dice import dice


@dataclass(frozen=True)
class Confidence:
    """What tells how sure a network is of a mask; measured in its cube.

    Attributes
    ----------
    probability : float
        Mean probability of the mask channel inside the mask; 0 for an empty mask.
    agreement : float
        Dice of the mask read by the mask channel alone with that read by the residual alone, cleaned up alike.
    largest : float
        Share of the largest connected part, before parts are left out.
    of_organ : float
        Volume over that of the region of interest.
    """

    probability: float
    agreement: float
    largest: float
    of_organ: float

    @classmethod
    def of(cls, found: Decomposed, prepared: Prepared, reading: Reading, readings: Readings) -> "Confidence":
        """Measure what was found in a scan.

        Parameters
        ----------
        found : Decomposed
            By a network of one class.
        prepared : Prepared
            The scan's first modality, in the network's cube.
        reading : Reading
            That the mask is made by.
        readings : Readings
            Of the checkpoint: the best by the mask channel, and the best by the residual.
        """
        whole = reading.reached(found.share(reading, prepared)[0])
        sizes = Parts.of(whole).sizes
        mask = _kept(whole, reading, prepared)
        ways = (readings.mask.reading(), readings.residual.reading())
        # With one clean-up: a part that one way leaves out on purpose is no disagreement.
        two = [_kept(way.reached(found.share(way, prepared)[0]), reading, prepared) for way in ways]
        count = np.count_nonzero(mask)
        return cls(
            probability=float(found.probabilities[0][mask].mean(dtype=np.float64)) if count else 0.0,
            agreement=dice(two[0], two[1]) if count else 0.0,
            largest=float(sizes.max(initial=0) / max(1, sizes.sum())),
            of_organ=float(count / np.count_nonzero(prepared.roi)),
        )

    def rounded(self) -> "Confidence":
        """Return them as the table of pseudo-labels keeps them, so that a rule says the same of both."""
        return Confidence(*(float(f"{number:.6g}") for number in vars(self).values()))


def _kept(mask: np.ndarray, reading: Reading, prepared: Prepared) -> np.ndarray:
    """Return a mask without the parts that its reading leaves out."""
    kept = mask.copy()
    voxel_mm3 = float(np.prod(prepared.frame.spacing_mm))
    keep_parts(kept, **reading.kept_parts(), least_ml=reading.least_ml, voxel_mm3=voxel_mm3)
    return kept


class Rule(Strict):
    """What counts as confident: every bound must hold.

    Round numbers, not tuned ones; "seen" is of this project's development scans.
    """

    # A quarter of the mask may be a toss-up (0.5) if the rest is sure (0.8). Seen: 0.72 to 0.87 in tumours.
    probability: float = Field(0.7, ge=0, le=1)
    # The two readings fail elsewhere: the mask channel takes what is like its training tumours, the residual what
    # the predicted normal lacks. Seen: 0.82 to 0.92 in tumours, below 0.8 in 14 of 16 scans without one.
    agreement: float = Field(0.8, ge=0, le=1)
    # A tumour is one body with satellites; lesions of other diseases are many. Seen: 0.40 to 0.79 in 15 of 16 scans
    # without a tumour. Costs tumours of several bodies, which a donor of one body can do without.
    largest: float = Field(0.8, ge=0, le=1)
    # Of a brain of 1.3 l 6.5 ml, below which a mask is a hundred voxels of a cube of 48 and any bright spot gives one,
    # to 325 ml, more than the generators make.
    of_organ: Interval = (0.005, 0.25)

    def doubts(self, numbers: Confidence) -> list[str]:
        """Say what stands against a mask, a phrase each; nothing if it is confident."""
        low, high = self.of_organ
        if not numbers.of_organ:
            return ["nothing was found"]
        found = []
        if numbers.probability < self.probability:
            found.append(f"mean probability {numbers.probability:.2f}, below {self.probability:g}")
        if numbers.agreement < self.agreement:
            found.append(f"mask and residual agree by {numbers.agreement:.2f}, below {self.agreement:g}")
        if numbers.largest < self.largest:
            found.append(f"the largest part has {numbers.largest:.2f} of it, below {self.largest:g}")
        if not low <= numbers.of_organ <= high:
            found.append(f"its volume is {numbers.of_organ:.3f} of the organ's, outside {low:g} to {high:g}")
        return found

    def said(self) -> str:
        """Return the rule as the table of pseudo-labels records it."""
        low, high = self.of_organ
        least = (f"{name}>={getattr(self, name):g}" for name in ("probability", "agreement", "largest"))
        return " ".join([*least, f"of_organ={low:g}..{high:g}"])
