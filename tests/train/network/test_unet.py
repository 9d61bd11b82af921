import pytest
import torch

from train.architectures.zhang import Pool
from train.network.symmetry import seen
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


def test_a_network_that_sees_mirror_images_gives_the_layers_of_its_modalities_from_scans_alone_or_with_them():
    torch.manual_seed(0)
    network = UNet(Network(width=2, in_channels=2, mirror="x")).eval()
    scan = torch.randn(2, 2, 16, 24, 16)
    with torch.no_grad():
        alone, together = network(scan), network(seen(scan, 2, "x"))
    assert [layer.shape[1] for layer in alone] == [2, 2, 1]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    plain = UNet(Network(width=2, in_channels=2)).state_dict()
    assert plain.keys() == network.state_dict().keys()  # an encoder can be carried from one to the other


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_pooled_is_the_same_to_the_bit_where_gradients_are_needed_and_where_not(precision):
    features = torch.randn(2, 5, 6, 7, 8, generator=torch.Generator().manual_seed(0)).to(precision)
    features[0, 0, 2, 2, 2] = float("nan")
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        pooled = Pool(2)(given := features.to(memory_format=layout))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            quick = Pool(2)(given)
        torch.testing.assert_close(quick, pooled, rtol=0, atol=0, equal_nan=True)
