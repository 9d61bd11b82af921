"""Several processes that train one network, started as a user would: by torchrun, here with Gloo on a CPU."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from train.checkpoint import load_checkpoint

SMALL = ["--width", "2", "--validation-samples", "2", "--device", "cpu", "--precision", "fp32", "--norm", "instance"]


def command(corpus_path, out, processes, *more):
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    return [sys.executable, *run, "-m", "train.cli", "pretrain", "--corpus", corpus_path, "--out", out, *SMALL, *more]


def run(corpus_path, out, processes, *more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = command(corpus_path, out, processes, *more)
    done = subprocess.run(
        [str(a) for a in arguments], capture_output=True, encoding="utf-8", env=environment, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def losses(out):
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {e["step"]: e["total"] for e in entries if "total" in e}, [e for e in entries if "validation_loss" in e]


def test_two_processes_have_the_losses_of_one_with_the_double_batch(corpus_path, tmp_path):
    steps = ["--steps", "6", "--checkpoint-every", "2"]
    run(corpus_path, tmp_path / "two", 2, "--batch", "1", *steps)
    run(corpus_path, tmp_path / "one", 1, "--batch", "2", *steps)
    (two, validated), (one, validated_by_one) = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert two.keys() == one.keys() == {2, 4, 6}
    assert all(two[step] == pytest.approx(one[step], rel=1e-4) for step in one)
    assert len(validated) == len(validated_by_one) == 3  # one process validates
    weights = [load_checkpoint(tmp_path / name / "last.safetensors").network for name in ("two", "one")]
    assert all(torch.allclose(weights[0][n], weights[1][n], atol=1e-2) for n in weights[0])


def test_a_training_of_two_is_continued_by_one_and_stops_cleanly_when_told(corpus_path, tmp_path):
    out = tmp_path / "run"
    arguments = command(corpus_path, out, 2, "--batch", "1", "--steps", "100000", "--checkpoint-every", "2")
    arguments = [str(argument) for argument in arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", env=environment
    )
    deadline = time.monotonic() + 120
    while not (out / "previous.safetensors").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on
    _, problems = process.communicate(timeout=120)
    step = load_checkpoint(out / "last.safetensors").record.step
    assert f"stopped at step {step} and saved" in problems
    run(corpus_path, out, 1, "--batch", "2", "--steps", str(step + 2), "--checkpoint-every", "2", "--resume")
    assert load_checkpoint(out / "last.safetensors").record.step == step + 2
    refused = subprocess.run(
        [str(a) for a in command(corpus_path, out, 1, "--batch", "1", "--steps", str(step + 4), "--resume")],
        capture_output=True, encoding="utf-8", env=environment, check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "schedule.batch = 2, not 1" in refused.stderr
