"""nnU-Net's networks through all that is done with one: trained, stopped, adapted, fine-tuned, used, handed on."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from scans.errors import CheckpointError
from tests.made.modality_pairs import write_pair, write_pairs_catalog
from tests.made.nnunet_plans import network_of, small, write_plan
from tests.made.real_scans import CATALOG
from tests.made.tiny_checkpoint import RECORD
from tests.made.trainings import same
from train.architectures.choice import FIRST_CONVOLUTION
from train.cli.application import network_of as network_given
from train.network.checkpoint import save_checkpoint
from train.presets import settings_of
from train.proxies.recorded import load_checkpoint
from train.proxies.registry import proxy_of
from train.segmentation.segment import segment
from train.settings import Adapt, Finetune, Network, Pretrain, Schedule, SettingsError
from train.share.export import export
from train.stages.adapt import adapt
from train.stages.finetune import finetune
from train.stages.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("undrawn")

ONCE = Schedule(steps=1, learning_rate=1e-12, checkpoint_every=1, device="cpu", precision="fp32")


def trained(corpus, out, network, steps=1, resume=False):
    schedule = {"steps": steps, "checkpoint_every": 1, "device": "cpu", "precision": "fp32", "rate_rule": "plateau"}
    values = {"network": network, "schedule": schedule, "validation_samples": 1}
    pretrain(corpus, out, settings_of(Pretrain, "robust", values, "a test"), symmetry="on", resume=resume)
    return out / "last.safetensors"


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Return two catalogs of the same heads: of one modality, and of two; their region is that of the corpus."""
    root = tmp_path_factory.mktemp("heads")
    for seed in range(3):
        write_pair(root / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    one, two = root / "one.yaml", write_pairs_catalog(root / "two.yaml", root / "data")
    one.write_text(CATALOG.replace("FOLDER", str(root / "data")).replace("brain", "test"), encoding="utf-8")
    two.write_text(two.read_text(encoding="utf-8").replace("brain", "test"), encoding="utf-8")
    return one, two


def test_a_network_stays_what_it_is_from_pretraining_to_export(corpus_path, heads, tmp_path):
    architecture, (one, two) = "plainconv", heads
    first = trained(corpus_path, tmp_path / "first", {"architecture": architecture, "width": 2})
    before = load_checkpoint(first)
    network = before.record.network
    assert (network["architecture"], network["mirror"]) == (architecture, "x")
    assert network["topology"]["features"] == [2, 4, 8, 16]  # of a cube of 32
    adapted = tmp_path / "adapted"
    adapt(first, corpus_path, one, "heads", adapted, Adapt(schedule=ONCE, validation_samples=1))
    both = ["T1", "FLAIR"]
    finetune(adapted / "best.safetensors", two, "heads", tmp_path / "tuned", Finetune(schedule=ONCE), modalities=both)
    tuned = load_checkpoint(tmp_path / "tuned" / "best.safetensors")
    assert tuned.record.network == {**network, "in_channels": 2}
    name = FIRST_CONVOLUTION[architecture]
    expected = before.network[name].repeat_interleave(2, dim=1) / 2
    torch.testing.assert_close(tuned.network[name], expected, atol=1e-6, rtol=0)
    scan = heads[0].parent / "data" / "case0_flair.nii.gz"
    (result,) = segment(adapted / "best.safetensors", [scan], tmp_path / "masks", device="cpu", precision="fp32")
    assert not result.problem
    exported = export(adapted / "best.safetensors", tmp_path / "shared", name="a", nnunet=True)
    assert {"a.safetensors", "a-nnunet.pth", "a-nnunet.json"} <= set(exported.files)
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "-pretrained_weights a-nnunet.pth" in card
    assert "pip install dynamic-network-architectures" in card


def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(corpus_path, tmp_path):
    network = {"architecture": "resenc", "width": 2}
    whole = load_checkpoint(trained(corpus_path, tmp_path / "whole", network, steps=2))
    trained(corpus_path, tmp_path / "parts", network)
    parts = load_checkpoint(trained(corpus_path, tmp_path / "parts", network, steps=2, resume=True))
    assert whole.record == parts.record
    assert same(whole.trained, parts.trained)
    assert same(whole.network, parts.network)
    assert not same(whole.trained, whole.network)  # it is averaged
    with pytest.raises(CheckpointError, match=r"network\.architecture = resenc, not unet"):
        trained(corpus_path, tmp_path / "parts", {"width": 2}, steps=2, resume=True)


def test_from_scratch_it_is_planned_for_the_scans(heads, tmp_path):
    settings = Finetune(network={"architecture": "plainconv", "width": 2, "norm": "batch"}, schedule=ONCE)
    finetune(None, heads[1], "heads", tmp_path / "run", settings, size=16)
    record = load_checkpoint(tmp_path / "run" / "last.safetensors").record
    assert record.network["topology"]["features"] == [2, 4, 8]
    assert record.settings["network"]["topology"] == record.network["topology"]
    with pytest.raises(SettingsError, match="brings its own network"):
        finetune(tmp_path / "run" / "last.safetensors", heads[1], "heads", tmp_path / "more", settings)


def test_a_plan_says_which_network_and_what_is_given_beside_it_must_agree(corpus_path, tmp_path):
    plans = write_plan(tmp_path / "plans.json", small("plainconv", 32, (1, 3, 1), width=2), order=(1, 0, 2))
    network = network_given(None, plans, "3d_fullres", None, None)
    record = load_checkpoint(trained(corpus_path, tmp_path / "run", network)).record
    assert record.network["topology"] == json.loads(Network(**network).model_dump_json())["topology"]
    exported = export(tmp_path / "run" / "last.safetensors", tmp_path / "shared", nnunet=True, plans=plans)
    assert any(name.endswith("-nnunet.pth") for name in exported.files)
    for given in (("resenc", None, None), (None, 8, None), (None, None, "batch")):
        with pytest.raises(SettingsError, match="leave it out"):
            network_given(given[0], plans, "3d_fullres", *given[1:])
    assert network_given("resenc", None, "3d_fullres", None, "batch") == {"architecture": "resenc", "norm": "batch"}


def test_other_papers_tasks_keep_the_papers_network():
    settings = Pretrain(proxy="rotation", network={"architecture": "resenc"})
    with pytest.raises(SettingsError, match="--network resenc: belongs to --proxy layers"):
        proxy_of(settings, 32)


def test_a_record_whose_network_cannot_be_is_refused(tmp_path):
    network = network_of(small("plainconv", 32, width=2))
    told = network.settings.model_dump(mode="json")
    path = tmp_path / "a.safetensors"
    for changed, size, said in (
        ({"topology": None}, 32, "plainconv without a topology"),
        ({"topology": {**told["topology"], "strides": [[1, 1, 1]] + [[4, 4, 4]] * 3}}, 32, "multiple of 64"),
        ({"topology": {**told["topology"], "features": [10**6] * 4}}, 32, "do not fit"),
        ({"topology": {**told["topology"], "blocks": [2, 2, 2, 3]}}, 32, "is missing"),
        ({"architecture": "resenc"}, 32, "is missing|no place"),
    ):
        save_checkpoint(path, replace(RECORD, network={**told, **changed}, size=size), network)
        with pytest.raises(CheckpointError, match=said) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)
    save_checkpoint(path, replace(RECORD, network=told, size=32), network)
    load_checkpoint(path)
    with safe_open(path, framework="pt") as file:
        assert len(list(file.keys())) == len(network.state_dict())
