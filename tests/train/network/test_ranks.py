"""Several processes that train one network, started as a user would: by torchrun, here with Gloo on a CPU."""

import json
import os
import signal
import socket
import time

import pytest
import torch

from scans.errors import CheckpointError
from tests.made.commands import Started
from tests.made.trainings import without_pictures
from train.network.ranks import Ranks
from train.presets import settings_of
from train.proxies.recorded import load_checkpoint
from train.settings import Pretrain
from train.stages.pretrain import pretrain
from train.stages.resume import check_one_folder

SMALL = ["--width", "2", "--validation-samples", "2", "--device", "cpu", "--precision", "fp32", "--norm", "instance"]


ONE_MACHINE = ("--standalone", "--nproc-per-node", 2)


def start_two(corpus_path, out, *more, launched=ONE_MACHINE):
    command = [*launched, "-m", "train.cli", "pretrain", "--corpus", corpus_path]
    small = [*SMALL, "--batch", 1, "--checkpoint-every", 2]
    few = {**os.environ, "OMP_NUM_THREADS": "1"}
    return Started("torch.distributed.run", *command, "--out", out, *small, *more, env=few)


def start_machines(corpus_path, out, *more):
    """Start two torchruns of a process each, as two machines do that meet at one of them; here they are one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free.getsockname()[1]}"]
    launched = ["--nnodes", "2", "--nproc-per-node", "1", *meeting, "--rdzv-id", "two", "--local-addr", "localhost"]
    return [start_two(corpus_path, out, *more, launched=launched) for _ in range(2)]


def alone(corpus_path, out, steps, *, preset, batch=2, resume=False):
    """Train in this process, with the settings of `SMALL`."""
    schedule = {"steps": steps, "checkpoint_every": 2, "batch": batch, "device": "cpu", "precision": "fp32"}
    values = {"network": {"width": 2, "norm": "instance"}, "schedule": schedule, "validation_samples": 2}
    settings = settings_of(Pretrain, preset, values, "a test")
    with without_pictures():
        return pretrain(corpus_path, out, settings, resume=resume)


def losses(out):
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {e["step"]: e["total"] for e in entries if "total" in e}, [e for e in entries if "validation_loss" in e]


def test_two_machines_have_the_losses_of_one_process_with_the_double_batch(corpus_path, tmp_path):
    machines = start_machines(corpus_path, tmp_path / "two", "--steps", "4")
    alone(corpus_path, tmp_path / "one", 4, preset="robust")
    for machine in machines:
        _, problems = machine.communicate(timeout=240)
        assert machine.returncode == 0, problems[-3000:]
    (two, validated), (one, validated_by_one) = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert two.keys() == one.keys() == {2, 4}
    assert all(two[step] == pytest.approx(one[step], rel=5e-4) for step in one)  # Adam widens roundings
    assert len(validated) == len(validated_by_one) == 2  # one process of one machine validates
    saved = [load_checkpoint(tmp_path / name / "last.safetensors") for name in ("two", "one")]
    for kind in ("trained", "network"):
        ours, theirs = (getattr(checkpoint, kind) for checkpoint in saved)
        assert all(torch.allclose(ours[n], theirs[n], atol=1e-2) for n in ours)


def test_machines_that_would_go_on_from_different_steps_stop_where_they_would_wait_without_end(tmp_path):
    class Beside(Ranks):
        other = 40  # what the other machine says; a second one cannot be had here

        def most(self, number):
            return max(number, self.other if number > 0 else -self.other)

    check_one_folder(tmp_path, 40, Beside(count=2))
    with pytest.raises(CheckpointError, match=r"from step 20 and another from step 40; --out must be a folder that"):
        check_one_folder(tmp_path, 20, Beside(count=2))


def test_a_training_of_two_is_continued_by_one_and_stops_cleanly_when_told(corpus_path, tmp_path):
    out = tmp_path / "run"
    process = start_two(corpus_path, out, "--steps", "100000", "--preset", "none")
    deadline = time.monotonic() + 120
    while not (out / "previous.safetensors").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on
    _, problems = process.communicate(timeout=120)
    step = load_checkpoint(out / "last.safetensors").record.step
    assert f"stopped at step {step} and saved" in problems
    assert alone(corpus_path, out, step + 2, preset="none", resume=True).step == step + 2
    assert load_checkpoint(out / "last.safetensors").record.step == step + 2
    with pytest.raises(CheckpointError, match=r"schedule\.batch = 2, not 1"):
        alone(corpus_path, out, step + 4, preset="none", batch=1, resume=True)
