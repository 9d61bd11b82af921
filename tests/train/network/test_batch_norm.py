import copy

import pytest
import torch
from torch import nn

from synth.corpus import Corpus
from tests.made.batches import collate
from train.data.feed import Feed
from train.data.split import split_by_source
from train.network.batch_norm import BATCHES, has_running_statistics, renew
from train.network.hardware import PLAIN
from train.network.unet import UNet
from train.proxies.recorded import load_checkpoint
from train.settings import Network, Pretrain, Schedule
from train.stages.decomposition import Decomposition
from train.stages.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("undrawn")

SETTINGS = Pretrain(
    network={"width": 2},
    schedule=Schedule(steps=3, checkpoint_every=2, device="cpu", precision="fp32", compile="off"),
    validation_samples=2,
)


def task_on(corpus):
    return Decomposition(corpus, split_by_source(corpus, (), 0, 2), SETTINGS)


def first_norm(network):
    return next(module for module in network.modules() if isinstance(module, nn.BatchNorm3d))


def test_statistics_are_the_means_over_batches_and_nothing_else_changes(corpus_path):
    torch.manual_seed(0)
    network = UNet(SETTINGS.network).eval()
    weights = copy.deepcopy(dict(network.named_parameters()))
    renew(network, task_on(Corpus(corpus_path)).batches(range(5)), PLAIN)

    means, variances = [], []
    with torch.no_grad():
        for batch in task_on(Corpus(corpus_path)).batches(range(5)):
            seen = network.encoder.levels[0][0](batch.composite)
            means.append(seen.mean((0, 2, 3, 4)))
            variances.append(seen.var((0, 2, 3, 4)))
    norm = first_norm(network)
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not network.training
    assert all(torch.equal(weights[name], value) for name, value in network.named_parameters())


def test_a_checkpoint_has_the_statistics_of_the_batches_that_come_next(corpus_path, tmp_path, monkeypatch):
    monkeypatch.setattr("train.stages.loop.BATCHES", BATCHES)  # tests take fewer
    pretrain(corpus_path, tmp_path / "run", SETTINGS)
    saved = load_checkpoint(tmp_path / "run" / "last.safetensors").network
    network = PLAIN.place(UNet(SETTINGS.network))
    network.load_state_dict(saved)
    renew(network, task_on(Corpus(corpus_path)).batches(range(3, 3 + BATCHES)), PLAIN)
    for name, value in network.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(value, saved[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("norm", "has"), [("batch", True), ("instance", False)])
def test_instance_norm_has_none(norm, has):
    assert has_running_statistics(UNet(Network(width=2, norm=norm))) is has


def test_batches_read_in_between_leave_those_of_a_training_alone(corpus_path, dense_path):
    for path in (corpus_path, dense_path):
        corpus = Corpus(path)
        training = task_on(corpus)
        for step, batch in enumerate(training.batches(range(6))):
            assert torch.equal(batch.composite, collate([corpus[n] for n in training.numbers(step)]).composite)
            between = [seen.composite.clone() for seen in training.batches(range(20, 23))]
            assert torch.equal(between[1], collate([corpus[n] for n in training.numbers(21)]).composite)


def test_memory_is_used_again_once_a_reader_has_finished(corpus_path):
    corpus = Corpus(corpus_path)
    feed = Feed(corpus.read, corpus.size, 1, 2, 1, torch.device("cpu"))
    pointers = [{batch.composite.data_ptr() for batch in feed.batches([[0, 1]] * 4)} for _ in range(3)]
    assert pointers[0] == pointers[1] == pointers[2]
