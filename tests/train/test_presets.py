import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from typer.testing import CliRunner

from scans.errors import CheckpointError
from tests.made.trainings import run, same, without_pictures
from train.cli.application import app
from train.network.batch_norm import BATCHES
from train.presets import settings_of
from train.proxies.recorded import load_checkpoint, load_network
from train.settings import LAYERS, Adapt, Pretrain, SettingsError
from train.stages.pretrain import pretrain
from train.stages.resume import preset_of


def test_paper_has_the_numbers_of_zhang_et_al():
    settings = settings_of(Pretrain, "paper", {}, "here")
    assert settings.loss.model_dump(exclude={"form", "entropy"}) == {
        "l0": 1,
        "l1": 1,
        "l2": 1,
        "l3": 1,
        "cross_entropy": 0,
    }
    assert (settings.network.norm, settings.network.width, settings.network.mask_bias) == ("batch", 32, 0)
    schedule = settings.schedule
    assert (schedule.batch, schedule.learning_rate, schedule.betas, schedule.epsilon) == (2, 1e-3, (0.9, 0.999), 1e-8)
    assert (schedule.rate_rule, schedule.warmup_steps, schedule.averaging, schedule.chosen) == (
        "plateau",
        0,
        0,
        "score",
    )
    assert (settings.variation, settings.standardise, settings.recombine) == ("none", False, False)


@pytest.mark.parametrize("model", [Pretrain, Adapt])
def test_robust_averages_on_a_cosine_with_light_variation_and_uses_its_last_network(model):
    settings = settings_of(model, "robust", {"schedule": {"steps": 300}}, "here")
    schedule = settings.schedule
    assert (schedule.averaging, schedule.rate_rule, schedule.chosen) == (0.99, "cosine", "last")
    assert (schedule.warmup_steps, settings.variation, settings.preset) == (30, "light", "robust")
    assert settings.schedule.learning_rate == model().schedule.learning_rate


@pytest.mark.parametrize("model", [Pretrain, Adapt])
def test_none_has_the_defaults(model):
    assert settings_of(model, "none", {}, "here") == model()


def test_what_is_given_wins_over_a_preset():
    given = {"network": {"norm": "batch"}, "schedule": {"averaging": 0.5, "warmup_steps": 7}, "variation": "light"}
    settings = settings_of(Pretrain, "robust", given, "here")
    assert (settings.network.norm, settings.variation) == ("batch", "light")
    assert (settings.schedule.averaging, settings.schedule.warmup_steps) == (0.5, 7)
    assert settings.schedule.rate_rule == "cosine"
    kept = settings_of(Pretrain, "paper", {"loss": {"l3": 0.0}, "schedule": {"learning_rate": 0.5}}, "here")
    assert (kept.loss.l3, kept.loss.cross_entropy, kept.schedule.learning_rate) == (0, 0, 0.5)


@pytest.mark.parametrize("preset", ["robust", "paper"])
def test_of_a_preset_another_papers_task_takes_what_is_not_of_layers(preset):
    settings = settings_of(Pretrain, preset, {"proxy": "genesis"}, "here")
    assert settings.loss == Pretrain().loss
    assert settings.variation == "none"
    assert settings.schedule == settings_of(Pretrain, preset, {"proxy": LAYERS}, "here").schedule


def test_mistakes_are_told_in_one_line():
    with pytest.raises(SettingsError, match="here: preset: Input should be 'robust', 'paper' or 'none'"):
        settings_of(Pretrain, "fast", {}, "here")
    with pytest.raises(SettingsError, match=r"schedule\.steps"):
        settings_of(Pretrain, "robust", {"schedule": {"steps": 0}}, "here")
    told = CliRunner().invoke(app, ["pretrain", "--corpus", "x", "--out", "y", "--vary", "--variation", "full"])
    assert "--vary is --variation light" in str(told.exception)


@pytest.fixture(scope="module")
def robust(corpus_path, tmp_path_factory):
    """Return a training of six steps under the preset robust, validated at 4 and 6."""
    return trained(corpus_path, tmp_path_factory.mktemp("runs") / "run")


def trained(corpus_path, out, resume=False, preset="robust", **schedule):
    values = {
        "network": {"width": 2},
        "schedule": {"steps": 6, "checkpoint_every": 4, "device": "cpu", "precision": "fp32", **schedule},
        "validation_samples": 2,
    }
    with without_pictures():
        pretrain(corpus_path, out, settings_of(Pretrain, preset, values, "here"), resume=resume)
    return out


def test_the_last_network_is_the_one_to_use_and_it_is_the_average(robust):
    last, best = (load_checkpoint(robust / f"{name}.safetensors") for name in ("last", "best"))
    assert best.record.step == last.record.step == 6
    assert best.record.settings["preset"] == "robust"
    assert same(best.network, last.network)
    assert same(best.network, best.trained)  # raw weights are for going on alone
    assert not same(last.network, last.trained)
    assert best.record.validation == last.record.validation
    assert last.record.progress["best"]["step"] == 6
    assert same(load_network(robust / "last.safetensors")[1].state_dict(), last.network)


def test_a_cosine_refuses_to_go_on_to_another_last_step(corpus_path, robust):
    with pytest.raises(CheckpointError, match=r"schedule\.steps = 6, not 8, and a cosine rate"):
        trained(corpus_path, robust, resume=True, steps=8)


@pytest.mark.parametrize("proxy", ["rotation", "asc_net"])
def test_another_papers_task_is_averaged_too_and_its_last_network_used(corpus_path, tmp_path, proxy):
    values = {
        "proxy": proxy, "network": {"width": 2}, "validation_samples": 2,
        "schedule": {"steps": 2, "checkpoint_every": 1, "device": "cpu", "precision": "fp32"},
    }  # fmt: skip
    with without_pictures():
        pretrain(corpus_path, tmp_path / "run", settings_of(Pretrain, "robust", values, "here"))
    last, best = (load_checkpoint(tmp_path / "run" / f"{name}.safetensors") for name in ("last", "best"))
    assert best.record.step == 2
    assert same(best.network, last.network)
    assert not same(last.network, last.trained)
    assert last.record.network["norm"] == "instance"


def test_batch_norm_is_renewed_on_the_average(corpus_path, tmp_path, monkeypatch):
    monkeypatch.setattr("train.stages.loop.BATCHES", BATCHES)  # tests take fewer
    values = {
        "network": {"width": 2, "norm": "batch"}, "validation_samples": 2,
        "schedule": {"steps": 2, "checkpoint_every": 2, "device": "cpu", "precision": "fp32"},
    }  # fmt: skip
    with without_pictures():
        pretrain(corpus_path, tmp_path / "run", settings_of(Pretrain, "robust", values, "here"))
    saved = load_checkpoint(tmp_path / "run" / "last.safetensors")
    counted = [name for name in saved.network if name.endswith("num_batches_tracked")]
    assert {int(saved.network[name]) for name in counted} == {16}
    assert {int(saved.trained[name]) for name in counted} == {2}


def test_a_run_from_before_there_were_presets_goes_on_bit_for_bit(corpus_path, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "run"
    run(corpus_path, whole, steps=4, variation="light")
    run(corpus_path, out, steps=2, variation="light")
    for name in ("last", "best"):
        _as_before(out / f"{name}.safetensors")
    shutil.copytree(out, tmp_path / "other")
    assert preset_of(out) == "none"
    small = ["--width", "2", "--steps", "4", "--checkpoint-every", "2", "--validation-samples", "2", "--device", "cpu"]
    begin = ["pretrain", "--corpus", str(corpus_path), "--resume", "--real-cases", "0", *small]
    with without_pictures():
        gone_on = CliRunner().invoke(app, [*begin, "--vary", "--out", str(out)])
        assert gone_on.exit_code == 0, gone_on.output
        other = CliRunner().invoke(app, [*begin, "--vary", "--preset", "robust", "--out", str(tmp_path / "other")])
    assert "was trained with" in str(other.exception)
    ours, theirs = (load_checkpoint(folder / "last.safetensors") for folder in (whole, out))
    assert same(ours.trained, theirs.trained)
    assert same(ours.optimiser, theirs.optimiser)


def _as_before(path):
    """Record the settings of a checkpoint as releases did that knew neither presets nor averages."""
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    settings = record["settings"]
    for name in ("averaging", "rate_rule", "chosen"):
        del settings["schedule"][name]
    del settings["preset"]
    settings["vary"] = settings.pop("variation") == "light"
    path.write_bytes(to_bytes(tensors, metadata={"record": json.dumps(record)}))


def test_a_run_goes_on_with_its_own_preset(robust, tmp_path):
    assert preset_of(robust) == "robust"
    assert preset_of(tmp_path) is None
    broken = tmp_path / "broken"
    shutil.copytree(robust, broken)
    (broken / "last.safetensors").write_bytes(b"")
    assert preset_of(broken) == "robust"  # of previous.safetensors


def test_an_average_that_is_damaged_is_refused(robust, tmp_path):
    path = tmp_path / "last.safetensors"
    with safe_open(robust / "last.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    name = "average.head.bias"
    for damaged in (tensors[name].half(), torch.full_like(tensors[name], float("nan")), tensors[name][:-1].clone()):
        path.write_bytes(to_bytes({**tensors, name: damaged}, metadata=metadata))
        with pytest.raises(CheckpointError, match=r"head\.bias"):
            load_checkpoint(path)
