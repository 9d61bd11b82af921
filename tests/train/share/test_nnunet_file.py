"""Weights for nnU-Net, against its own networks as its package builds them from a plan."""

import io
import json
import pydoc

import pytest
import torch

from scans.errors import UserError
from tests.made.nnunet_plans import network_of, small, write_plan
from train.architectures.plans import read_plan
from train.network.symmetry import seen
from train.network.unet import UNet
from train.settings import Network, SettingsError
from train.share.nnunet_file import to_nnunet

KINDS = pytest.mark.parametrize("architecture", ["plainconv", "resenc"])


def built_by_nnunet(made, channels=1):
    """Build the network of a configuration as nnU-Net does, and load the weights as it does."""
    architecture = json.loads(made.configuration)["3d_fullres_layered"]["architecture"]
    given = dict(architecture["arch_kwargs"])
    for name in architecture["_kw_requires_import"]:
        given[name] = pydoc.locate(given[name]) if given[name] else None
    network = pydoc.locate(architecture["network_class_name"])(input_channels=channels, num_classes=2, **given)
    weights = torch.load(io.BytesIO(made.content), weights_only=True)["network_weights"]
    state = network.state_dict()
    for name, tensor in state.items():
        if ".seg_layers." not in name:
            assert weights[name].shape == tensor.shape, name
    network.load_state_dict({**state, **weights})
    return network.eval()


def features_of(network, scan):
    """Return what its head would see."""
    kept = []
    network.decoder.seg_layers[-1].register_forward_hook(lambda module, inputs, output: kept.append(inputs[0]))
    network(scan)
    return kept[0]


@KINDS
@torch.no_grad()
def test_nnunets_network_finds_the_same_features_with_its_axes_turned(architecture):
    norm = {"plainconv": "batch", "resenc": "instance"}[architecture]
    network = network_of(small(architecture, 16, (1, 1, 3), norm=norm))  # nnU-Net puts x first
    made = to_nnunet(network, 16)
    assert to_nnunet(network, 16).content == made.content
    scan, network = torch.randn(1, 1, 16, 16, 16).double(), network.double()  # sums run in another order
    ours = network.decoder(network.encoder(scan))
    theirs = features_of(built_by_nnunet(made).double(), scan.permute(0, 1, 4, 2, 3))
    torch.testing.assert_close(theirs.permute(0, 1, 3, 4, 2), ours)
    (head,) = made.notes
    assert "head stays behind" in head


@torch.no_grad()
def test_a_scan_like_its_mirror_image_is_seen_as_before():
    network = network_of(small("plainconv", in_channels=2, mirror="x"))
    made = to_nnunet(network, 16)
    half = torch.randn(1, 2, 16, 16, 8)
    scan = torch.cat([half, half.flip(4)], 4)
    assert torch.equal(seen(scan, 2, "x")[:, 2:], scan)
    ours = network.decoder(network.encoder(network.sight(scan)))
    torch.testing.assert_close(features_of(built_by_nnunet(made, 2), scan), ours, rtol=1e-4, atol=1e-4)
    assert "mirror image are added" in made.notes[1]


@torch.no_grad()
def test_a_plan_of_more_channels_is_shown_copies_of_one(tmp_path):
    network = network_of(small("resenc"))
    made = to_nnunet(network, 16, read_plan(write_plan(tmp_path / "plans.json", network.settings, channels=4)))
    scan = torch.randn(1, 1, 16, 16, 16)
    theirs = features_of(built_by_nnunet(made, 4), scan.repeat(1, 4, 1, 1, 1))
    torch.testing.assert_close(theirs, network.decoder(network.encoder(scan)), rtol=1e-4, atol=1e-4)
    assert "4 channels and the network 1" in made.notes[1]


def test_a_plan_of_another_network_and_the_papers_network_are_refused(tmp_path):
    network = network_of(small("plainconv"))
    for other, said in ((small("resenc"), "architecture resenc"), (small("plainconv", width=8), "features")):
        with pytest.raises(SettingsError, match=said):
            to_nnunet(network, 16, read_plan(write_plan(tmp_path / "plans.json", other)))
    with pytest.raises(UserError, match="paper's UNet"):
        to_nnunet(UNet(Network(width=2)), 16)
