"""Smooth: the normal's own tissue, blurred and made brighter or darker, opaque, in the form of a random field.

It differs from the paper's generator in each law: of the surface, of the tissue, of the edge and of the blend. What a
network does on its tumours does not follow from having seen those of another generator; so checkpoints are chosen on
them (as in PL-BTS, 2023). They are not meant to be trained on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from scans.catalog.settings import Interval, Strict
from scans.image.box import Box, from_within, tight_box
from synth.generators.facts import Facts
from synth.generators.generator import Draw
from synth.generators.random_field import LEAST_GRAIN, field_form
from synth.tumour.blur import Blur, rows_of
from synth.tumour.number import HIGH, INDEX, TRIES, VOLUME, WORD, described
from synth.tumour.placement import Placement
from synth.tumour.recipe import Numbers, halves
from synth.tumour.sample import Layer

if TYPE_CHECKING:
    from synth.tumour.source import Source


_FORM, _PLACE, _TISSUE = 32, 33, 34  # streams; never renumber, samples would change
_SHRINK = 0.7  # of the volume, each time no centre fits
_MOST_MM3 = 1e8


class Smooth(Strict):
    """Every setting of the generator, with its source; factors and volumes are those of gliomas in FLAIR."""

    volume_mm3: Interval = (10_000.0, 200_000.0)  # method: brain; here the logarithm is uniform, another law
    roughness: Interval = (0.15, 0.45)  # ours: from a smooth ball to a lump with knobs and bays
    grain: Interval = (0.3, 0.6)  # ours: finer noise than 0.3 frays the surface, coarser than 0.6 only shifts it
    sigma_mm: Interval = (1.0, 3.0)  # SynthTumour, MedIA 2025: own tissue, blurred
    # SynthTumour draws from 1.5 to 5; at 5 times its brain, any threshold finds a glioma in FLAIR, and choosing by such
    # tumours chooses nothing. Nine real ones have 1.1 to 1.9 times the mean; with these ends the visible contrast has
    # their median. Several intervals are drawn by their length.
    factor: tuple[Interval, ...] = ((1.1, 1.8),)
    least_kept: float = Field(0.5, gt=0, le=1)  # method, settled 7: share of the form left by the ROI
    centre_tries: int = Field(20, ge=1, le=10_000)  # method, settled 7: then a smaller volume

    @model_validator(mode="after")
    def _within_reason(self) -> "Smooth":
        if not 0 < self.volume_mm3[0] <= self.volume_mm3[1] <= _MOST_MM3:
            raise ValueError("volume_mm3 must be above 0 mm3, and 100 litres at the most")
        if not 0 <= self.roughness[0] <= self.roughness[1] <= 1:
            raise ValueError("roughness must lie in [0, 1]")
        if not LEAST_GRAIN <= self.grain[0] <= self.grain[1] <= 1:
            raise ValueError(f"grain must lie in [{LEAST_GRAIN}, 1]; the field's grid resolves no finer one")
        if not 0 <= self.sigma_mm[0] <= self.sigma_mm[1] <= 100:
            raise ValueError("sigma_mm must lie in [0, 100]")
        if not self.factor or not all(0 <= low <= high <= 100 for low, high in self.factor):
            raise ValueError("factor must be one interval or more, each within [0, 100]")
        return self


@dataclass(frozen=True)
class SmoothRecipe(Numbers):
    """What makes sample `index` of a corpus.

    Attributes
    ----------
    index : int
    normal, donor : int
        Positions in the corpus's list of sources; the donor lends nothing.
    centre_z, centre_y, centre_x : int
        Centre voxel of the tumour.
    drawn_volume_mm3, volume_mm3 : float
        Volume drawn, and used: smaller if no centre left enough of the drawn one.
    roughness, grain : float
        Of the form, see `synth.generators.random_field.field_form`.
    noise_high, noise_low : int
        Upper 31 and lower 32 bits of the noise's seed.
    tries : int
        Centres tried.
    kept : float
        Share of the form's voxels that the ROI left.
    factor : float
        Of raw intensities.
    sigma_mm : float
        Of the Gaussian blur.
    alpha : float
        1: opaque.
    """

    index: int = field(metadata=INDEX)
    normal: int
    donor: int
    centre_z: int
    centre_y: int
    centre_x: int
    drawn_volume_mm3: float = field(metadata=described(
        words="volume of the form as drawn, in mm3", name="volume drawn", unit="ml", per_unit=1000, section="Volume",
        within=lambda settings: (settings.volume_mm3,), drawn=True, log=lambda settings: True,
    ))  # fmt: skip
    volume_mm3: float = field(metadata=VOLUME)
    roughness: float = field(metadata=described(
        words="standard deviation of the noise that displaces the form's surface, in its radii", name="roughness",
        short="roughness {:.2f}", section="Shape", within=lambda settings: (settings.roughness,), drawn=True,
    ))  # fmt: skip
    grain: float = field(metadata=described(
        words="standard deviation of the Gaussian that smooths that noise, in the form's radii", name="grain",
        short="grain {:.2f}", section="Shape", within=lambda settings: (settings.grain,), drawn=True,
    ))  # fmt: skip
    noise_high: int = field(metadata=HIGH)
    noise_low: int = field(metadata=WORD)
    tries: int = field(metadata=TRIES)
    kept: float = field(metadata=described(
        words="share of the form's voxels that the region of interest left", name="share kept by the ROI",
        within=lambda settings: ((settings.least_kept, 1.0),),
    ))  # fmt: skip
    factor: float = field(metadata=described(
        words="the tumour's raw intensity over that of the normal's blurred tissue", name="factor",
        short="factor {:.2f}", section="Contrast", within=lambda settings: settings.factor, drawn=True,
    ))  # fmt: skip
    sigma_mm: float = field(metadata=described(
        words="standard deviation of the Gaussian blur of the tissue, in mm", name="blur σ", unit="mm",
        short="blur {:.1f} mm", section="Contrast", within=lambda settings: (settings.sigma_mm,), drawn=True,
    ))  # fmt: skip
    alpha: float = field(metadata=described(
        words="blending strength, always 1", name="alpha", section="Contrast", within=lambda settings: ((1.0, 1.0),),
        drawn=True,
    ))  # fmt: skip


class SmoothGenerator:
    """The normal's own tissue, blurred and made brighter or darker, opaque, in the form of a random field."""

    name = "smooth"
    version = 1
    settings = Smooth
    recipe = SmoothRecipe

    def facts(self, settings: Smooth) -> Facts:
        """Return what readers must know: edges are hard, and each tumour keeps its alpha and its contrast."""
        return Facts(least_kept=settings.least_kept)

    def draw(self, draw: Draw, normal: "Source", donor: "Source", settings: Smooth) -> SmoothRecipe:
        """Draw a recipe."""
        form, places, tissue = draw.stream(_FORM), draw.stream(_PLACE), draw.stream(_TISSUE)
        drawn_volume = form.log_uniform(*settings.volume_mm3)
        noise_seed = form.word(63)
        recipe = SmoothRecipe(
            draw.index, draw.normal, draw.donor, 0, 0, 0, drawn_volume, drawn_volume,
            form.uniform(*settings.roughness), form.uniform(*settings.grain),
            *halves(noise_seed), 0, 0.0,
            tissue.uniform_over(settings.factor), tissue.uniform(*settings.sigma_mm), 1.0,
        )  # fmt: skip
        tries = 0
        while True:
            if _has_room(recipe, normal):
                placed = _placement(recipe, normal)
                tried, found = placed.find(places, normal.centres, settings.centre_tries, settings.least_kept)
                tries += tried
                if found:
                    (z, y, x), kept = found
                    return replace(recipe, centre_z=z, centre_y=y, centre_x=x, tries=tries, kept=kept)
            # Ends at the latest with a form of one voxel, which fits any centre.
            recipe = replace(recipe, volume_mm3=recipe.volume_mm3 * _SHRINK)

    def make(self, recipe: SmoothRecipe, normal: "Source", donor: "Source", settings: Smooth) -> Layer:
        """Make the layer; no source but the normal is read."""
        box, voxels = _placement(recipe, normal).voxels_at(recipe.centre)
        if voxels.shape != voxels[tight := tight_box(voxels)].shape:  # the cube's face cut it
            box, voxels = from_within(tight, box), voxels[tight]
        form = voxels.astype(bool)
        return Layer(box, form, normal.to_network(_tissue(recipe, normal, box, form)))

    def check(self, recipe: SmoothRecipe, settings: Smooth, size: int) -> Sequence[str]:
        """Name the numbers of a recipe that are wrong beyond their intervals."""
        return [] if 0 < recipe.volume_mm3 <= recipe.drawn_volume_mm3 else ["volume_mm3"]

    def fits(self, recipe: SmoothRecipe, normal: "Source", donor: "Source", settings: Smooth) -> bool:
        """Say whether anything of the form lies in the normal's ROI; one larger than that is not even made."""
        return _has_room(recipe, normal) and _placement(recipe, normal).kept_at(recipe.centre) > 0


def _has_room(recipe: SmoothRecipe, normal: "Source") -> bool:
    """Say whether a form is no larger than the ROI: no other can be kept, and making it takes memory."""
    return _voxels(recipe, normal) <= len(normal.centres)


def _voxels(recipe: SmoothRecipe, normal: "Source") -> int:
    """Return the voxels of a recipe's form."""
    return max(1, round(recipe.volume_mm3 / math.prod(normal.spacing_mm)))


def _placement(recipe: SmoothRecipe, normal: "Source") -> Placement:
    """Return what puts the form at any centre."""
    whole = field_form(_voxels(recipe, normal), recipe.roughness, recipe.grain, recipe.seed("noise"), normal.spacing_mm)
    return Placement(whole, normal.roi, normal.spacing_mm)


def _tissue(recipe: SmoothRecipe, normal: "Source", box: Box, form: np.ndarray) -> np.ndarray:
    """Return the normal's own tissue at a form's voxels, blurred, times the factor: raw, float32, shape (n,).

    What the source lends is blurred, not what it shows: there, lesions and the dark past the organ's edge are filled
    with tissue, which else would bleed into the tumour.
    """
    z, y, x = (recipe.sigma_mm / side for side in normal.spacing_mm)
    blur = Blur((z, y, x), box, normal.lent.shape[0], rows_of(form))
    return blur(normal.lent[blur.wide])[form] * np.float32(recipe.factor)


SMOOTH = SmoothGenerator()
