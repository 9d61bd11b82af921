"""Compound: tumours of several parts and foci, soft edges and a drawn visible contrast, beside what is no tumour.

Ours, after what is known to win on real scans: contrasts that are seen, parts, edges, and scans without a tumour.
"""

from collections.abc import Sequence

import numpy as np

from scans.catalog.settings import Strict
from scans.image.box import Box, from_within, sides_of, tight_box, within
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
    parts = [tight_box(patch.edge) for patch in patches]
    boxes = [from_within(part, patch.box) for part, patch in zip(parts, patches, strict=True)]
    forms = [patch.edge[part] != 0 for part, patch in zip(parts, patches, strict=True)]
    if len(patches) == 1:
        return Layer(boxes[0], forms[0], narrow(patches[0].tissue), patches[0].edges)
    z, y, x = (
        slice(min(part[axis].start for part in boxes), max(part[axis].stop for part in boxes)) for axis in range(3)
    )
    form = np.zeros(sides_of((z, y, x)), bool)
    edge, tissue = np.empty(form.shape, np.uint8), np.empty(form.shape, np.float16)
    for patch, part, own in reversed(list(zip(patches, boxes, forms, strict=True))):
        at = within(part, (z, y, x))
        form[at] |= own
        edge[at][own], tissue[at][own] = patch.edges, narrow(patch.tissue)
    places = np.flatnonzero(form)
    return Layer((z, y, x), form, tissue.reshape(-1)[places], edge.reshape(-1)[places])


def _nothing(recipe: CompoundRecipe, normal: Source) -> Layer:
    """Return a layer that leaves the normal as it is: a layer has at least one voxel, here without weight."""
    z, y, x = (slice(c, c + 1) for c in recipe.centre)
    box: Box = (z, y, x)
    return Layer(box, np.ones((1, 1, 1), bool), normal.normal.voxels[box].reshape(1), np.zeros(1, np.uint8))


COMPOUND: Generator = CompoundGenerator()
