import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.batch import Batch
from train.network.losses import composition_loss, cross_entropy, decomposition_loss, dice_loss, layer_loss
from train.network.unet import Layers
from train.settings import Loss, SettingsError, loss_of, parse_weights


def random_batch(seed, fill=0.2, side=4, count=2):
    g = torch.Generator().manual_seed(seed)
    shape = (count, 1, side, side, side)
    normal = torch.randn(shape, generator=g)
    mask = (torch.rand(shape, generator=g) < fill).float()
    texture = mask * (2 + torch.randn(shape, generator=g))
    alpha = torch.rand(count, generator=g)
    a = alpha.view(-1, 1, 1, 1, 1)
    composite = (1 - a * mask) * normal + a * mask * texture
    return Batch(composite, normal, texture, mask, alpha), torch.randn(count, 3, side, side, side, generator=g)


def slow_losses(output, batch):
    """The equations, voxel by voxel."""
    n, _, *shape = output.shape
    plain0 = plain1 = inside0 = inside1 = dice = l3 = 0.0
    for i in range(n):
        voxels = in_mask = overlap = volumes = 0
        in0 = in1 = 0.0
        for z, y, x in np.ndindex(*shape):
            xh, sh, logit = (float(output[i, c, z, y, x]) for c in range(3))
            p = 1 / (1 + np.exp(-logit))
            m, a = float(batch.mask[i, 0, z, y, x]), float(batch.alpha[i])
            d0, d1 = abs(xh - float(batch.normal[i, 0, z, y, x])), abs(sh - float(batch.texture[i, 0, z, y, x]))
            plain0 += d0 / (n * np.prod(shape))
            plain1 += d1 / (n * np.prod(shape))
            in0, in1, in_mask, voxels = in0 + m * d0, in1 + m * d1, in_mask + m, voxels + 1
            overlap, volumes = overlap + p * m, volumes + p + m
            again = (1 - a * p) * xh + a * p * sh
            l3 += abs(again - float(batch.composite[i, 0, z, y, x])) / (n * np.prod(shape))
        inside0 += in0 / max(in_mask, 1) / n
        inside1 += in1 / max(in_mask, 1) / n
        dice += (1 - (2 * overlap + 1) / (volumes + 1)) / n
    return {"l0": plain0 + inside0, "l1": plain1 + inside1, "l2": dice, "l3": l3, "plain_l0": plain0}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_losses_equal_the_equations(seed, fill):
    batch, output = random_batch(seed, fill)
    terms = decomposition_loss(Layers(*output.split(1, dim=1)), batch, Loss(cross_entropy=0))
    expected = slow_losses(output, batch)
    for name in ("l0", "l1", "l2", "l3"):
        assert float(terms[name]) == pytest.approx(expected[name], rel=1e-4)
    assert float(terms["total"]) == pytest.approx(sum(expected[n] for n in ("l0", "l1", "l2", "l3")), rel=1e-4)
    plain = decomposition_loss(Layers(*output.split(1, dim=1)), batch, Loss(form="plain"))
    assert float(plain["l0"]) == pytest.approx(expected["plain_l0"], rel=1e-4)


def test_true_layers_put_together_give_the_composite_back():
    batch, _ = random_batch(3)
    logits = torch.where(batch.mask > 0, 50.0, -50.0)
    layers = Layers(batch.normal, batch.texture, logits)
    assert float(composition_loss(layers, batch.composite, batch.alpha)) < 1e-6
    assert float(dice_loss(logits, batch.mask)) < 1e-3


def test_emphasis_makes_an_empty_tumour_layer_expensive():
    batch, _ = random_batch(4, fill=0.01, side=8)
    nothing = torch.zeros_like(batch.texture)
    plain = layer_loss(nothing, batch.texture, batch.mask, emphasised=False)
    assert layer_loss(nothing, batch.texture, batch.mask, emphasised=True) > 20 * plain


def test_dice_is_per_sample_so_that_a_missed_small_tumour_costs_half():
    mask = torch.zeros(2, 1, 8, 8, 8)
    mask[0] = 1
    mask[1, 0, 0, 0, 0] = 1
    logits = torch.full_like(mask, -50.0)
    logits[0] = 50.0
    assert float(dice_loss(logits, mask)) == pytest.approx(0.25, abs=0.01)  # smoothing halves a one-voxel miss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fill", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_empty_and_full_masks_give_finite_loss_and_gradient(dtype, fill, scale):
    batch, output = random_batch(5, fill)
    output = (scale * output).to(dtype).requires_grad_()
    terms = decomposition_loss(Layers(*output.split(1, dim=1)), batch, Loss(cross_entropy=1))
    terms["total"].backward()
    assert all(term.isfinite() for term in terms.values())
    assert output.grad.isfinite().all()
    assert terms["total"].dtype == torch.float32


def test_weight_zero_leaves_a_term_out():
    batch, output = random_batch(6)
    terms = decomposition_loss(Layers(*output.split(1, dim=1)), batch, Loss(l0=0, l1=2, l2=0, l3=0, cross_entropy=0))
    assert set(terms) == {"l1", "total"}
    assert float(terms["total"]) == pytest.approx(2 * float(terms["l1"]))


def test_loss_weights_are_read_by_name():
    weights = Loss(**parse_weights("l3=0, cross_entropy=0.5"))
    assert (weights.l3, weights.cross_entropy, weights.l0) == (0, 0.5, 1)


@pytest.mark.parametrize("text", ["l9=1", "l0", "l0=-1", "l0=much"])
def test_bad_loss_weights_are_refused_in_one_line(text):
    with pytest.raises(SettingsError) as caught:
        parse_weights(text)
    assert "\n" not in str(caught.value)


def test_balanced_entropy_is_the_mean_of_tumour_and_rest_whatever_their_share():
    rng = np.random.default_rng(3)
    logits, mask = rng.normal(size=(2, 1, 8, 8, 8)), rng.random((2, 1, 8, 8, 8)) < 0.02
    each = np.log1p(np.exp(np.where(mask, -logits, logits)))
    found = cross_entropy(torch.tensor(logits), torch.tensor(mask), balanced=True)
    assert float(found) == pytest.approx((each[mask].mean() + each[~mask].mean()) / 2, rel=1e-5)
    nothing = cross_entropy(torch.tensor(logits), torch.zeros(2, 1, 8, 8, 8), balanced=True)
    assert float(nothing) == pytest.approx(np.log1p(np.exp(logits)).mean() / 2, rel=1e-5)


def test_patches_have_balanced_entropy_unless_another_is_asked_for():
    assert loss_of(Loss(), None).entropy is None
    assert loss_of(Loss(), 64).entropy == "balanced"
    assert loss_of(Loss(entropy="mean"), 64).entropy == "mean"
