import numpy as np
import pytest
import torch
from real_scans import write_case, write_catalog
from tiny_corpus import TinyCorpus

from scans.errors import CheckpointError
from train.adapt import Adaptation, adapt
from train.cases import RealScan
from train.checkpoint import load_checkpoint
from train.losses import composition_loss, decomposition_loss
from train.pretrain import pretrain
from train.settings import Adapt, Pretrain, Schedule
from train.split import split_by_source
from train.unet import split_layers


def task(share=0.5, batch=4):
    corpus = TinyCorpus()
    split = split_by_source(corpus, [], 0, 4)
    scans = [RealScan(str(i), np.full((1, 16, 16, 16), i, np.float32), None) for i in range(3)]
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
    output = torch.randn(4, 3, 16, 16, 16)
    layers = split_layers(output)
    real = composition_loss(type(layers)(*(c[2:] for c in layers)), batch.real, torch.ones(2))
    synthetic = decomposition_loss(type(layers)(*(c[:2] for c in layers)), batch.synthetic, adaptation.settings.loss)
    total = adaptation.loss(output, batch)["total"]
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
    told = {"licence": "CC0", "terms": "none", "citation": "nobody", "redistribute_derived": True}
    assert record.data["datasets"] == [{"dataset": "heads", "stage": "adapt", **told, "scans": ["case0", "case1"]}]
    before = load_checkpoint(pretrained).record
    assert record.threshold == before.threshold


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
    from tiny_checkpoint import save_bright

    init = save_bright(tmp_path / "best.safetensors", size=16)
    with pytest.raises(CheckpointError, match="16 voxels"):
        adapt(init, corpus_path, tmp_path / "c.yaml", "heads", tmp_path / "run", Adapt())
