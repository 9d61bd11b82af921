"""A prepared scan, as normal and as donor."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from scans.image.normalisation import Statistics, scale
from synth.tumour.blend import narrow
from synth.tumour.sample import Normal, Voxels


def lends_tumour(source: dict[str, Any]) -> bool:
    """Say whether a source is an annotated scan, whose real tumour is all that is taken of it."""
    return "tumour_voxels" in source


MOST_NORMALS = 96  # that a process keeps in the network's units: at 128 voxels 4 MB each, and 2 MB encoded


@dataclass(frozen=True, eq=False)
class Source:
    """A prepared normal scan.

    Attributes
    ----------
    name : str
    intensity : ndarray of float32, shape (z, y, x)
        Raw, non-negative, 0 outside the foreground.
    lent : ndarray of float32, same shape
        What the source lends as a donor: its healthy tissue, mirrored at the tissue's edge into lesions and
        past the foreground, so that there is tissue everywhere.
    roi : ndarray of bool, same shape
        Where a tumour may be centred and visible: the foreground without lesions.
    foreground : ndarray of bool, same shape
        The region of interest, lesions included.
    spacing_mm : tuple of float
        Voxel sides (z, y, x) in mm.
    mean : float
        Mean raw intensity over `roi` (Eq. 4).
    statistics : Statistics
        To the network's units.
    provenance : dict
        Where the scan comes from, and under which terms.
    """

    name: str
    intensity: np.ndarray
    lent: np.ndarray
    roi: np.ndarray
    foreground: np.ndarray
    spacing_mm: tuple[float, float, float]
    mean: float
    statistics: Statistics
    provenance: dict[str, Any]

    def to_network(self, raw: np.ndarray) -> np.ndarray:
        """Bring raw intensities to the network's units by this source's statistics.

        Parameters
        ----------
        raw : ndarray of float32

        Returns
        -------
        ndarray of float16, same shape
        """
        return narrow(scale(raw, self.statistics))

    @property
    def lends_tumour(self) -> bool:
        """Whether it has a tumour, which fills what is in `foreground` and not in `roi`."""
        return lends_tumour(self.provenance)

    @property
    def normal(self) -> Normal:
        """The scan as it receives tumours."""
        return _normal(self)

    @functools.cached_property
    def centres(self) -> Voxels:
        """The voxels of `roi`, by number."""
        return Voxels(self.roi)


# Arrays of a source are mapped files, shared by all workers of a machine; these are each worker's own, so few are kept.


@functools.lru_cache(maxsize=MOST_NORMALS)
def _normal(source: Source) -> Normal:
    return Normal(np.where(source.foreground, source.to_network(source.intensity), np.float16(0)), source.roi)
