import pytest
import torch

from tests.made.tiny_checkpoint import RECORD
from train.network.averaging import Average
from train.network.checkpoint import network_sha256, save_checkpoint
from train.network.unet import UNet
from train.proxies.recorded import load_checkpoint, load_network
from train.settings import Network


def network(seed=0, norm="batch"):
    torch.manual_seed(seed)
    return UNet(Network(width=2, norm=norm))


def numbers(network):
    return {name: value.clone() for name, value in network.state_dict().items() if value.is_floating_point()}


def change(network, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value += torch.randn(value.shape, generator=generator).abs()


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_that_of_a_slow_reference(decay):
    trained = network().to(memory_format=torch.channels_last_3d)
    average, slow = Average(trained, decay), {name: v.double() for name, v in numbers(trained).items()}
    for step in range(1, 30):
        change(trained, step)
        average.update(step)
        left = min(decay, (1 + step) / (10 + step))
        for name, value in numbers(trained).items():
            slow[name] = left * slow[name] + (1 - left) * value
    for name, value in numbers(average.network).items():
        torch.testing.assert_close(value.double(), slow[name], rtol=1e-5, atol=1e-6)


def test_what_is_trained_stays_as_it_is_and_takes_its_gradients_alone():
    trained = network()
    average, before = Average(trained, 0.9), numbers(trained)
    average.update(1)
    assert all(torch.equal(before[name], value) for name, value in numbers(trained).items())
    torch.cat(trained(torch.randn(1, 1, 16, 16, 16))).sum().backward()
    assert all(p.grad is None for p in average.network.parameters())
    assert trained.training
    assert not average.network.training


def test_who_reads_a_checkpoint_gets_the_average_and_a_training_both(tmp_path):
    path, trained = tmp_path / "last.safetensors", network(0)
    average = network(1)
    save_checkpoint(path, RECORD, trained, average=average)
    saved = load_checkpoint(path)
    assert all(torch.equal(saved.network[name], value) for name, value in average.state_dict().items())
    assert all(torch.equal(saved.trained[name], value) for name, value in trained.state_dict().items())
    record, used = load_network(path)
    assert network_sha256(record, used) == network_sha256(record, average) != network_sha256(record, trained)


def test_without_an_average_what_was_trained_is_what_is_used(tmp_path):
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, RECORD, network(0))
    saved = load_checkpoint(path)
    assert saved.network == saved.trained
