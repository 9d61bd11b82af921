"""Recipes: within their ranges, independent of order, and alike across ablations."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scans.catalog.synthesis import Synthesis, override
from synth.generators.layers import LAYERS
from synth.generators.way import Way
from synth.tumour.recipe import COLUMNS, NUMBERS, Recipe

SETTINGS = override(Synthesis(), ["shape.volume_mm3=[600,6000]", "donor.shift=2"])


@pytest.fixture(scope="module")
def load(sources):
    loaded = [sources.load(name) for name in sources.names]
    return loaded.__getitem__


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 2**32))
def test_every_number_lies_in_its_range(load, seed, index):
    recipe = Way(LAYERS, SETTINGS).draw(load, 3, seed, index)
    shape = SETTINGS.shape
    assert recipe.normal in range(3)
    assert recipe.donor in range(3)
    assert recipe.donor != recipe.normal
    assert shape.volume_mm3[0] <= recipe.drawn_volume_mm3 <= shape.volume_mm3[1]
    assert recipe.volume_mm3 <= recipe.drawn_volume_mm3
    assert shape.axis_ratio[0] <= recipe.axis_ratio <= shape.axis_ratio[1]
    assert np.linalg.norm(recipe.rotation) == pytest.approx(1)
    assert 4 <= recipe.octaves <= 7
    assert 1 <= recipe.ratio <= 3
    assert 0 <= recipe.sigma_mm <= 2
    assert 0.2 <= recipe.alpha <= 0.8
    assert 0.5 <= recipe.kept <= 1
    assert 0 <= recipe.noise_seed < 2**63
    assert max(map(abs, recipe.shift)) <= 2
    assert load(recipe.normal).roi[recipe.centre]


@pytest.mark.parametrize("column", [column for column, number in NUMBERS.items() if number.within(SETTINGS)])
def test_a_number_beyond_what_the_settings_say_is_named(load, column):
    recipe = Way(LAYERS, SETTINGS).draw(load, 3, 1, 0)
    assert Way(LAYERS, SETTINGS).check(recipe, range(3), 32) == []
    ends = NUMBERS[column].within(SETTINGS)
    for wrong in (min(low for low, _ in ends) - 0.01, max(high for _, high in ends) + 0.01):
        if np.isfinite(wrong):
            found = Way(LAYERS, SETTINGS).check(dataclasses.replace(recipe, **{column: wrong}), range(3), 32)
            assert f"recipe: {column} is out of range" in found


@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 2**40))
@settings(max_examples=10, deadline=None)
def test_a_row_of_numbers_is_the_whole_recipe(load, seed, index):
    recipe = Way(LAYERS, SETTINGS).draw(load, 3, seed, index)
    assert Recipe.from_row(recipe.row()) == recipe
    assert len(recipe.row()) == len(COLUMNS)


def test_the_order_of_drawing_does_not_matter(load):
    forward = [Way(LAYERS, SETTINGS).draw(load, 3, 1, i) for i in range(12)]
    backward = [Way(LAYERS, SETTINGS).draw(load, 3, 1, i) for i in reversed(range(12))]
    assert forward == backward[::-1]
    assert len({dataclasses.replace(r, index=0) for r in forward}) == 12


def test_leaving_a_transformation_out_changes_no_other_choice(load):
    plain = override(SETTINGS, ["linear.enabled=false", "blur.enabled=false", "elastic.enabled=false"])
    for index in range(5):
        assert Way(LAYERS, plain).draw(load, 3, 1, index) == Way(LAYERS, SETTINGS).draw(load, 3, 1, index)


def test_every_pair_of_sources_is_used_alike(load):
    pairs = np.zeros((3, 3))
    quick = override(SETTINGS, ["shape.volume_mm3=[50,60]"])
    for index in range(600):
        recipe = Way(LAYERS, quick).draw(load, 3, 2, index)
        pairs[recipe.normal, recipe.donor] += 1
    assert (np.diag(pairs) == 0).all()
    assert pairs[~np.eye(3, dtype=bool)].min() > 60  # 100 expected each


def test_a_tumour_too_large_for_the_roi_shrinks_until_it_fits(load):
    large = override(SETTINGS, ["shape.volume_mm3=[500000,500000]", "mask.centre_tries=2"])
    recipe = Way(LAYERS, large).draw(load, 3, 1, 0)
    assert recipe.volume_mm3 < recipe.drawn_volume_mm3 == 500000
    assert recipe.kept >= 0.5
    assert recipe.tries > 2


def test_a_single_source_lends_to_itself(load):
    recipe = Way(LAYERS, SETTINGS).draw(load, 1, 1, 0)
    assert recipe.normal == recipe.donor == 0


def test_ratios_of_several_intervals_come_from_all_of_them(load):
    both = override(SETTINGS, ["linear.ratio=[[0.5,0.9],[1.1,1.5]]", "shape.volume_mm3=[50,60]"])
    ratios = np.array([Way(LAYERS, both).draw(load, 3, 3, i).ratio for i in range(60)])
    assert (((ratios >= 0.5) & (ratios <= 0.9)) | ((ratios >= 1.1) & (ratios <= 1.5))).all()
    assert 10 < (ratios < 1).sum() < 50
