import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.made.batches import collate
from tests.made.tiny_corpus import TinyCorpus
from train.data import intensity, spatial, variation
from train.data.random_bits import Draws
from train.data.variation import MIRROR_X, varied

NAMES = ("composite", "normal", "texture", "mask")
SIDE = 16
EVERYTHING = {"MOVED": 1.0}, {"BIAS": 1.0, "GAMMA": 1.0, "COARSER": 1.0}


def hard():
    """Two samples whose Eq. 5 holds, of scans as smooth as organs are."""
    batch = collate([TinyCorpus(size=SIDE)[0], TinyCorpus(size=SIDE)[1]])
    organ = batch.normal != 0
    smooth = torch.from_numpy(ndimage.gaussian_filter(batch.normal.numpy(), (0, 0, 1, 1, 1)))
    normal = torch.where(organ, 3 * smooth, 0.0)
    blend = batch.alpha.view(-1, 1, 1, 1, 1) * batch.mask
    return replace(batch, normal=normal, composite=torch.lerp(normal, batch.texture, blend))


def soft():
    """Two samples with a soft edge: the composite differs from the normal outside the mask too."""
    batch = hard()
    weight = torch.from_numpy(ndimage.gaussian_filter(batch.mask.float().numpy(), (0, 0, 1, 1, 1)))
    tissue = torch.where(batch.normal != 0, 4.0, 0.0)
    composite = torch.lerp(batch.normal, tissue, batch.alpha.view(-1, 1, 1, 1, 1) * weight)
    return replace(batch, composite=composite, texture=tissue * batch.mask)


def with_composite():
    """Two samples whose texture is the composite inside the mask."""
    batch = hard()
    return replace(batch, texture=batch.composite * batch.mask)


KINDS = {kind.__name__: kind() for kind in (hard, soft, with_composite)}


def left_over(batch):
    """Return how far each voxel is from Eq. 5."""
    blend = batch.alpha.view(-1, 1, 1, 1, 1) * batch.mask
    return (batch.composite - ((1 - blend) * batch.normal + blend * batch.texture)).abs()


@pytest.fixture
def everything(monkeypatch):
    """Do all there is to every sample."""
    for module, chances in zip((spatial, intensity), EVERYTHING, strict=True):
        for name, value in chances.items():
            monkeypatch.setattr(module, name, value)


@settings(max_examples=40)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9))
def test_eq_5_holds_as_before(seed, first):
    batch = varied(KINDS["hard"], "full", seed, [first, first + 1])
    assert float(left_over(batch).max()) < 1e-5


@settings(max_examples=40)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**63 - 1), st.integers(0, 10**9))
def test_nothing_appears_outside_organ_and_mask_and_targets_stay_bounded(kind, seed, first):
    before = KINDS[kind]
    batch = varied(before, "full", seed, [first, first + 1])
    assert all(bool(getattr(batch, name).isfinite().all()) for name in NAMES)
    assert not batch.texture[batch.mask == 0].any()
    organ = (batch.composite != 0) | (batch.normal != 0)
    assert not bool((organ.sum((1, 2, 3, 4)) == 0).any())
    assert set(batch.mask.unique().tolist()) <= {0, 1}
    widest = float(torch.stack([before.composite, before.normal, before.texture]).abs().max())
    # Contrast, brightness and noise of light variation, and a bias field of the intensities' whole range.
    most = 1.25 * (widest + intensity.BIAS_FIELD * 2 * widest) + 0.25 + 6 * 0.1**0.5
    assert all(float(getattr(batch, name).abs().max()) < 2 * most for name in NAMES)


def test_a_soft_edge_stays_soft_and_its_texture_is_the_tissue(everything):
    for position in range(0, 40, 2):
        batch = varied(KINDS["soft"], "full", 1, [position, position + 1])
        for x, n, s, m in zip(batch.composite, batch.normal, batch.texture, batch.mask, strict=True):
            outside = ((x - n).abs() > 0.05) & (m == 0)
            assert 0 < int(outside.sum()) < 6 * SIDE**2
            inside = m != 0
            # Texture is no more than the way on from the normal through the composite: no division by a small alpha.
            assert float((s[inside] - n[inside]).mean()) > float((x[inside] - n[inside]).mean()) > 0


def test_where_the_texture_is_the_composite_it_stays_so(everything):
    for position in range(0, 20, 2):
        batch = varied(KINDS["with_composite"], "full", 1, [position, position + 1])
        torch.testing.assert_close(batch.texture, batch.composite * batch.mask, atol=1e-5, rtol=0)


def test_it_is_a_function_of_seed_and_position_whatever_the_batch_and_leaves_its_input():
    batch = KINDS["hard"]
    before = {name: getattr(batch, name).clone() for name in NAMES}
    for position in range(0, 12, 2):
        whole = varied(batch, "full", 3, [position, position + 1])
        for number in (0, 1):
            one = type(batch)(*(tensor[number : number + 1] for tensor in vars(batch).values()))
            alone = varied(one, "full", 3, [position + number])
            assert all(torch.equal(getattr(whole, name)[number], getattr(alone, name)[0]) for name in NAMES)
        assert not torch.equal(whole.composite, varied(batch, "full", 4, [position, position + 1]).composite)
        assert not torch.equal(whole.composite, varied(batch, "full", 3, [position + 1, position]).composite)
    assert all(torch.equal(getattr(batch, name), before[name]) for name in NAMES)


def test_left_and_right_are_exchanged_and_no_other_sides(monkeypatch):
    monkeypatch.setattr(spatial, "MOVED", 0.0)
    batch = KINDS["hard"]
    found = {varied(batch, "full", 0, [p, p]).mask[0].numpy().tobytes() for p in range(40)}
    assert found == {batch.mask[0].numpy().tobytes(), batch.mask[0].flip(3).numpy().tobytes()}
    assert MIRROR_X == 0.5


def test_several_modalities_move_together_and_look_each_for_itself(everything):
    one = KINDS["hard"]
    two = replace(one, **{name: getattr(one, name).expand(-1, 2, -1, -1, -1) for name in NAMES[:3]})
    batch = varied(two, "full", 5, [0, 1])
    assert float(left_over(batch).max()) < 1e-5
    assert torch.equal(batch.normal[:, 0] != 0, batch.normal[:, 1] != 0)
    assert not torch.allclose(batch.normal[:, 0], batch.normal[:, 1], atol=0.1)


def test_a_grid_turns_and_scales_as_scipy_does(monkeypatch):
    monkeypatch.setattr(spatial, "MOVED", 1.0)
    monkeypatch.setattr(spatial, "WARP", (0.0, 0.0))
    scan = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(24,) * 3), 2)).float()
    images, nowhere = scan[None, None], torch.zeros(1, 24, 24, 24, dtype=torch.bool)
    for stream in range(5):
        found, _, _ = spatial.moved(images, nowhere, nowhere, Draws(0, stream))
        drawn = Draws(0, stream).uniforms(5)
        turns, scale = (2 * drawn[1:4] - 1) * spatial.ROTATION, 0.8 + 0.4 * drawn[4]
        matrix = spatial._rotation(*turns)[::-1, ::-1] / scale  # of (z, y, x)
        centre = np.full(3, 11.5)
        slow = ndimage.affine_transform(scan.numpy(), matrix, centre - matrix @ centre, order=1, mode="grid-constant")
        np.testing.assert_allclose(found[0, 0].numpy(), slow, atol=1e-5)
        assert np.linalg.norm(spatial._rotation(*turns) - np.eye(3)) <= 3 * math.sqrt(2) * spatial.ROTATION


def test_bias_and_curve_leave_a_normal_its_mean_and_deviation(monkeypatch):
    for name, chance in (("BIAS", 1.0), ("GAMMA", 1.0), ("COARSER", 0.0)):
        monkeypatch.setattr(intensity, name, chance)
    batch = KINDS["hard"]
    images = torch.stack([batch.composite[0], batch.normal[0], batch.normal[0]])
    organ = batch.normal[0] != 0
    for stream in range(5):
        found = intensity.looks(images, organ, Draws(0, stream))
        assert float((found - images)[:, organ].abs().max()) > 0.02
        assert float(found[1][organ].mean()) == pytest.approx(float(images[1][organ].mean()), abs=1e-4)
        assert float(found[1][organ].std()) == pytest.approx(float(images[1][organ].std()), rel=1e-3)


def test_every_position_has_a_place_and_a_look_of_its_own(monkeypatch, everything):
    for name, value in (("CONTRAST", (1, 1)), ("BRIGHTNESS", (0, 0)), ("NOISE", (0, 0)), ("MIRROR_X", 0.0)):
        monkeypatch.setattr(variation, name, value)
    batch = KINDS["hard"]
    organs = {varied(batch, "full", 0, [p, p]).normal[0].ne(0).numpy().tobytes() for p in range(8)}
    monkeypatch.setattr(spatial, "MOVED", 0.0)
    looked = {varied(batch, "full", 0, [p, p]).normal[0].numpy().tobytes() for p in range(8)}
    assert len(organs) == len(looked) == 8
    for name in ("BIAS", "GAMMA", "COARSER"):
        monkeypatch.setattr(intensity, name, 0.0)
    left = varied(batch, "full", 0, [0, 1])
    torch.testing.assert_close(left.composite, batch.composite, atol=1e-6, rtol=0)  # nothing is done that was not drawn


def test_a_cube_of_nothing_stays_nothing():
    nothing = replace(KINDS["hard"], **{name: getattr(KINDS["hard"], name) * 0 for name in NAMES})
    for position in range(20):
        batch = varied(nothing, "full", 0, [position, position])
        assert not any(bool(getattr(batch, name).any()) for name in NAMES)
