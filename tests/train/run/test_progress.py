import io

import pytest
from rich.console import Console

from scans.durations import duration
from train.run import progress
from train.run.progress import QUIET_SECONDS, StepsBar


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def told(monkeypatch, steps, seconds, *, terminal=False):
    """Return what is printed of `steps` steps of so many seconds, with a validation every 500."""
    lines, moving, clock = io.StringIO(), io.StringIO(), Clock()
    monkeypatch.setattr(progress, "out", Console(file=lines, width=160))
    for module in ("train.run.progress", "scans.progress"):
        monkeypatch.setattr(f"{module}.err", Console(file=moving, width=160, force_terminal=terminal))
    with StepsBar(1000, 2, clock) as shown:
        for step in steps:
            clock.now += seconds
            shown(step, {"total": 3.14159, "seconds_per_step": seconds})
            if step % 500 == 0:
                scores = {"validation_loss": 2.0, "validation_dice": 0.7 - step / 10_000, "validation_real_dice": 0.4}
                shown(step, scores)
    return lines.getvalue().splitlines(), moving.getvalue()


def test_a_file_gets_a_line_a_minute_and_one_a_validation(monkeypatch):
    lines, moving = told(monkeypatch, range(1, 1001), 1.0)
    assert moving == ""
    steps = [line for line in lines if "validation" not in line]
    assert len(steps) <= 1000 / QUIET_SECONDS
    assert len(lines) - len(steps) == 2
    assert steps[0] == "step 60 of 1000: loss 3.142, 1 s/step, 2 samples/s, 16 min left"


def test_a_validation_says_whether_it_is_the_best_and_what_real_cases_say(monkeypatch):
    lines, _ = told(monkeypatch, range(1, 1001), 0.01)
    assert lines == [
        "step 500 of 1000: validation loss 2.000, Dice 0.650, the best so far, real cases 0.400",
        "step 1000 of 1000: validation loss 2.000, Dice 0.600 (best 0.650 at step 500), real cases 0.400",
    ]


def test_the_best_so_far_is_another_generators_where_it_steers(monkeypatch):
    lines = io.StringIO()
    monkeypatch.setattr(progress, "out", Console(file=lines, width=160))
    with StepsBar(2, 2, Clock()) as shown:
        for step, (dice, other) in enumerate([(0.5, 0.4), (0.7, 0.3)], 1):
            shown(step, {"validation_loss": 2.0, "validation_dice": dice, "validation_shifted_dice": other})
    assert lines.getvalue().splitlines() == [
        "step 1 of 2: validation loss 2.000, Dice 0.500, another generator's 0.400, the best so far",
        "step 2 of 2: validation loss 2.000, Dice 0.700, another generator's 0.300 (best 0.400 at step 1)",
    ]


def test_a_terminal_shows_loss_best_dice_speed_and_time_left(monkeypatch):
    _, moving = told(monkeypatch, range(491, 511), 2.0, terminal=True)
    assert "loss 3.142, best Dice 0.650, 2 s/step, 1 samples/s" in moving
    assert "16 min left" in moving  # of a training continued at step 490, not one of 510 steps in 40 s


def test_a_full_disk_under_the_output_does_not_stop_a_training(monkeypatch):
    full = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: SIM115
    monkeypatch.setattr(progress, "out", Console(file=full, width=160))
    with StepsBar(10, 2) as shown:
        shown(5, {"validation_loss": 1.0, "validation_dice": None})
        shown(6, {"total": 1.0, "seconds_per_step": 0.1})
    with pytest.raises(OSError, match="No space left"):
        full.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99, "99 s"), (120, "2 min"), (3 * 3600 + 300, "3 h 05 min"), (52 * 3600 + 3599, "2 d 5 h")],
)
def test_times_are_said_as_a_person_does(seconds, text):
    assert duration(seconds) == text
