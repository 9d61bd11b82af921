"""Ways of making tumours by the paper's generator, from its settings."""

from synth.generators.layers import LAYERS
from synth.generators.mixture import Mixture
from synth.generators.way import Way


def way(settings):
    return Way(LAYERS, settings)


def mixture(settings):
    return None if settings is None else Mixture.of(way(settings))
