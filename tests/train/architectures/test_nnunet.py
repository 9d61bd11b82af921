import importlib.util

import pytest
import torch

from tests.made.nnunet_plans import network_of, small
from train.architectures import nnunet
from train.architectures.choice import FIRST_CONVOLUTION, described, side_step
from train.network.unet import UNet
from train.settings import Network, SettingsError

KINDS = pytest.mark.parametrize("architecture", ["plainconv", "resenc"])


@KINDS
def test_each_weight_has_one_name_and_takes_part(architecture):
    network = network_of(small(architecture, norm="batch", in_channels=2))
    state = network.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    assert state[FIRST_CONVOLUTION[architecture]].shape[1] == 2
    torch.cat(network.train()(torch.randn(2, 2, 16, 16, 16)), dim=1).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@KINDS
def test_the_features_are_those_of_nnunets_own_network(architecture):
    settings = small(architecture, 32, (1, 3, 1))
    torch.manual_seed(0)
    theirs = nnunet.whole(architecture, settings.topology, "instance", 1)
    torch.manual_seed(0)
    ours = UNet(settings)
    with torch.no_grad():
        ours.head.weight[:1] = theirs.decoder.seg_layers[-1].weight
        ours.head.bias[:1] = theirs.decoder.seg_layers[-1].bias
        scan = torch.randn(1, 1, 32, 32, 32)
        torch.testing.assert_close(ours(scan).normal, theirs(scan))


def test_a_missing_package_is_told_in_a_sentence_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install dynamic-network-architectures"):
        UNet(small("plainconv"))
    UNet(Network(width=2))  # the paper's needs nothing


def test_without_a_topology_nothing_is_built():
    with pytest.raises(SettingsError, match="no topology"):
        UNet(Network(architecture="resenc"))
    with pytest.raises(ValueError, match="not of unet"):
        Network(topology=small("resenc").topology)


def test_a_side_is_a_multiple_of_all_strides_and_of_8():
    assert side_step(Network()) == side_step(small("plainconv", 16)) == side_step(small("plainconv", 24)) == 8
    assert side_step(small("plainconv", 128)) == 32


def test_a_network_is_described_by_its_stages():
    assert described(Network(width=8)) == "3D UNet, width 8"
    assert described(small("resenc", 32)) == "nnU-Net's residual encoder 3D UNet, 4 stages of 4 to 32 features"
