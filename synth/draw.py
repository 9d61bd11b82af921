"""Draw: a recipe from a seed and an index.

All choices are drawn whatever the settings leave out, each use from a stream of its own. Two corpora that
differ in one setting (an ablation) therefore share every other choice, sample by sample.
"""

from typing import TYPE_CHECKING

from scans.region import Synthesis
from synth.philox import Stream
from synth.place import Stamp, cut
from synth.recipe import Recipe
from synth.shape import half_box, make_form

if TYPE_CHECKING:
    from collections.abc import Callable

    from synth.sources import Source

_PAIR, _SHAPE, _PLACE, _TEXTURE, _BLEND, _ELASTIC = range(6)  # streams; never renumber, samples would change
MOST_REACH = 2  # sides of the cube from the centre: no centre keeps enough of a larger form, and it takes memory
_SHRINK = 0.7  # of the volume, each time no centre fits


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
    places = Stream(seed, index, _PLACE)
    volume, tries = drawn_volume, 0
    while True:
        form = make_form(volume, axis_ratio, rotation, octaves, shape.amplitude, noise_seed)
        if max(half_box(form, normal.spacing_mm)) > MOST_REACH * normal.roi.shape[0]:
            volume *= _SHRINK
            continue
        stamp = Stamp(cut(form, normal.spacing_mm), normal.roi, normal.spacing_mm, settings.elastic, elastic_seed)
        for _ in range(settings.mask.centre_tries):
            tries += 1
            centre = normal.centres[places.below(len(normal.centres))]
            _, _, kept = stamp.place(centre)
            if kept >= settings.mask.least_kept:
                return Recipe(
                    index, normal_index, donor_index, *centre, drawn_volume, volume, axis_ratio, *rotation, octaves,
                    noise_seed >> 32, noise_seed & 0xFFFFFFFF, tries, kept, ratio, sigma_mm,
                    elastic_seed >> 32, elastic_seed & 0xFFFFFFFF, shift[0], shift[1], shift[2], alpha,
                )  # fmt: skip
        volume *= _SHRINK  # ends at the latest with a form of one voxel, which fits any centre
