"""A network that sees mirror images, through everything that is done with one."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scans.errors import CheckpointError
from scans.image.volume import read_mask, write_volume
from synth.convert.merge import merged
from synth.corpus import Corpus
from synth.sources.format import settings_sha256
from synth.sources.reader import SourceStore
from tests.made.corpora import make_corpus, pick_store
from tests.made.modality_pairs import write_pair, write_pairs_catalog
from tests.made.real_scans import head, write_case, write_catalog
from tests.made.sources import REGION
from tests.made.tiny_checkpoint import save_bright
from tests.made.trainings import same
from train.architectures.choice import FIRST_CONVOLUTION
from train.cli.application import app
from train.evaluation.evaluate import evaluate
from train.inference.model import decompose, find_layers, load_model, prepare_for
from train.inference.sliding import slide, window_over
from train.network.channels import carry_encoder
from train.network.checkpoint import save_checkpoint
from train.network.dice import dice
from train.network.unet import UNet
from train.proxies.recorded import load_checkpoint, load_network
from train.segmentation.outputs import Options
from train.segmentation.segment import segment
from train.settings import Adapt, Finetune, Network, Pretrain, Schedule, SettingsError
from train.stages.adapt import adapt
from train.stages.finetune import finetune
from train.stages.pretrain import pretrain
from train.stages.replay import replay

pytestmark = pytest.mark.usefixtures("undrawn")

FIRST = FIRST_CONVOLUTION["unet"]
ONE_SIDE = (5, -12, 15)  # a tumour that does not reach the other
SYMMETRIC = REGION.model_copy(update={"symmetric": True})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("symmetric")
    return make_corpus(root / "corpus.zarr", pick_store(root / "sources.zarr", (0, 1, 2), SYMMETRIC))


def trained(corpus, out, steps=2, symmetry="auto", resume=False, **changed):
    schedule = Schedule(steps=steps, checkpoint_every=2, device="cpu")
    settings = Pretrain(network={"width": 2}, schedule=schedule, validation_samples=2, **changed)
    pretrain(corpus, out, settings, symmetry=symmetry, resume=resume)
    return load_checkpoint(out / "last.safetensors")


@pytest.fixture(scope="module")
def pretrained(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrained")
    trained(corpus, out, steps=4)
    return out / "last.safetensors"


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory):
    """Return a checkpoint that finds what is brighter than its counterpart on the other side."""
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors", network={"width": 2, "mirror": "x"})


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    for seed in range(3):
        write_case(root / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0), at_mm=ONE_SIDE)
    return write_catalog(root / "catalog.yaml", root / "data")


# Corpora stay as they are.


def test_a_corpus_and_its_sources_are_the_same_whether_their_region_is_symmetric_or_not(corpus, tmp_path):
    plain = make_corpus(tmp_path / "corpus.zarr", pick_store(tmp_path / "sources.zarr", (0, 1, 2)))
    one, other = Corpus(corpus), Corpus(plain)
    assert (one.region["symmetric"], other.region["symmetric"]) == (True, False)
    assert one.content_hash == other.content_hash
    assert settings_sha256(SYMMETRIC, 32) == settings_sha256(REGION, 32)
    assert len(merged([one, other], drop_duplicates=True)) == len(one)


def test_sources_from_before_the_field_are_read_and_added_to(tmp_path):
    path = pick_store(tmp_path / "sources.zarr", (0, 1))
    told = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    del told["attributes"]["region"]["symmetric"]
    (path / "zarr.json").write_text(json.dumps(told), encoding="utf-8")
    assert SourceStore(path).region == REGION
    pick_store(path, (2,), SYMMETRIC)
    assert len(SourceStore(path)) == 3


# Training.


def test_the_region_says_whether_mirror_images_are_seen_and_the_user_has_the_last_word(
    corpus, corpus_path, pretrained, tmp_path
):
    assert load_checkpoint(pretrained).record.network["mirror"] == "x"  # of itself
    assert trained(corpus, tmp_path / "off", symmetry="off").record.network["mirror"] is None
    assert trained(corpus_path, tmp_path / "plain").record.network["mirror"] is None
    assert trained(corpus_path, tmp_path / "on", symmetry="on").record.network["mirror"] == "x"


def test_a_proxy_task_sees_none(corpus, tmp_path):
    assert trained(corpus, tmp_path / "auto", proxy="rotation").record.network["mirror"] is None
    with pytest.raises(SettingsError, match="--symmetry on: belongs to --proxy layers"):
        trained(corpus, tmp_path / "on", symmetry="on", proxy="rotation")


def test_a_proxys_record_that_says_it_sees_mirror_images_is_damaged(corpus, tmp_path):
    saved = trained(corpus, tmp_path / "run", proxy="asc_net")
    record = replace(saved.record, network={**saved.record.network, "mirror": "x"})
    save_checkpoint(tmp_path / "a.safetensors", record, load_network(tmp_path / "run" / "last.safetensors")[1])
    with pytest.raises(CheckpointError, match="its record is damaged"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(corpus, pretrained, tmp_path):
    trained(corpus, tmp_path / "run", steps=2)
    resumed = trained(corpus, tmp_path / "run", steps=4, resume=True)
    whole = load_checkpoint(pretrained)
    assert same(whole.network, resumed.network)
    assert same(whole.optimiser, resumed.optimiser)
    with pytest.raises(CheckpointError, match=r"network\.mirror = x, not None"):
        trained(corpus, tmp_path / "run", steps=6, symmetry="off", resume=True)


def test_a_training_from_before_mirror_images_goes_on_without(corpus_path, tmp_path):
    trained(corpus_path, tmp_path / "run", symmetry=None)
    for name in ("last", "previous", "best"):
        if (path := tmp_path / "run" / f"{name}.safetensors").exists():
            record, network = load_network(path)
            del record.network["mirror"], record.settings["network"]["mirror"]
            optimiser = torch.optim.Adam(network.parameters())
            save_checkpoint(path, record, network, optimiser)
    assert trained(corpus_path, tmp_path / "run", steps=4, resume=True).record.step == 4


def test_a_step_that_went_wrong_is_done_once_more(corpus, tmp_path):
    schedule = Schedule(steps=9, checkpoint_every=9, device="cpu", learning_rate=1e30)
    settings = Pretrain(network={"width": 2}, schedule=schedule, validation_samples=2)
    with pytest.raises(SettingsError, match="not finite"):
        pretrain(corpus, tmp_path / "run", settings, symmetry="on")
    (found,) = replay(tmp_path / "run", "cpu")
    assert "not finite" in found.verdict()


def test_adaptation_goes_on_with_mirror_images(corpus, pretrained, heads, tmp_path):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(heads.read_text(encoding="utf-8").replace("brain", "test"), encoding="utf-8")
    settings = Adapt(
        schedule=Schedule(steps=2, checkpoint_every=2, device="cpu"),
        validation_samples=2,
        self_training=1.0,
        confidence=0.51,
    )
    assert adapt(pretrained, corpus, catalog, "heads", tmp_path / "run", settings).step == 2
    assert load_checkpoint(tmp_path / "run" / "best.safetensors").record.network["mirror"] == "x"


# Fine-tuning.


def test_fine_tuning_keeps_mirror_images_and_takes_other_modalities(lopsided, tmp_path):
    for seed in range(3):
        write_pair(tmp_path / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    catalog = write_pairs_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    schedule = Schedule(steps=1, learning_rate=1e-12, checkpoint_every=1, device="cpu", precision="fp32")
    finetune(lopsided, catalog, "heads", tmp_path / "run", Finetune(schedule=schedule), modalities=["T1", "FLAIR"])
    before, after = load_checkpoint(lopsided), load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert after.record.network["mirror"] == "x"
    assert after.record.network["in_channels"] == 2
    expected = before.network[FIRST].repeat_interleave(2, dim=1) / 2
    torch.testing.assert_close(after.network[FIRST], expected, atol=1e-6, rtol=0)


def test_an_encoder_turns_scans_and_mirror_images_alike():
    weight = torch.randn(2, 6, 3, 3, 3)
    turned = carry_encoder({FIRST: weight}, ["a", "b", "c"], ["c", "a", "b"])[FIRST]
    assert torch.equal(turned, weight[:, [2, 0, 1, 5, 3, 4]])
    fewer = carry_encoder({FIRST: weight}, ["a", "b", "c"], ["a", "d"])[FIRST]
    torch.testing.assert_close(fewer[:, :2].sum(1), weight[:, :3].sum(1))
    torch.testing.assert_close(fewer[:, 2:].sum(1), weight[:, 3:].sum(1))


# Use.


@pytest.mark.parametrize("options", [{}, {"flips": True}, {"window": "trained"}, {"window": "native"}])
def test_a_tumour_is_found_by_its_counterpart_and_what_both_sides_have_is_not(lopsided, tmp_path, options):
    scan, tumour, _ = head((3.0, 2.5, 2.0), at_mm=ONE_SIDE)
    both = scan.with_array(np.maximum(scan.array, scan.array[:, :, ::-1]))
    write_volume(scan, tmp_path / "one.nii.gz")
    write_volume(both, tmp_path / "two.nii.gz")
    paths = [tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"]
    one, two = segment(lopsided, paths, tmp_path / "out", device="cpu", precision="fp32", options=Options(**options))
    assert dice(read_mask(one.mask).array != 0, tumour.array != 0) > 0.85
    assert not read_mask(two.mask).array.any()


def test_where_the_organ_fits_into_the_cube_a_window_of_its_voxels_gives_the_cubes_layers(lopsided):
    model = load_model(lopsided, "cpu", "fp32")
    scan, _, _ = head((3.0, 2.5, 2.0), at_mm=ONE_SIDE)
    prepared = prepare_for(model, [scan], None, "a")
    whole, parts = decompose(model, prepared), slide(model, window_over([scan], prepared, native=False))
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-4)


def test_flips_turn_scan_and_mirror_image_together(tmp_path):
    torch.manual_seed(0)
    network = UNet(Network(width=2, mirror="x")).eval()
    path = tmp_path / "a.safetensors"
    save_bright(path, network={"width": 2, "mirror": "x"}, size=16)
    model = replace(load_model(path, "cpu", "fp32"), network=network)
    scan = torch.randn(1, 1, 16, 16, 16)
    both = model.seen(scan)
    expected = []
    for axes in ((), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)):
        with torch.inference_mode():
            layers = network(both.flip(axes))
        expected.append(torch.cat([layers.normal, layers.texture, layers.logits.sigmoid()], 1).flip(axes))
    torch.testing.assert_close(find_layers(model, scan, flips=True), torch.stack(expected).mean(0))
    torch.testing.assert_close(find_layers(model, both, flips=True), torch.stack(expected).mean(0))


def test_cases_are_scored_and_the_report_says_what_the_network_sees(lopsided, heads, tmp_path):
    evaluation = evaluate(lopsided, heads, "heads", tmp_path / "out")
    assert all(case.model.dice > 0.8 for case in evaluation.cases)
    assert "sees each scan" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_wrong_value_is_one_sentence(corpus, tmp_path):
    command = ["pretrain", "--corpus", str(corpus), "--out", str(tmp_path / "run"), "--symmetry", "maybe"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code != 0
    assert "auto, on, off" in str(result.exception or result.output)
