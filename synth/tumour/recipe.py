"""Recipe: every random choice behind one sample, as plain numbers. Needs NumPy alone; `draw` makes them."""

from dataclasses import astuple, dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """What makes sample `index` of a corpus.

    Attributes
    ----------
    index : int
    normal, donor : int
        Positions in the corpus's list of sources.
    centre_z, centre_y, centre_x : int
        Centre voxel of the tumour.
    drawn_volume_mm3, volume_mm3 : float
        Volume drawn, and used: smaller if no centre left enough of the drawn one.
    axis_ratio : float
        q of the semi-axes (r, r/q, r*q).
    rotation_w, rotation_x, rotation_y, rotation_z : float
        Unit quaternion.
    octaves : int
    noise_high, noise_low : int
        Upper 31 and lower 32 bits of the noise's seed.
    tries : int
        Centres tried.
    kept : float
        Share of the form's voxels that the ROI left.
    ratio : float
        r of Eq. 4.
    sigma_mm : float
        Of the Gaussian blur.
    elastic_high, elastic_low : int
        Upper and lower 32 bits of the seed of the elastic deformation.
    shift_z, shift_y, shift_x : int
        Donor offset in voxels.
    alpha : float
    """

    index: int
    normal: int
    donor: int
    centre_z: int
    centre_y: int
    centre_x: int
    drawn_volume_mm3: float
    volume_mm3: float
    axis_ratio: float
    rotation_w: float
    rotation_x: float
    rotation_y: float
    rotation_z: float
    octaves: int
    noise_high: int
    noise_low: int
    tries: int
    kept: float
    ratio: float
    sigma_mm: float
    elastic_high: int
    elastic_low: int
    shift_z: int
    shift_y: int
    shift_x: int
    alpha: float

    @property
    def centre(self) -> tuple[int, int, int]:
        """Centre voxel (z, y, x)."""
        return self.centre_z, self.centre_y, self.centre_x

    @property
    def rotation(self) -> tuple[float, float, float, float]:
        """Unit quaternion (w, x, y, z)."""
        return self.rotation_w, self.rotation_x, self.rotation_y, self.rotation_z

    @property
    def shift(self) -> tuple[int, int, int]:
        """Donor offset in voxels (z, y, x)."""
        return self.shift_z, self.shift_y, self.shift_x

    @property
    def noise_seed(self) -> int:
        """Seed of the surface noise, 63 bits."""
        return self.noise_high << 32 | self.noise_low

    @property
    def elastic_seed(self) -> int:
        """Seed of the elastic deformation, 64 bits."""
        return self.elastic_high << 32 | self.elastic_low

    def row(self) -> np.ndarray:
        """Return the numbers in the order of :data:`COLUMNS`, float64."""
        return np.array(astuple(self), np.float64)

    @classmethod
    def from_row(cls, row: np.ndarray) -> "Recipe":
        """Make a recipe from the numbers of one row, in the order of :data:`COLUMNS`; ValueError if one is infinite."""
        if not np.isfinite(row).all():
            raise ValueError("a recipe's numbers are finite")
        return cls(*(f.type(value) for f, value in zip(fields(cls), row, strict=True)))  # type: ignore[operator]


COLUMNS = tuple(f.name for f in fields(Recipe))
