"""Recipe: every random choice behind one sample, as plain numbers. Needs NumPy alone; `draw` makes them."""

import math
from dataclasses import astuple, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from synth.tumour.number import HIGH, INDEX, TRIES, VOLUME, WORD, described, numbers_of

if TYPE_CHECKING:
    from scans.catalog.synthesis import Synthesis


def _has_form(settings: "Synthesis") -> bool:
    """Say whether a form is drawn and filled, or a real tumour lent as it is."""
    return not settings.donor.tumours


_SHIFT: dict[str, Any] = {
    "unit": "voxels",
    "section": "Choice",
    "within": lambda settings: ((-settings.donor.shift, settings.donor.shift),),
    "drawn": True,
    "used": lambda settings: settings.donor.shift > 0,
}


@dataclass(frozen=True)
class Numbers:
    """Plain numbers, as one row of a table; recipes of every generator derive from it."""

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Names of the numbers, in order."""
        return tuple(f.name for f in fields(cls))

    def row(self) -> np.ndarray:
        """Return the numbers in the order of `columns`, float64."""
        return np.array(astuple(self), np.float64)

    @classmethod
    def from_row(cls, row: np.ndarray) -> Self:
        """Make a recipe from the numbers of one row, in the order of `columns`; ValueError if one is infinite."""
        if not np.isfinite(row).all():
            raise ValueError("a recipe's numbers are finite")
        return cls(*(f.type(value) for f, value in zip(fields(cls), row, strict=True)))  # type: ignore[operator]

    @property
    def centre(self) -> tuple[int, int, int]:
        """Centre voxel (z, y, x)."""
        z, y, x = (int(getattr(self, f"centre_{axis}")) for axis in "zyx")
        return z, y, x

    @property
    def rotation(self) -> tuple[float, float, float, float]:
        """Unit quaternion (w, x, y, z), of recipes that turn their form."""
        w, x, y, z = (float(getattr(self, f"rotation_{part}")) for part in "wxyz")
        return w, x, y, z

    def seed(self, of: str) -> int:
        """Return a seed that stands in two columns, `of` with "_high" and "_low" behind it."""
        return int(getattr(self, f"{of}_high") << 32 | getattr(self, f"{of}_low"))


def halves(seed: int) -> tuple[int, int]:
    """Return a seed of up to 64 bits as it stands in two columns: its upper bits, and its lower 32."""
    return seed >> 32, seed & 0xFFFFFFFF


@dataclass(frozen=True)
class Recipe(Numbers):
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

    index: int = field(metadata=INDEX)
    normal: int
    donor: int
    centre_z: int
    centre_y: int
    centre_x: int
    drawn_volume_mm3: float = field(metadata=described(
        words="volume of the form as drawn, in mm3", name="volume drawn", unit="ml", per_unit=1000, section="Volume",
        within=lambda settings: () if settings.donor.tumours else (settings.shape.volume_mm3,), drawn=True,
        log=lambda settings: settings.shape.volume_law == "log-uniform",
    ))  # fmt: skip
    volume_mm3: float = field(metadata=VOLUME)
    axis_ratio: float = field(metadata=described(
        words="q of the form's semi-axes r, r/q, r*q", name="axis ratio q", short="q {:.2f}", section="Shape",
        within=lambda settings: (settings.shape.axis_ratio,), drawn=True, used=_has_form,
    ))  # fmt: skip
    rotation_w: float
    rotation_x: float
    rotation_y: float
    rotation_z: float
    octaves: int = field(metadata=described(
        words="octaves of the form's surface noise", name="octaves of surface noise", short="octaves {:.0f}",
        section="Shape", within=lambda settings: (settings.shape.octaves,), drawn=True, used=_has_form,
    ))  # fmt: skip
    noise_high: int = field(metadata=HIGH)
    noise_low: int = field(metadata=WORD)
    tries: int = field(metadata=TRIES)
    kept: float = field(metadata=described(
        words="share of the form's voxels that the region of interest left", name="share kept by the ROI",
        within=lambda settings: ((settings.mask.least_kept, math.inf),),
    ))  # fmt: skip
    ratio: float = field(metadata=described(
        words="r: the donor's mean over the normal's, after scaling", name="intensity ratio r", short="r {:.2f}",
        section="Contrast", within=lambda settings: settings.linear.ratio, drawn=True,
        used=lambda settings: settings.linear.enabled and _has_form(settings),
    ))  # fmt: skip
    sigma_mm: float = field(metadata=described(
        words="standard deviation of the Gaussian blur of the texture, in mm", name="blur σ", unit="mm",
        short="blur {:.1f} mm", section="Contrast", within=lambda settings: (settings.blur.sigma_mm,), drawn=True,
        used=lambda settings: settings.blur.enabled and _has_form(settings),
    ))  # fmt: skip
    elastic_high: int = field(metadata=WORD)
    elastic_low: int = field(metadata=WORD)
    shift_z: int = field(metadata=described(name="donor shift, z", **_SHIFT))
    shift_y: int = field(metadata=described(name="donor shift, y", **_SHIFT))
    shift_x: int = field(metadata=described(name="donor shift, x", **_SHIFT))
    alpha: float = field(metadata=described(
        words="blending strength, 0 to 1", name="alpha", short="alpha {:.2f}", section="Contrast",
        within=lambda settings: (settings.alpha,), drawn=True,
    ))  # fmt: skip

    @property
    def shift(self) -> tuple[int, int, int]:
        """Donor offset in voxels (z, y, x)."""
        return self.shift_z, self.shift_y, self.shift_x

    @property
    def noise_seed(self) -> int:
        """Seed of the surface noise, 63 bits."""
        return self.seed("noise")

    @property
    def elastic_seed(self) -> int:
        """Seed of the elastic deformation, 64 bits."""
        return self.seed("elastic")


NUMBERS = numbers_of(Recipe)
COLUMNS = tuple(NUMBERS)
