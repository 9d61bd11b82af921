import math
from itertools import pairwise

import pytest
import torch

from train.settings import Schedule
from train.stages.rate import LEAST, Rate


def rates(schedule, steps):
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=schedule.learning_rate)
    rate = Rate(optimiser, schedule)
    found = []
    for step in range(1, steps + 1):
        rate.begin(step)
        assert rate.now == optimiser.param_groups[0]["lr"]
        found.append(rate.now)
    return found


def test_a_cosine_rises_in_a_line_and_falls_to_a_hundredth_at_the_last_step():
    schedule = Schedule(steps=100, warmup_steps=10, rate_rule="cosine", learning_rate=0.5)
    found = rates(schedule, 100)
    assert found[:10] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert found[-1] == pytest.approx(0.5 * LEAST)
    assert found[54] == pytest.approx(0.5 * (LEAST + 1) / 2)
    assert all(a > b for a, b in pairwise(found[9:]))


def test_without_warm_up_a_cosine_of_one_step_has_a_rate():
    assert all(0 < rate <= 1e-3 for rate in rates(Schedule(steps=1, rate_rule="cosine"), 1))
    assert all(0 < rate <= 1e-3 for rate in rates(Schedule(steps=3, warmup_steps=9, rate_rule="cosine"), 3))


def test_a_plateau_halves_the_rate_and_goes_on_from_what_a_checkpoint_keeps():
    schedule = Schedule(plateau_patience=1, warmup_steps=2)

    def begun():
        return Rate(torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=schedule.learning_rate), schedule)

    rate = begun()
    for loss in (1.0, math.nan, 1.0):
        rate.validated(loss)
    rate.begin(1)
    assert rate.now == pytest.approx(schedule.learning_rate / 2 / 2)  # halved, and half warmed up
    again = begun()
    again.restore(rate.state())
    assert again.state() == rate.state()
    again.validated(0.5)
    again.begin(5)
    assert again.now == pytest.approx(schedule.learning_rate / 2)
