import pytest
import torch

from train.network.unet import UNet
from train.settings import Network


def test_parameter_count_is_models_genesis():
    network = UNet(Network(width=32))
    assert sum(p.numel() for p in network.parameters()) == 19_073_795


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("side", [16, 24])
def test_output_has_three_layers_on_the_input_grid(norm, side):
    network = UNet(Network(width=2, norm=norm))
    layers = network(torch.randn(2, 1, side, side, side))
    assert [layer.shape for layer in layers] == [(2, 1, side, side, side)] * 3


def test_each_modality_has_its_two_layers_and_all_share_one_mask():
    network = UNet(Network(width=2, in_channels=3))
    layers = network(torch.randn(2, 3, 16, 16, 16))
    assert layers.normal.shape == layers.texture.shape == (2, 3, 16, 16, 16)
    assert layers.logits.shape == (2, 1, 16, 16, 16)


def test_layers_are_float32_whatever_the_network_ran_in():
    with torch.autocast("cpu", torch.bfloat16):
        layers = UNet(Network(width=2))(torch.randn(1, 1, 16, 16, 16))
    assert all(layer.dtype == torch.float32 for layer in layers)


def test_mask_bias_sets_the_first_probability():
    network = UNet(Network(width=2, mask_bias=-4.0))
    with torch.no_grad():
        network.head.weight.zero_()
        logits = network(torch.randn(1, 1, 16, 16, 16)).logits
    torch.testing.assert_close(logits, torch.full_like(logits, -4.0))


def test_every_parameter_but_biases_before_a_norm_gets_a_gradient():
    network = UNet(Network(width=2))
    torch.cat(network(torch.randn(2, 1, 16, 16, 16))).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
