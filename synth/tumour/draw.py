"""Draw: a recipe from a seed and an index.

All choices are drawn whatever the settings leave out, each use from a stream of its own. Two corpora that
differ in one setting (an ablation) therefore share every other choice, sample by sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scans.catalog.synthesis import Synthesis
from scans.errors import StoreError
from synth.tumour import placement
from synth.tumour.philox import Stream
from synth.tumour.placement import Placement
from synth.tumour.recipe import Recipe

if TYPE_CHECKING:
    from synth.tumour.source import Source


_PAIR, _SHAPE, _PLACE, _TEXTURE, _BLEND, _ELASTIC = range(6)  # streams; never renumber, samples would change
_REAL = 7  # that between them is `synth.corpus.recombine`'s
_SHRINK = 0.7  # of the volume, each time no centre fits
_MOST_DONORS = 1000  # tumours are not shrunk: as often another is drawn


def draw_recipe(
    load: "Callable[[int], Source]",
    source_count: int,
    settings: Synthesis,
    seed: int,
    index: int,
    tumours: Sequence[int] = (),
) -> tuple[Recipe, Placement]:
    """Draw sample `index`: a pure function of (sources, settings, seed, index).

    Parameters
    ----------
    load : callable
        Returns a source by its position.
    source_count : int
    settings : Synthesis
    seed : int
        Of the corpus, 0 to 2**64 - 1.
    index : int
    tumours : sequence of int
        Positions of the sources that lend a tumour, and receive none. If there are any, one of them is the donor, and
        volumes are those of their tumours.

    Returns
    -------
    Recipe
    Placement
        What it puts into the normal, see `synth.tumour.placement.of`; making the sample asks for it again.

    Raises
    ------
    StoreError
        If no tumour fits the normal.
    """
    lending = frozenset(tumours)
    normals = [position for position in range(source_count) if position not in lending]
    pair = Stream(seed, index, _PAIR)
    number = pair.below(len(normals))
    normal_index = normals[number]
    donor_index = normal_index
    if len(normals) > 1:  # uniform over the others
        donor_index = normals[(number + 1 + pair.below(len(normals) - 1)) % len(normals)]

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
    places = Stream(seed, index, _PLACE)
    real = Stream(seed, index, _REAL)
    recipe = Recipe(
        index, normal_index, donor_index, 0, 0, 0, drawn_volume, drawn_volume, axis_ratio, *rotation, octaves,
        noise_seed >> 32, noise_seed & 0xFFFFFFFF, 0, 0.0, ratio, sigma_mm,
        elastic_seed >> 32, elastic_seed & 0xFFFFFFFF, shift[0], shift[1], shift[2], alpha,
    )  # fmt: skip
    tries = 0
    while True:
        if tumours:
            recipe = replace(recipe, donor=tumours[real.below(len(tumours))])
        placed = placement.of(recipe, normal, load(recipe.donor), settings)
        if placed is not None:
            for _ in range(settings.mask.centre_tries):
                tries += 1
                centre = normal.centres[places.below(len(normal.centres))]
                _, _, kept = placed.clipped_at(centre)
                if kept >= settings.mask.least_kept:
                    z, y, x = centre
                    if tumours:
                        recipe = replace(recipe, drawn_volume_mm3=placed.volume_mm3, volume_mm3=placed.volume_mm3)
                    return replace(recipe, centre_z=z, centre_y=y, centre_x=x, tries=tries, kept=kept), placed
        if tumours and tries >= _MOST_DONORS * settings.mask.centre_tries:
            raise StoreError(f"none of {len(tumours)} tumours fits into source {normal.name}; lower mask.least_kept")
        # Ends at the latest with a form of one voxel, which fits any centre.
        recipe = replace(recipe, volume_mm3=recipe.volume_mm3 * _SHRINK)
