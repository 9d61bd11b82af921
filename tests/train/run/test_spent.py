"""Where the time of a training went, on a clock of the test's own."""

import pytest

from train.run.spent import WARM, WORDS, Spent
from train.settings import Schedule

SCHEDULE = Schedule(checkpoint_every=50, loader_threads=1)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def spent_on(count=10, **seconds):
    """Return the clock of a training that took so long for each kind, the first two at each step."""
    clock = Clock()
    spent = Spent(clock=clock)
    clock.now += seconds.get("starting", 0)
    for step in range(WARM + count):
        spent.on("waiting")
        clock.now += seconds.get("waiting", 0)
        spent.on("steps")
        clock.now += seconds.get("steps", 0)
        if step == WARM + count - 1:
            for kind in ("validating", "writing"):
                spent.on(kind)
                clock.now += seconds.get(kind, 0)
        spent.stepped()
    return spent, clock


def test_the_parts_add_up_to_the_whole_and_the_first_steps_are_a_part_of_starting():
    spent, clock = spent_on(starting=5, waiting=1, steps=3, validating=7, writing=2)
    wanted = {"starting": 5 + WARM * 4, "waiting": 10, "steps": 30, "validating": 7, "writing": 2}
    assert spent.seconds == pytest.approx(wanted)
    assert sum(spent.seconds.values()) == pytest.approx(clock.now - 100)
    assert (spent.steps, spent.validations, spent.a_step) == (10, 1, pytest.approx(4))


@pytest.mark.parametrize(
    ("seconds", "stage", "words"),
    [
        ({"waiting": 1, "steps": 1}, "pretrain", "the bottleneck is samples"),
        ({"waiting": 1, "steps": 1}, "finetune", "--augment mirror"),
        (
            {"steps": 1, "validating": 20, "writing": 1.4},
            "pretrain",
            "--checkpoint-every (now 50) or fewer --validation-s",
        ),
        ({"steps": 1, "validating": 1, "writing": 20}, "adapt", "the bottleneck is writing"),
        ({"steps": 1, "waiting": 0.01, "validating": 1}, "pretrain", "the bottleneck is the processor: a GPU"),
        ({"steps": 1, "starting": 200}, "pretrain", "most of it was starting"),
    ],
)
def test_the_line_names_what_held_the_training_up_and_what_to_change(seconds, stage, words):
    spent, _ = spent_on(**seconds)
    line = spent.told(stage, SCHEDULE)
    assert words in line
    assert "\n" not in line
    whole = sum(spent.seconds.values())
    for kind, said in WORDS.items():
        share = spent.seconds[kind] / whole
        assert (f"{share:.0%} {said}" in line) == (share >= 0.005)


def test_more_threads_are_advised_only_where_there_are_cores_for_them(monkeypatch):
    spent, _ = spent_on(waiting=1, steps=1)
    for cores, words in ((8, "more --loader-threads (now 1, of 8 cores)"), (1, "all 1 cores read")):
        monkeypatch.setattr("train.run.spent.available_cores", lambda cores=cores: cores)
        assert words in spent.told("pretrain", SCHEDULE)
    assert "--loader-threads" not in spent.told("pretrain", SCHEDULE)


def test_a_training_too_short_to_tell_has_its_line_too():
    spent = Spent(clock=Clock())
    assert "most of it was starting" in spent.told("pretrain", SCHEDULE) or "bottleneck" in spent.told(
        "adapt", SCHEDULE
    )
