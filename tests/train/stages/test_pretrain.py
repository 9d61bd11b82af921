import json
import resource
import shutil
import signal
import time

import pytest
import torch

from scans.errors import CheckpointError
from tests.made.trainings import run, same, start
from train.proxies.recorded import load_checkpoint
from train.settings import Pretrain, Schedule, SettingsError
from train.stages.pretrain import pretrain


def wait_for_step(process, out, step):
    log = out / "log.jsonl"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "last.safetensors").exists() and log.exists():
            lines = log.read_text(encoding="utf-8").splitlines()
            if lines and lines[-1].endswith("}") and json.loads(lines[-1])["step"] >= step:
                return
        time.sleep(0.01)
    raise AssertionError(f"step {step} never came: {process.communicate()}")


@pytest.fixture(scope="module")
def uninterrupted(corpus_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    process = start(corpus_path, out, "--steps", "8")
    said, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    return out, said


def test_a_run_folder_holds_what_a_person_and_a_program_need(uninterrupted):
    out, said = uninterrupted
    for name in ("settings.json", "log.jsonl", "last.safetensors", "last.json", "best.safetensors", "best.json"):
        assert (out / name).is_file(), name
    assert len(list((out / "pictures").glob("validation-*.png"))) == 4
    assert list((out / "events").iterdir())
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum("validation_loss" in entry for entry in entries) == 4
    record = load_checkpoint(out / "best.safetensors").record
    assert record.region["name"] == "test"
    assert record.size == 32
    assert record.threshold["side"] in ("above", "below")
    assert "next: train evaluate" in said


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(corpus_path, tmp_path, uninterrupted):
    out = tmp_path / "run"
    process = start(corpus_path, out, "--steps", "8")
    wait_for_step(process, out, 4)
    process.kill()
    process.communicate()
    process = start(corpus_path, out, "--steps", "8", "--resume")
    _, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    whole, resumed = (load_checkpoint(run / "last.safetensors") for run in (uninterrupted[0], out))
    assert resumed.record.step == 8
    assert same(whole.network, resumed.network)
    assert same(whole.trained, resumed.trained)
    assert not same(whole.network, whole.trained)
    assert same(whole.optimiser, resumed.optimiser)
    assert whole.record.progress == resumed.record.progress
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == sorted(steps)


@pytest.fixture(scope="module")
def stages(corpus_path, tmp_path_factory):
    """Return a training of 4 steps, and one of 6."""
    folder = tmp_path_factory.mktemp("stages")
    for steps in (4, 6):
        run(corpus_path, folder / str(steps), steps=steps)
    return folder / "4", folder / "6"


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_continued(corpus_path, tmp_path, stages, damage):
    out, said = tmp_path / "run", []
    shutil.copytree(stages[0], out)
    last = out / "last.safetensors"
    if damage == "missing":  # killed between the two renames
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[: -100 if damage == "truncated" else 0])
    assert run(corpus_path, out, resume=True, steps=6, say=said.append).step == 6
    assert any("previous.safetensors, step 2" in line for line in said) == (damage != "missing")
    whole, resumed = (load_checkpoint(folder / "last.safetensors") for folder in (stages[1], out))
    assert same(whole.network, resumed.network)
    assert same(whole.optimiser, resumed.optimiser)


def test_with_every_checkpoint_damaged_nothing_is_started_anew(corpus_path, tmp_path, stages):
    out = tmp_path / "run"
    shutil.copytree(stages[0], out)
    for name in ("last.safetensors", "previous.safetensors"):
        (out / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged"):
        run(corpus_path, out, resume=True, steps=8)
    with pytest.raises(CheckpointError, match="--resume"):
        run(corpus_path, out)


def test_a_full_disk_is_told_and_training_goes_on_to_save_when_there_is_room(corpus_path, tmp_path):
    out = tmp_path / "run"
    process = start(corpus_path, out, "--steps", "100000", "--log-every", "1", "--norm", "instance")
    wait_for_step(process, out, 2)
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (500_000, unlimited[1]))  # a checkpoint has 900 kB
    logged = json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
    kept = (load_checkpoint(out / "last.safetensors").record.step, logged)
    wait_for_step(process, out, logged + 8)
    assert load_checkpoint(out / "last.safetensors").record.step <= kept[1] + 2
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    process.send_signal(signal.SIGTERM)
    said, problems = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "cannot be written (File too large)" in said
    assert "training goes on" in said
    assert "Traceback" not in problems
    assert load_checkpoint(out / "last.safetensors").record.step >= logged + 8
    assert not list(out.glob("*.tmp"))


def test_sigterm_saves_between_two_steps_and_says_how_to_go_on(corpus_path, tmp_path):
    out = tmp_path / "run"
    process = start(corpus_path, out, "--steps", "100000", "--checkpoint-every", "3", "--norm", "instance")
    wait_for_step(process, out, 3)
    for _ in range(2):  # as a job queue and torchrun each send one
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "--resume" in problems
    assert "Traceback" not in problems
    assert load_checkpoint(out / "last.safetensors").record.step >= 3


def test_a_run_is_never_overwritten_or_continued_with_other_settings(corpus_path, tmp_path, stages):
    out = tmp_path / "run"
    shutil.copytree(stages[0], out)
    before = (out / "last.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="--resume"):
        run(corpus_path, out, steps=4)
    with pytest.raises(CheckpointError, match=r"schedule.seed = 0, not 1"):
        run(corpus_path, out, resume=True, steps=4, seed=1)
    assert (out / "last.safetensors").read_bytes() == before
    assert run(corpus_path, out, resume=True, steps=4).step == 4
    assert run(corpus_path, out, resume=True, steps=6).step == 6


def test_resume_without_a_checkpoint_starts(corpus_path, tmp_path):
    assert run(corpus_path, tmp_path / "run", resume=True, norm="instance", standardise=True).step == 2


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(corpus_path, tmp_path, stages, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(stages[0], out)
    monkeypatch.setattr("train.network.dice.SMOOTH_VOXELS", float("nan"))
    with pytest.raises(SettingsError, match="not finite at step 5"):
        run(corpus_path, out, resume=True, steps=6)
    assert load_checkpoint(out / "last.safetensors").record.step == 4


def test_wrong_settings_are_told_in_one_line(corpus_path, tmp_path):
    process = start(corpus_path, tmp_path / "run", "--batch", "0", "--norm", "group")
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "schedule.batch" in problems
    assert "network.norm" in problems
    assert "Traceback" not in problems
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_code_trains_on_a_gpu(corpus_path, tmp_path):
    settings = Pretrain(
        network={"width": 2},
        schedule=Schedule(steps=4, checkpoint_every=2, device="cuda"),
        validation_samples=2,
    )
    assert pretrain(corpus_path, tmp_path / "run", settings).step == 4
    assert (
        pretrain(
            corpus_path,
            tmp_path / "run",
            settings.model_copy(update={"schedule": settings.schedule.model_copy(update={"steps": 6})}),
            resume=True,
        ).step
        == 6
    )
