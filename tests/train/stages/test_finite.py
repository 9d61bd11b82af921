import json

import pytest
import torch

from scans.errors import CheckpointError
from tests.made.batches import collate
from tests.made.commands import train
from tests.made.tiny_corpus import TinyCorpus
from train.data.batch import Batch
from train.network.losses import decomposition_loss, dice_loss, pseudo_label_loss
from train.network.unet import UNet
from train.proxies.recorded import load_checkpoint
from train.settings import Loss, Network, Pretrain, Schedule, SettingsError
from train.stages.finite import FiniteWatch
from train.stages.pretrain import pretrain
from train.stages.replay import replay

pytestmark = pytest.mark.usefixtures("undrawn")


def without_tumour(batch):
    return Batch(batch.normal, batch.normal, batch.texture * 0, batch.mask * 0, batch.alpha)


def one_voxel(batch):
    mask = batch.mask * 0
    mask[:, :, 8, 8, 8] = 1
    return Batch(batch.composite, batch.normal, batch.texture * mask, mask, batch.alpha)


def one_without(batch):
    mask = batch.mask.clone()
    mask[0] = 0
    return Batch(batch.composite, batch.normal, batch.texture * mask, mask, batch.alpha)


def all_tumour(batch):
    return Batch(batch.composite, batch.normal, batch.composite, torch.ones_like(batch.mask), batch.alpha)


def saturated(batch):
    return Batch(batch.composite * 1e4, batch.normal * 1e4, batch.texture * 1e4, batch.mask, batch.alpha)


def constant(batch):
    zeros = torch.zeros_like(batch.composite)
    return Batch(zeros, zeros, zeros, batch.mask, batch.alpha)


@pytest.mark.parametrize("form", ["emphasised", "plain"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [without_tumour, one_without, one_voxel, all_tumour, saturated, constant])
def test_loss_and_gradient_are_finite(kind, precision, norm, form):
    torch.manual_seed(0)
    network = UNet(Network(width=2, norm=norm)).to(memory_format=torch.channels_last_3d)
    corpus = TinyCorpus(size=24)  # at 16 train itself keeps away from bf16 on a CPU
    batch = kind(collate([corpus[0], corpus[1]]))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        layers = network(batch.composite)
    terms = decomposition_loss(layers, batch, Loss(form=form))
    terms["total"].backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("logit", [-1e4, -88.0, 0.0, 88.0, 1e4])
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_mask_losses_are_finite_at_any_logit(logit, fill):
    logits = torch.full((2, 1, 4, 4, 4), logit, requires_grad=True)
    sure = torch.full((2, 1, 4, 4, 4), int(fill), dtype=torch.uint8)
    loss = dice_loss(logits, sure) + pseudo_label_loss(logits, sure) + pseudo_label_loss(logits, sure * 0 + 2)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_a_step_that_is_not_finite_changes_nothing_nor_do_those_after_it():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 3)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
    watch = FiniteWatch(network, optimiser, torch.device("cpu"))

    def step(number, factor):
        loss = (network(torch.ones(2, 3)) * factor).sum()
        optimiser.zero_grad()
        loss.backward()
        watch.look(number, loss)
        optimiser.step()

    def state():
        values = [p.detach().clone() for p in network.parameters()]
        return values + [v.clone() for s in optimiser.state.values() for v in s.values()]

    step(1, 1.0)
    before = state()
    assert watch.first() == 0
    for number, factor in ((2, float("nan")), (3, 1.0), (4, float("inf"))):
        step(number, factor)
    assert watch.first() == 2
    assert all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))


def test_fused_adam_takes_the_steps_of_the_plain_one():
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = UNet(Network(width=2)).to(memory_format=torch.channels_last_3d)
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)
        for seed in range(3):
            scan = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(seed))
            optimiser.zero_grad()
            torch.cat(network(scan)).square().mean().backward()
            optimiser.step()
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    # Biases before a norm have gradients of rounding alone, whose sign Adam follows.
    torch.testing.assert_close(weights[0], weights[1], atol=7e-3, rtol=0)
    assert (weights[0] - weights[1]).abs().median() < 1e-6


def diverging(corpus_path, out, **changed):
    schedule = Schedule(steps=8, checkpoint_every=1, device="cpu", learning_rate=1e30, precision="fp32")
    settings = Pretrain(network={"width": 2}, schedule=schedule, validation_samples=1, **changed)
    return pretrain(corpus_path, out, settings)


@pytest.mark.parametrize("recombine", [False, True])
def test_a_training_that_diverges_leaves_its_step_to_be_replayed(corpus_path, tmp_path, recombine):
    out = tmp_path / "run"
    with pytest.raises(SettingsError, match="not finite at step 2") as told:
        diverging(corpus_path, out, recombine=recombine)
    assert f"train replay {out}" in str(told.value)
    (found,) = replay(out)
    assert found.step == 2
    assert len(found.samples) == 2
    assert "donor" in found.samples[0]
    assert found.samples[0]["input"].startswith("finite")
    assert not found.attempts[-1].finite
    assert "lower --learning-rate" in found.verdict()
    kept = json.loads((out / "nonfinite" / "batch-0.json").read_text(encoding="utf-8"))
    name = "step" if recombine else "sample"
    assert [sample[name] for sample in kept["samples"]] == [sample[name] for sample in found.samples]
    # What the training would go on from is what it had before.
    before = load_checkpoint(out / "last.safetensors").network
    kept = load_checkpoint(out / "nonfinite" / "network.safetensors", finite=False).network
    parameters = [name for name in before if "running" not in name and "tracked" not in name]
    assert all(torch.equal(before[name], kept[name]) for name in parameters)


def test_replay_is_told_in_the_terminal_and_without_anything_kept_in_a_sentence(corpus_path, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(CheckpointError, match="no step to replay"):
        replay(out)
    with pytest.raises(SettingsError):
        diverging(corpus_path, out)
    result = train("replay", out, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert "step 2, process 0" in result.stdout
    assert "fp32" in result.stdout
    (out / "nonfinite" / "batch-0.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="damaged"):
        replay(out)
