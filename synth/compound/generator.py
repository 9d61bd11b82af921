"""Compound: tumours of several parts and foci, soft edges and a drawn visible contrast, beside what is no tumour.

Ours, after what is known to win on real scans: contrasts that are seen, parts, edges, and scans without a tumour.
"""

from collections.abc import Sequence

import numpy as np

from scans.catalog.settings import Strict
from scans.image.box import Box, from_within, tight_box, within
from synth.compound.distractors import distractors
from synth.compound.draw import draw_recipe, foci_of
from synth.compound.focus import Patch, make_focus
from synth.compound.recipe import CompoundRecipe
from synth.compound.settings import Compound
from synth.generators.facts import Facts
from synth.generators.generator import Draw, Generator
from synth.tumour.blend import narrow
from synth.tumour.recipe import Numbers
from synth.tumour.sample import Layer
from synth.tumour.source import Source

_LEAST_VOLUME = 1e-3  # mm3; a form shrinks until a centre fits, at the latest to one voxel


class CompoundGenerator:
    """Tumours of several parts and foci, of a drawn visible contrast, with soft edges; and spots that are none."""

    name = "compound"
    version = 1
    settings: type[Strict] = Compound
    recipe: type[Numbers] = CompoundRecipe

    def facts(self, settings: Compound) -> Facts:
        """Return what readers must know of settings."""
        return Facts(soft=True, empty=settings.empty > 0, least_kept=settings.least_kept)

    def draw(self, draw: Draw, normal: Source, donor: Source, settings: Compound) -> CompoundRecipe:
        """Draw a recipe."""
        return draw_recipe(draw, normal, settings)

    def make(self, recipe: CompoundRecipe, normal: Source, donor: Source, settings: Compound) -> Layer:
        """Make the layer of a recipe: its tumours, and around them what is none."""
        patches = [make_focus(focus, recipe, normal, donor, settings) for focus in foci_of(recipe, normal, settings)]
        patches += distractors(recipe, normal, settings)
        return _layer(patches) if patches else _nothing(recipe, normal)

    def check(self, recipe: CompoundRecipe, settings: Compound, size: int) -> Sequence[str]:
        """Name what is wrong with a recipe."""
        right = {
            "volume_mm3": _LEAST_VOLUME <= recipe.volume_mm3 <= recipe.drawn_volume_mm3,
            "rotation": abs(sum(part * part for part in recipe.rotation) - 1) < 1e-6,
            "centre": all(0 <= c < size for c in recipe.centre),
        }
        return [name for name, fits in right.items() if not fits]

    def fits(self, recipe: CompoundRecipe, normal: Source, donor: Source, settings: Compound) -> bool:
        """Say whether `make` can be asked for a stranger's recipe: always, no form is looked at beyond the cube."""
        return True


def _layer(patches: list[Patch]) -> Layer:
    """Join patches; where two meet, the first one stays."""
    if len(patches) == 1:
        box, edge, tissue = patches[0].box, patches[0].edge, patches[0].tissue
    else:
        z, y, x = (
            slice(min(patch.box[axis].start for patch in patches), max(patch.box[axis].stop for patch in patches))
            for axis in range(3)
        )
        box = (z, y, x)
        sides = [part.stop - part.start for part in box]
        edge, tissue = np.zeros(sides, np.uint8), np.zeros(sides, np.float32)
        at = within(patches[0].box, box)
        edge[at], tissue[at] = patches[0].edge, patches[0].tissue
        for patch in patches[1:]:
            at = within(patch.box, box)
            free = (edge[at] == 0) & (patch.edge != 0)
            edge[at][free], tissue[at][free] = patch.edge[free], patch.tissue[free]
    tight = tight_box(edge)
    edge, tissue = edge[tight], tissue[tight]
    form = edge != 0
    return Layer(from_within(tight, box), form, narrow(tissue[form]), edge[form])


def _nothing(recipe: CompoundRecipe, normal: Source) -> Layer:
    """Return a layer that leaves the normal as it is: a layer has at least one voxel, here without weight."""
    z, y, x = (slice(c, c + 1) for c in recipe.centre)
    box: Box = (z, y, x)
    return Layer(box, np.ones((1, 1, 1), bool), normal.normal.voxels[box].reshape(1), np.zeros(1, np.uint8))


COMPOUND: Generator = CompoundGenerator()
