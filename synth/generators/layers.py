"""Layers: the generator of the paper (Zhang et al. 2021, Sec. III-A): a noise-perturbed sphere of a donor's tissue.

All choices are drawn whatever the settings leave out, each use from a stream of its own. Two corpora that differ in one
setting (an ablation) therefore share every other choice, sample by sample.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scans.catalog.synthesis import Synthesis
from scans.errors import StoreError
from synth.generators.facts import Facts
from synth.generators.generator import Draw
from synth.tumour import placement
from synth.tumour.compose import make_layer
from synth.tumour.recipe import Recipe, halves
from synth.tumour.sample import Layer

if TYPE_CHECKING:
    from synth.tumour.source import Source


_SHAPE, _PLACE, _TEXTURE, _BLEND = range(1, 5)  # streams; never renumber, samples would change
_REAL = 7
_SHRINK = 0.7  # of the volume, each time no centre fits
_MOST_DONORS = 1000  # tumours are not shrunk: as often another is drawn
_LEAST_VOLUME = 1e-3  # mm3; a form shrinks until a centre fits, at the latest to one voxel


class Layers:
    """Forms of a donor's tissue, one texture each, blended into the normal (Zhang et al. 2021)."""

    name, version = "layers", 1
    settings, recipe = Synthesis, Recipe

    def facts(self, settings: Synthesis) -> Facts:
        """Return what readers must know of settings."""
        return Facts.of_layers(settings.model_dump(mode="json"))

    def draw(self, draw: Draw, normal: "Source", donor: "Source", settings: Synthesis) -> Recipe:
        """Draw a recipe; where sources lend real tumours, one of those is the donor, and its tumour's volume is used.

        Raises
        ------
        StoreError
            If no tumour fits the normal.
        """
        shape = settings.shape
        form = draw.stream(_SHAPE)
        law = form.log_uniform if shape.volume_law == "log-uniform" else form.uniform
        drawn_volume = law(*shape.volume_mm3)
        axis_ratio = form.uniform(*shape.axis_ratio)
        rotation = form.rotation()
        octaves = shape.octaves[0] + form.below(shape.octaves[1] - shape.octaves[0] + 1)
        noise_seed = form.word(63)

        texture = draw.stream(_TEXTURE)
        ratio = texture.uniform_over(settings.linear.ratio)
        sigma_mm = texture.uniform(*settings.blur.sigma_mm)
        elastic_seed = texture.word(64)
        reach = settings.donor.shift
        shift = [texture.below(2 * reach + 1) - reach for _ in range(3)]
        alpha = draw.stream(_BLEND).uniform(*settings.alpha)

        places, real = draw.stream(_PLACE), draw.stream(_REAL)
        lenders = list(draw.lenders)
        recipe = Recipe(
            draw.index, draw.normal, draw.donor, 0, 0, 0, drawn_volume, drawn_volume, axis_ratio, *rotation, octaves,
            *halves(noise_seed), 0, 0.0, ratio, sigma_mm, *halves(elastic_seed), shift[0], shift[1], shift[2], alpha,
        )  # fmt: skip
        tries = 0
        while True:
            if lenders:
                recipe = replace(recipe, donor=lenders[real.below(len(lenders))])
                donor = draw.lenders[recipe.donor]()
            placed = placement.of(recipe, normal, donor, settings)
            if placed is not None:
                mask = settings.mask
                tried, found = placed.find(places, normal.centres, mask.centre_tries, mask.least_kept)
                tries += tried
                if found:
                    (z, y, x), kept = found
                    if lenders:
                        volume = placed.volume_mm3
                        recipe = replace(recipe, drawn_volume_mm3=volume, volume_mm3=volume)
                    return replace(recipe, centre_z=z, centre_y=y, centre_x=x, tries=tries, kept=kept)
            if lenders and tries >= _MOST_DONORS * settings.mask.centre_tries:
                raise StoreError(
                    f"none of {len(lenders)} tumours fits into source {normal.name}; lower mask.least_kept"
                )
            # Ends at the latest with a form of one voxel, which fits any centre.
            recipe = replace(recipe, volume_mm3=recipe.volume_mm3 * _SHRINK)

    def make(self, recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis) -> Layer:
        """Make a tumour's form and tissue, before the normal's ROI cuts them; see `synth.tumour.compose.make_layer`."""
        return make_layer(recipe, normal, donor, settings)

    def check(self, recipe: Recipe, settings: Synthesis, size: int) -> Sequence[str]:
        """Name what is wrong with a recipe, beyond the intervals of its numbers."""
        # A real tumour is not made smaller.
        least = recipe.drawn_volume_mm3 if settings.donor.tumours else _LEAST_VOLUME
        within = {
            "volume_mm3": least <= recipe.volume_mm3 <= recipe.drawn_volume_mm3,
            "rotation": abs(sum(part * part for part in recipe.rotation) - 1) < 1e-6,
        }
        return [name for name, right in within.items() if not right]

    def fits(self, recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis) -> bool:
        """Say whether anything of the tumour lies in the normal's ROI."""
        placed = placement.of(recipe, normal, donor, settings)
        return placed is not None and placed.kept_at(recipe.centre) > 0


LAYERS = Layers()
