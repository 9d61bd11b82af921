from dataclasses import replace

import numpy as np
import pytest
import torch

from scans.errors import CheckpointError
from tests.made.real_scans import write_case, write_catalog
from tests.made.tiny_corpus import TinyCorpus
from train.cases.prepared import RealScan
from train.data.split import split_by_source
from train.inference.reading import recorded_readings
from train.network import hardware
from train.network.losses import composition_loss, decomposition_loss, pseudo_label_loss
from train.network.unet import Layers
from train.presets import settings_of
from train.proxies.recorded import load_checkpoint
from train.settings import Adapt, Pretrain, Schedule
from train.stages.adapt import Adaptation, adapt, mixed_loss, sure_voxels
from train.stages.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("undrawn")


def task(share=0.5, batch=4):
    corpus = TinyCorpus()
    split = split_by_source(corpus, [], 0, 4)
    scans = [RealScan(str(i), np.full((1, 16, 16, 16), i, np.float32), None, (1.0, 1.0, 1.0)) for i in range(3)]
    return Adaptation(corpus, split, scans, Adapt(real_share=share, schedule=Schedule(batch=batch)))


@pytest.mark.parametrize(("share", "real"), [(0.5, 2), (0.01, 1), (1.0, 4)])
def test_each_batch_mixes_real_and_synthetic_by_the_share(share, real):
    batch = next(iter(task(share).batches(range(1))))
    assert len(batch.real) == real
    assert len(batch.composite) == 4
    assert torch.equal(batch.composite[-real:], batch.real)


def test_real_scans_are_scored_by_their_composition_alone_with_alpha_1():
    adaptation = task()
    batch = next(iter(adaptation.batches(range(1))))
    layers = Layers(*torch.randn(3, 4, 1, 16, 16, 16))
    real = composition_loss(Layers(*(c[2:] for c in layers)), batch.real, torch.ones(2))
    synthetic = decomposition_loss(Layers(*(c[:2] for c in layers)), batch.synthetic, adaptation.settings.loss)
    total = adaptation.loss(layers, batch)["total"]
    assert float(total) == pytest.approx(float(real + synthetic["total"]), rel=1e-5)


def test_batches_are_a_function_of_the_step():
    whole, part = list(task().batches(range(6))), list(task().batches(range(4, 6)))
    assert all(torch.equal(a.composite, b.composite) for a, b in zip(whole[4:], part, strict=True))


def test_a_pretrained_network_is_continued_on_real_scans(corpus_path, tmp_path):
    for seed in range(2):
        write_case(tmp_path / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    catalog.write_text(catalog.read_text(encoding="utf-8").replace("brain", "test"))
    schedule = Schedule(steps=2, checkpoint_every=2, device="cpu")
    pretrained = tmp_path / "first" / "last.safetensors"
    pretrain(corpus_path, tmp_path / "first", Pretrain(network={"width": 2}, schedule=schedule, validation_samples=2))
    outcome = adapt(
        pretrained, corpus_path, catalog, "heads", tmp_path / "run", Adapt(schedule=schedule, validation_samples=2)
    )
    assert outcome.step == 2
    record = load_checkpoint(tmp_path / "run" / "best.safetensors").record
    assert record.stage == "adapt"
    assert record.data["scans"] == ["case0", "case1"]
    assert record.data["began_from"] == "last.safetensors"
    told = {"licence": "CC0", "terms": "none", "citation": "nobody", "redistribute_derived": True}
    assert record.data["datasets"] == [{"dataset": "heads", "stage": "adapt", **told, "scans": ["case0", "case1"]}]
    before = load_checkpoint(pretrained).record
    assert record.threshold == before.threshold
    assert record.reading is not None, "its own, chosen at its own end"
    assert recorded_readings(record.reading, "here").samples == (2,)


class StoppedError(Exception):
    """A training is stopped from outside."""


def stop_in_step_3(step, shown):
    if step == 3:
        raise StoppedError


@pytest.mark.parametrize("preset", ["none", "robust"])
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(corpus_path, tmp_path, preset):
    for seed in range(3):
        write_case(tmp_path / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    catalog.write_text(catalog.read_text(encoding="utf-8").replace("brain", "test"), encoding="utf-8")
    schedule = {"steps": 1, "checkpoint_every": 1, "device": "cpu"}
    values = {"network": {"width": 2}, "schedule": schedule, "validation_samples": 1}
    first = tmp_path / "first" / "last.safetensors"
    pretrain(corpus_path, tmp_path / "first", settings_of(Pretrain, preset, values, "here"))

    def run(out, **more):
        values = {
            "schedule": {**schedule, "steps": 4},
            "validation_samples": 1,
            "self_training": 1.0,
            "confidence": 0.51,
            "recombine": True,
        }
        settings = settings_of(Adapt, preset, values, "here")
        adapt(first, corpus_path, catalog, "heads", tmp_path / out, settings, **more)
        return load_checkpoint(tmp_path / out / "last.safetensors")

    whole = run("whole")
    with pytest.raises(StoppedError):
        run("parts", report=stop_in_step_3)
    assert load_checkpoint(tmp_path / "parts" / "last.safetensors").record.step == 2
    parts = run("parts", resume=True)
    for kind in ("network", "trained", "optimiser"):
        ours, theirs = getattr(whole, kind), getattr(parts, kind)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    averaged = any(not torch.equal(whole.network[name], whole.trained[name]) for name in whole.network)
    assert averaged == (preset == "robust")


def test_what_pretraining_held_out_stays_held_out(corpus_path, tmp_path):
    write_case(tmp_path / "data", "case0", spacing_mm=(4.0, 4.0, 4.0))
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    catalog.write_text(catalog.read_text(encoding="utf-8").replace("brain", "test"), encoding="utf-8")
    schedule = Schedule(steps=1, checkpoint_every=1, device="cpu")
    for source in ("made--case0", "made--case2"):
        settings = Pretrain(network={"width": 1}, schedule=schedule, validation_samples=1, validation_sources=(source,))
        pretrain(corpus_path, tmp_path / source, settings)
        started = tmp_path / source / "last.safetensors"
        adapted = tmp_path / f"{source}-adapted"
        adapt(started, corpus_path, catalog, "heads", adapted, Adapt(schedule=schedule, validation_samples=1))
        assert load_checkpoint(adapted / "last.safetensors").record.data["held_out"] == [source]


def test_a_checkpoint_of_another_size_is_refused(corpus_path, tmp_path):
    from tests.made.tiny_checkpoint import save_bright

    init = save_bright(tmp_path / "best.safetensors", size=16)
    with pytest.raises(CheckpointError, match="16 voxels"):
        adapt(init, corpus_path, tmp_path / "c.yaml", "heads", tmp_path / "run", Adapt())


def test_self_training_learns_from_sure_voxels_alone():
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 4, 4, 4, requires_grad=True)
    sure = torch.randint(0, 3, (2, 1, 4, 4, 4)).to(torch.uint8)
    loss = pseudo_label_loss(logits, sure)
    loss.backward()
    expected = []
    for each, labels in zip(logits.detach(), sure, strict=True):
        probability, known = torch.sigmoid(each[labels != 2]), labels[labels != 2].float()
        entropy = -(known * probability.log() + (1 - known) * (1 - probability).log()).mean()
        overlap = (2 * (probability * known).sum() + 1) / (probability.sum() + known.sum() + 1)
        expected.append(entropy + 1 - overlap)
    assert float(loss.detach()) == pytest.approx(float(sum(expected) / 2), rel=1e-5)
    assert not logits.grad[sure == 2].any()
    assert logits.grad[sure != 2].all()


def test_what_counts_as_sure_and_a_scan_without_a_sure_tumour_teaches_nothing():
    from tests.made.tiny_checkpoint import bright_network

    machine = hardware.choose("cpu", "fp32")
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 16, 16, 16)).astype(np.float32)
    with_tumour = noise.copy()
    with_tumour[0, 4:10, 4:10, 4:10] = 8
    scans = [RealScan(name, scan, None, (1.0, 1.0, 1.0)) for name, scan in (("with", with_tumour), ("without", noise))]
    network = bright_network()
    found, nothing = sure_voxels(network, machine, scans, 0.9)
    with torch.no_grad():
        probability = network(torch.from_numpy(with_tumour)[None]).logits.sigmoid()[0, 0].numpy()
    np.testing.assert_array_equal(found == 1, probability >= 0.9)
    np.testing.assert_array_equal(found == 0, probability <= 0.1)
    assert (found == 1).sum() >= 8
    assert (nothing == 2).all()
    # Such a scan adds nothing to the loss, nor to its gradient.
    logits = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    loss = pseudo_label_loss(logits, torch.from_numpy(nothing)[None, None])
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert not logits.grad.any()


def test_self_training_joins_the_other_losses_by_its_weight():
    adaptation = task()
    settings = adaptation.settings.model_copy(update={"self_training": 0.5})
    batch = next(iter(adaptation.batches(range(1))))
    sure = torch.randint(0, 3, batch.real.shape).to(torch.uint8)
    layers = Layers(*torch.randn(3, 4, 1, 16, 16, 16))
    without = mixed_loss(layers, batch, settings)
    terms = mixed_loss(layers, replace(batch, sure=sure), settings)
    assert float(terms["total"]) == pytest.approx(float(without["total"] + 0.5 * terms["self_training"]), rel=1e-5)
