import pytest
import torch
from torch import nn

from train.architectures.instance_norm import InstanceNorm, by_sums
from train.network.hardware import PLAIN
from train.network.unet import UNet
from train.settings import Network

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def batch(layout, count=3):
    """Return scans with a mean and a deviation of their own, as far from 0 as features are."""
    generator = torch.Generator().manual_seed(0)
    wide = 3 * torch.rand((count, 5, 1, 1, 1), generator=generator)
    scans = torch.randn((count, 5, 6, 8, 10), generator=generator) * wide + 2
    return scans.contiguous(memory_format=layout).requires_grad_()


def both(ours):
    """Return torch's InstanceNorm and ours, with the same weights, which are not 1 and 0."""
    plain = nn.InstanceNorm3d(5, affine=True)
    with torch.no_grad():
        plain.weight.copy_(torch.linspace(0.5, 2, 5))
        plain.bias.copy_(torch.linspace(1, -1, 5))
    ours.load_state_dict(plain.state_dict())
    return plain, ours


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("how", ["scans", "sums"])
def test_values_and_gradients_are_those_of_torchs_own_to_rounding(layout, count, how):
    plain, ours = both(InstanceNorm(5))
    found = []
    for norm in (plain, ours):
        scans = batch(layout, count)
        sums = norm is ours and how == "sums"
        normed = by_sums(scans, ours.weight, ours.bias, ours.eps) if sums else norm(scans)
        (normed.square() * torch.linspace(0, 1, 10)).sum().backward()
        found.append((normed, scans.grad, norm.weight.grad, norm.bias.grad))
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=3e-5 * wanted.abs().max().item())


def test_a_batch_keeps_its_layout_forth_and_back():
    scans = batch(torch.channels_last_3d)
    normed = InstanceNorm(5)(scans)
    assert normed.is_contiguous(memory_format=torch.channels_last_3d)
    (gradient,) = torch.autograd.grad(normed.square().sum(), scans)
    assert gradient.is_contiguous(memory_format=torch.channels_last_3d)


def test_gradients_are_right_in_double_precision():
    scans = batch(torch.contiguous_format, 2).detach()[:, :2, :2, :2, :3].double().requires_grad_()
    norm = InstanceNorm(2).double()

    def normed(scans, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (scans,))

    assert torch.autograd.gradcheck(normed, (scans, norm.weight, norm.bias))


def test_a_single_voxel_is_refused_as_torch_does():
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        InstanceNorm(5)(torch.ones(1, 5, 1, 1, 1))


def test_a_network_of_instance_norms_has_torchs_keys_and_is_channels_last_on_a_cpu():
    network = UNet(Network(width=2, norm="instance"))
    keys = set(network.state_dict())
    PLAIN.place(network)
    convolution = network.encoder.levels[0][0]
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last_3d)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, InstanceNorm):
                setattr(module, name, nn.InstanceNorm3d(child.num_features, affine=True))
    assert set(network.state_dict()) == keys
