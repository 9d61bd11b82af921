"""The noise: to the bit that of the package, wherever a point lies in its cell."""

import numpy as np
import pytest
from opensimplex.internals import _init, _noise3

from synth.tumour.noise import add_octaves, noise_tables


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 3, 2**63 - 1])
def test_noise_has_the_bits_of_the_package(seed):
    drawn = np.random.default_rng(seed)
    points = drawn.normal(size=(9_000, 3)) * np.repeat([1.0, 8.0, 300.0], 3_000)[:, None]
    tied = np.round(points * 4) / 4  # on faces, edges and corners of cells
    everywhere, of_the_package = np.concatenate([points, tied]), _init(seed)
    x, y, z = np.ascontiguousarray(everywhere.T)
    noise = np.zeros(len(x))
    add_octaves(x, y, z, 1, *noise_tables(seed), noise)
    expected = [_noise3(*point, *of_the_package) for point in everywhere.tolist()]
    np.testing.assert_array_equal(noise, expected)


def test_tables_of_many_seeds_are_those_of_the_package():
    for number in np.random.default_rng(3).integers(0, 2**63 - 1, 200).tolist():
        np.testing.assert_array_equal(noise_tables(number)[0], np.tile(_init(number)[0], 2))
