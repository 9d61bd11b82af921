import numpy as np
import pytest

from scans.page.greys import grey_window


def test_what_lies_outside_the_organ_and_a_few_vessels_do_not_choose_the_window():
    tissue = np.random.default_rng(0).normal(5, 1, 10_000)
    low, high = grey_window(tissue)
    assert 2 < low < 3
    assert 7 < high < 8
    around = np.concatenate([np.zeros(90_000), tissue, np.full(20, 900.0)]).reshape(-1, 5, 4)
    assert grey_window(around) == pytest.approx((low, high), abs=0.2)


def test_a_tumour_that_is_brighter_than_tissue_is_not_all_white_and_a_dark_one_changes_nothing():
    tissue, tumour = np.linspace(1, 2, 1000), np.linspace(8, 9, 100)
    low, high = grey_window(tissue, tumour)
    assert (low, high) == (grey_window(tissue)[0], pytest.approx(8.98))
    assert grey_window(tissue, tumour - 9) == grey_window(tissue) == grey_window(tissue, tumour[:0])


@pytest.mark.parametrize("tissue", [np.zeros(9), np.zeros(0), np.full(9, 3.0)])
def test_white_is_above_black_even_where_nothing_varies(tissue):
    low, high = grey_window(tissue)
    assert low < high
