import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scans.errors import CatalogError, CheckpointError, UserError
from tests.made.modality_pairs import channel, save_looking_at, write_pair, write_pairs_catalog
from tests.made.real_scans import write_case, write_catalog
from tests.made.tiny_checkpoint import readings, save_bright
from train.architectures.choice import FIRST_CONVOLUTION
from train.cases.augment import Change
from train.cases.prepared import RealScan
from train.cli.application import app
from train.network.channels import carry_encoder
from train.network.unet import UNet
from train.proxies.recorded import load_checkpoint
from train.settings import Finetune, Network, Schedule
from train.stages.finetune import finetune
from train.stages.supervised import Supervised, batch_of

pytestmark = pytest.mark.usefixtures("undrawn")

FIRST = FIRST_CONVOLUTION["unet"]


def test_scan_and_mask_are_mirrored_together():
    volume = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    batch = batch_of(
        [RealScan("a", volume[None], volume > 0, (1.0, 1.0, 1.0))] * 2, [Change(mirrored=(0, 2)), Change()]
    )
    assert torch.equal(batch.composite > 0, batch.mask > 0)
    np.testing.assert_array_equal(batch.composite[0, 0].numpy(), volume[::-1, :, ::-1])
    np.testing.assert_array_equal(batch.composite[1, 0].numpy(), volume)


def test_every_modality_is_mirrored_alike():
    volumes = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    batch = batch_of([RealScan("a", volumes, volumes[0] > 0, (1.0, 1.0, 1.0))], [Change(mirrored=(1, 2))])
    np.testing.assert_array_equal(batch.composite[0].numpy(), volumes[:, :, ::-1, ::-1])
    assert torch.equal(batch.composite[:, :1] > 0, batch.mask > 0)


@pytest.mark.parametrize("augment", ["mirror", "nnunet"])
def test_changes_depend_on_the_step_alone(augment):
    volume = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    task = Supervised([RealScan("a", volume[None], volume > 0, (1.0, 1.0, 1.0))], [], Finetune(augment=augment))
    first, again = list(task.batches(range(6))), list(task.batches(range(3, 6)))
    assert all(torch.equal(a.composite, b.composite) for a, b in zip(first[3:], again, strict=True))
    assert len({tuple(batch.composite.flatten().tolist()) for batch in first}) > 2


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    for seed in range(3):
        write_case(root / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    return write_catalog(root / "catalog.yaml", root / "data")


def test_encoder_comes_from_pretraining_and_the_record_says_what_was_seen(heads, tmp_path):
    init = save_bright(tmp_path / "best.safetensors", size=16, reading=readings())
    schedule = Schedule(steps=1, learning_rate=1e-12, checkpoint_every=1, device="cpu", precision="fp32")
    outcome = finetune(init, heads, "heads", tmp_path / "run", Finetune(schedule=schedule))
    assert outcome.step == 1
    before, after = load_checkpoint(init), load_checkpoint(tmp_path / "run" / "last.safetensors")
    weights = [name for name in before.network if name.endswith("weight")]
    same = {name: torch.allclose(before.network[name], after.network[name], atol=1e-6) for name in weights}
    assert all(kept == name.startswith("encoder.") for name, kept in same.items())
    data = after.record.data
    assert after.record.stage == "finetune"
    assert sorted(data["training"] + data["validation"] + data["test"]) == ["case0", "case1", "case2"]
    assert data["corpus"] == before.record.data["corpus"]
    assert data["began_from"] == "best.safetensors"
    elsewhere = init.rename(tmp_path / "other.safetensors")
    resumed = finetune(elsewhere, heads, "heads", tmp_path / "run", Finetune(schedule=schedule), resume=True)
    assert resumed.step == 1
    (real,) = data["datasets"]
    assert real["scans"] == [*data["training"], *data["validation"]]
    assert (real["dataset"], real["licence"], real["redistribute_derived"]) == ("heads", "CC0", True)
    assert after.record.threshold == before.record.threshold
    assert after.record.reading is None, "its decoder is new"


def test_from_scratch_learns_and_leaves_out_bad_cases_with_a_word(heads, tmp_path):
    said = []
    write_case(heads.parent / "data", "bad", spacing_mm=(4.0, 4.0, 4.0))
    (heads.parent / "data" / "bad_seg.nii.gz").unlink()
    settings = Finetune(
        network={"width": 2},
        schedule=Schedule(steps=30, learning_rate=1e-2, checkpoint_every=30, device="cpu", precision="fp32"),
    )
    outcome = finetune(None, heads, "heads", tmp_path / "run", settings, size=16, say=said.append)
    assert outcome.left_out == 1
    assert any("bad" in line for line in said)
    losses = [
        json.loads(line)["total"]
        for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        if "total" in line
    ]
    assert losses[-1] < losses[0]


def test_a_missing_checkpoint_is_named(heads, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        finetune(tmp_path / "none.safetensors", heads, "heads", tmp_path / "run", Finetune())


def random_network(channels, norm="batch", seed=0):
    torch.manual_seed(seed)
    network = UNet(Network(width=2, norm=norm, in_channels=channels))
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(layer.running_mean)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    return network


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("count", [2, 4])
def test_an_encoder_shown_copies_of_one_scan_finds_what_it_found_in_the_scan(norm, count):
    one, many = random_network(1, norm).eval(), random_network(count, norm, seed=1).eval()
    names = list("abcd")[:count]
    encoder = {f"encoder.{name}": tensor for name, tensor in one.encoder.state_dict().items()}
    carried = carry_encoder(encoder, ["a"], names)
    many.encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in carried.items()})
    scan = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        for expected, found in zip(one.encoder(scan), many.encoder(scan.repeat(1, count, 1, 1, 1)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_go_with_their_modality_when_the_order_changes():
    weight = torch.randn(2, 3, 3, 3, 3)
    turned = carry_encoder({FIRST: weight}, ["a", "b", "c"], ["c", "a", "b"])[FIRST]
    assert torch.equal(turned, weight[:, [2, 0, 1]])
    fewer = carry_encoder({FIRST: weight}, ["a", "b", "c"], ["a", "d"])[FIRST]
    torch.testing.assert_close(fewer.sum(1), weight.sum(1))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for seed in range(3):
        write_pair(root / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    return write_pairs_catalog(root / "catalog.yaml", root / "data")


SHORT = Finetune(
    network={"width": 2},
    schedule=Schedule(steps=1, learning_rate=1e-12, checkpoint_every=1, device="cpu", precision="fp32"),
)


def modalities_of(record):
    return [entry["region"]["modality"] for entry in record.channels]


def test_a_network_of_two_modalities_begins_with_an_encoder_of_one(pairs, tmp_path):
    init, said = save_bright(tmp_path / "best.safetensors", size=16), []
    finetune(init, pairs, "heads", tmp_path / "run", SHORT, modalities=["FLAIR", "T1"], say=said.append)
    before, after = load_checkpoint(init), load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert modalities_of(after.record) == ["FLAIR", "T1"]
    assert after.record.network["in_channels"] == 2
    assert after.network["head.weight"].shape[0] == 5
    weight = before.network[FIRST]
    torch.testing.assert_close(after.network[FIRST], torch.cat([weight, weight], 1) / 2)
    assert after.record.threshold == before.record.threshold
    assert any("takes FLAIR, T1; its encoder was trained on FLAIR" in line for line in said)


def test_modalities_are_those_of_the_checkpoint_or_from_scratch_all_of_the_dataset(pairs, tmp_path):
    finetune(save_bright(tmp_path / "one.safetensors", size=16), pairs, "heads", tmp_path / "one", SHORT)
    assert modalities_of(load_checkpoint(tmp_path / "one" / "last.safetensors").record) == ["FLAIR"]
    init = save_looking_at(tmp_path / "two.safetensors", "T1", ("T1", "FLAIR"), size=16)
    finetune(init, pairs, "heads", tmp_path / "two", SHORT)
    after = load_checkpoint(tmp_path / "two" / "last.safetensors")
    assert modalities_of(after.record) == ["T1", "FLAIR"]
    torch.testing.assert_close(after.network[FIRST], load_checkpoint(init).network[FIRST])
    finetune(None, pairs, "heads", tmp_path / "scratch", SHORT, size=16)
    assert modalities_of(load_checkpoint(tmp_path / "scratch" / "last.safetensors").record) == ["FLAIR", "T1"]


def test_a_threshold_of_another_modality_is_not_kept(pairs, tmp_path):
    init = save_bright(tmp_path / "best.safetensors", size=16)
    finetune(init, pairs, "heads", tmp_path / "run", SHORT, modalities=["T1", "FLAIR"])
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").record.threshold is None


def test_other_modalities_are_not_resumed_with(pairs, tmp_path):
    finetune(None, pairs, "heads", tmp_path / "run", SHORT, size=16, modalities=["FLAIR", "T1"])
    with pytest.raises(CheckpointError, match="was trained on other data"):
        finetune(None, pairs, "heads", tmp_path / "run", SHORT, size=16, modalities=["T1", "FLAIR"], resume=True)


def test_modalities_that_do_not_fit_are_refused(pairs, tmp_path):
    init = save_bright(tmp_path / "best.safetensors", size=16)
    with pytest.raises(CatalogError, match="T2 is no modality of it"):
        finetune(init, pairs, "heads", tmp_path / "run", SHORT, modalities=["FLAIR", "T2"])
    turned = save_bright(
        tmp_path / "turned.safetensors", size=16, region={**channel("T2")["region"], "orientation": "RAS"}
    )
    with pytest.raises(CatalogError, match="differ in orientation"):
        finetune(turned, pairs, "heads", tmp_path / "run", SHORT, modalities=["FLAIR"])


def test_modalities_are_given_on_the_command_line(pairs, tmp_path):
    said = CliRunner().invoke(
        app,
        [
            *("finetune", "--init", "scratch", "--dataset", "heads", "--catalog", str(pairs)),
            *("--modalities", "T1,FLAIR", "--precision", "fp32"),
            *("--out", str(tmp_path / "run"), "--size", "16", "--width", "1", "--steps", "1", "--device", "cpu"),
        ],
    )
    assert said.exit_code == 0, said.output
    assert modalities_of(load_checkpoint(tmp_path / "run" / "last.safetensors").record) == ["T1", "FLAIR"]


def test_an_augmented_training_that_was_stopped_ends_as_one_that_was_not(heads, tmp_path):
    schedule = Schedule(steps=4, batch=1, checkpoint_every=2, device="cpu", precision="fp32")
    settings = Finetune(network={"width": 1}, schedule=schedule)
    finetune(None, heads, "heads", tmp_path / "whole", settings, size=24)
    half = settings.model_copy(update={"schedule": schedule.model_copy(update={"steps": 2})})
    finetune(None, heads, "heads", tmp_path / "parts", half, size=24)
    finetune(None, heads, "heads", tmp_path / "parts", settings, size=24, resume=True)
    whole, parts = (load_checkpoint(tmp_path / run / "last.safetensors").network for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_recipe_says_what_is_done_and_nothing_else():
    volume = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    scans = [RealScan("a", volume[None], volume > 0, (1.0, 1.0, 1.0))]
    recipes = [recipe for step in range(40) for recipe in Supervised(scans, [], Finetune()).recipe(step)]
    assert json.loads(json.dumps(recipes)) == recipes
    assert all(recipe["scan"] == "a" for recipe in recipes)
    assert any("angles" in recipe for recipe in recipes)
    assert any("gamma" in look for recipe in recipes for look in recipe.get("appearance", ()))
    assert all(("noise_key" in r) == any("noise" in look for look in r.get("appearance", ())) for r in recipes)
    assert Supervised(scans, [], Finetune(augment="none")).recipe(0) == [{"scan": "a"}] * 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "either --task or --dataset"),
        (["--task", "T", "--dataset", "heads"], "either --task or --dataset"),
        (["--task", "T", "--folds", "5"], "its own number of folds"),
        (["--task", "T"], "no task T in the catalog"),
        (["--dataset", "heads", "--folds", "none.json"], "no fold file can be read"),
        (["--dataset", "heads", "--augment", "much"], "augment"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(heads, tmp_path, given, sentence):
    command = ["finetune", "--init", "scratch", "--catalog", str(heads), "--out", str(tmp_path / "run"), *given]
    said = CliRunner().invoke(app, [*command, "--size", "16", "--width", "1", "--device", "cpu"])
    assert said.exit_code != 0
    assert isinstance(said.exception, UserError)
    assert sentence in str(said.exception)
    assert not (tmp_path / "run" / "last.safetensors").exists()
