"""Recipe: every random choice behind one sample, as plain numbers.

All choices are drawn whatever the settings leave out, each use from a stream of its own. Two corpora that
differ in one setting (an ablation) therefore share every other choice, sample by sample.
"""

from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from scans.region import Synthesis
from synth.philox import Stream
from synth.place import Stamp, cut
from synth.shape import make_form

if TYPE_CHECKING:
    from collections.abc import Callable

    from synth.sources import Source

_PAIR, _SHAPE, _PLACE, _TEXTURE, _BLEND, _ELASTIC = range(6)  # streams; never renumber, samples would change
_SHRINK = 0.7  # of the volume, each time no centre fits


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
        """Make a recipe from the numbers of one row, in the order of :data:`COLUMNS`."""
        return cls(*(f.type(value) for f, value in zip(fields(cls), row, strict=True)))  # type: ignore[operator]


COLUMNS = tuple(f.name for f in fields(Recipe))


def draw_recipe(
    load: "Callable[[int], Source]", source_count: int, settings: Synthesis, seed: int, index: int
) -> Recipe:
    """Draw sample `index`: a pure function of (sources, settings, seed, index).

    Parameters
    ----------
    load : callable
        Returns a source by its position; called for the normal alone.
    source_count : int
    settings : Synthesis
    seed : int
        Of the corpus, 0 to 2**64 - 1.
    index : int

    Returns
    -------
    Recipe
    """
    pair = Stream(seed, index, _PAIR)
    normal_index = pair.below(source_count)
    donor_index = normal_index
    if source_count > 1:  # uniform over the others
        donor_index = (normal_index + 1 + pair.below(source_count - 1)) % source_count

    shape = settings.shape
    draw = Stream(seed, index, _SHAPE)
    law = draw.log_uniform if shape.volume_law == "log-uniform" else draw.uniform
    drawn_volume = law(*shape.volume_mm3)
    axis_ratio = draw.uniform(*shape.axis_ratio)
    rotation = draw.rotation()
    octaves = shape.octaves[0] + draw.below(shape.octaves[1] - shape.octaves[0] + 1)
    noise_seed = draw.word(63)

    texture = Stream(seed, index, _TEXTURE)
    ratio = texture.uniform_over(settings.linear.ratio)
    sigma_mm = texture.uniform(*settings.blur.sigma_mm)
    elastic_seed = texture.word(64)
    reach = settings.donor.shift
    shift = [texture.below(2 * reach + 1) - reach for _ in range(3)]
    alpha = Stream(seed, index, _BLEND).uniform(*settings.alpha)

    normal = load(normal_index)
    centres = Stream(seed, index, _PLACE)
    volume, tries = drawn_volume, 0
    while True:
        form = make_form(volume, axis_ratio, rotation, octaves, shape.amplitude, noise_seed)
        stamp = Stamp(cut(form, normal.spacing_mm), normal.roi, normal.spacing_mm, settings.elastic, elastic_seed)
        for _ in range(settings.mask.centre_tries):
            tries += 1
            centre = normal.roi_voxel(centres.below(normal.roi_count))
            _, _, kept = stamp.place(centre)
            if kept >= settings.mask.least_kept:
                return Recipe(
                    index, normal_index, donor_index, *centre, drawn_volume, volume, axis_ratio, *rotation, octaves,
                    noise_seed >> 32, noise_seed & 0xFFFFFFFF, tries, kept, ratio, sigma_mm,
                    elastic_seed >> 32, elastic_seed & 0xFFFFFFFF, shift[0], shift[1], shift[2], alpha,
                )  # fmt: skip
        volume *= _SHRINK  # ends at the latest with a form of one voxel, which fits any centre
