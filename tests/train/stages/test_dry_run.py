"""What a training would cost, and at its end where the time went."""

import json

import pytest
from typer.testing import CliRunner

from tests.made.trainings import run
from train.cli.application import app
from train.run.dry_run import GPUS, enough, estimate
from train.settings import Pretrain, Schedule, SettingsError
from train.stages.pretrain import pretrain


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("train.run.dry_run._SECONDS", 0.05)


@pytest.fixture(scope="module")
def trained(corpus_path, tmp_path_factory):
    """Return a short training and what it said."""
    out, said = tmp_path_factory.mktemp("runs") / "run", []
    run(corpus_path, out, steps=5, say=said.append)
    return out, said


def rehearse(corpus_path, out, steps):
    settings = Pretrain(
        network={"width": 2}, schedule=Schedule(steps=steps, checkpoint_every=50, device="cpu"), validation_samples=2
    )
    return estimate(lambda folder: pretrain(corpus_path, folder, settings, rehearsed=enough), out, settings.schedule)


def test_a_dry_run_reckons_from_real_steps_and_leaves_nothing(corpus_path, tmp_path, trained):
    cost = rehearse(corpus_path, tmp_path / "runs" / "first", steps=10_020)
    assert list(tmp_path.iterdir()) == []
    assert 2 <= cost.measured < 1000
    assert (cost.steps, cost.validations) == (10_020, 201)
    each = cost.validation_seconds + cost.writing_seconds
    assert min(cost.step_seconds, cost.validation_seconds, cost.writing_seconds, cost.starting_seconds) > 0
    assert cost.seconds == pytest.approx(cost.starting_seconds + 10_020 * cost.step_seconds + 201 * each)
    assert 0 <= cost.waited <= 1
    for name, size in (("best", cost.best_bytes), ("last", cost.last_bytes)):
        assert size == pytest.approx((trained[0] / f"{name}.safetensors").stat().st_size, rel=0.05)
    assert cost.host_bytes > 10**8
    assert [*cost.on_gpus] == [*GPUS]
    assert sorted(cost.on_gpus.values(), reverse=True) == [*cost.on_gpus.values()]


def test_the_command_prints_what_it_would_cost_and_touches_nothing(corpus_path, tmp_path):
    arguments = ["pretrain", "--corpus", str(corpus_path), "--out", str(tmp_path / "run"), "--dry-run"]
    more = ["--width", "2", "--validation-samples", "2", "--steps", "100000", "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, *more])
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == []
    for words in ("for 100000 steps of 2 samples", "waiting for samples", "200 times", "to go on from", "4 GPUs"):
        assert words in result.output
    assert "are an estimate" in result.output


def test_what_cannot_be_measured_is_told(corpus_path, tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match="1 steps are too few to measure"):
        rehearse(corpus_path, tmp_path / "run", steps=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="without torchrun"):
        rehearse(corpus_path, tmp_path / "run", steps=100)
    assert list(tmp_path.iterdir()) == []


def test_a_training_ends_with_where_its_time_went_in_one_line_and_in_its_log(trained):
    out, said = trained
    lines = [line for line in said if line.startswith("where the time went")]
    assert len(lines) == 1
    assert "s a step" in lines[0]
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    (spent,) = (entry["spent"] for entry in entries if "spent" in entry)
    assert all(spent[kind] > 0 for kind in ("starting", "steps", "validating", "writing"))
