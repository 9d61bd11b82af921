import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from train.cases.augment import Appearance, Change, changed, draw, rotation, warped

SIZE = 24


def ball_scan(modalities=1):
    """A bright ball off the centre of a noisy one, 0 around."""
    grid = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    inside = (grid**2).sum(0) < 10**2
    tumour = ((grid - np.array([3, -2, 1]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 4**2
    noise = np.random.default_rng(0).normal(size=(modalities, SIZE, SIZE, SIZE))
    intensity = np.where(inside, np.where(tumour, 4, 0.5 * noise), 0).astype(np.float32)
    return torch.from_numpy(intensity), torch.from_numpy(tumour[None].astype(np.float32))


@given(st.integers(0, 2**62), st.integers(0, 2**40))
@settings(max_examples=20)
def test_what_is_done_is_a_function_of_seed_and_position(seed, position):
    assert draw("nnunet", seed, position, 2) == draw("nnunet", seed, position, 2)


def test_neither_draw_nor_change_touches_or_heeds_global_random_state():
    scan, mask = ball_scan()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    busy = replace(BUSY, noise_key=(3, 4))
    first = changed(scan, mask, busy)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(first, changed(scan, mask, busy), strict=True))
    assert not torch.equal(first[0], changed(scan, mask, replace(busy, noise_key=(3, 5)))[0])


def test_each_change_comes_as_often_as_in_nnunet():
    drawn = [draw("nnunet", 7, position, 1) for position in range(20_000)]
    looks = [change.appearance[0] for change in drawn]
    shares = {
        "turned": (np.mean([any(c.angles) for c in drawn]), 0.2),
        "zoomed": (np.mean([c.zoom != 1 for c in drawn]), 0.2),
        "noise": (np.mean([a.noise > 0 for a in looks]), 0.1),
        "blur": (np.mean([a.blur_vox > 0 for a in looks]), 0.1),  # a fifth, of those half of the channels
        "brightness": (np.mean([a.brightness != 1 for a in looks]), 0.15),
        "contrast": (np.mean([a.contrast != 1 for a in looks]), 0.15),
        "resolution": (np.mean([a.resolution != 1 for a in looks]), 0.125),
        "inverted gamma": (np.mean([a.inverted_gamma != 1 for a in looks]), 0.1),
        "gamma": (np.mean([a.gamma != 1 for a in looks]), 0.3),
        "mirrored in z": (np.mean([0 in c.mirrored for c in drawn]), 0.5),
        "gamma below 1, of all gammas": (np.mean([a.gamma < 1 for a in looks if a.gamma != 1]), 0.5),
    }
    for name, (found, expected) in shares.items():
        assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 5_000)), name
    assert max(abs(angle) for c in drawn for angle in c.angles) <= math.pi / 6
    assert 0.7 <= min(c.zoom for c in drawn) < 0.75
    assert 1.35 < max(c.zoom for c in drawn) <= 1.4
    assert 0.5 <= min(a.resolution for a in looks) < 0.51
    assert 0.7 <= min(a.gamma for a in looks) < 0.72
    assert 1.48 < max(a.gamma for a in looks) <= 1.5


def test_changes_are_independent_of_each_other():
    drawn = [draw("nnunet", 0, position, 2) for position in range(5_000)]
    flags = np.array([
        [any(c.angles), c.zoom != 1, *(x for a in c.appearance for x in (a.noise > 0, a.gamma != 1)), 0 in c.mirrored]
        for c in drawn
    ])  # fmt: skip
    correlation = np.corrcoef(flags.T) - np.eye(flags.shape[1])
    assert np.abs(correlation).max() < 0.06


@given(*[st.floats(-0.5, 0.5)] * 3, st.floats(0.7, 1.4))
@settings(max_examples=5)
def test_warp_equals_scipys(z, y, x, zoom):
    scan, _ = ball_scan()
    matrix = zoom * rotation((z, y, x))
    centre = np.full(3, (SIZE - 1) / 2)
    padded = np.pad(scan[0].numpy(), 1)  # scipy cuts off at the last voxel's centre, torch fades to 0 beyond
    expected = ndimage.affine_transform(
        padded, matrix, centre + 1 - matrix @ centre, output_shape=(SIZE,) * 3, order=1, mode="constant"
    )
    np.testing.assert_allclose(warped(scan, (z, y, x), zoom)[0].numpy(), expected, atol=2e-4)


def test_a_quarter_turn_about_each_axis_is_exact():
    scan, _ = ball_scan()
    for axis in range(3):
        angles = [0.0, 0.0, 0.0]
        angles[axis] = math.pi / 2
        plane = [other + 1 for other in range(3) if other != axis]
        turned = warped(scan, tuple(angles), 1.0)
        assert min(float((turned - scan.rot90(k, plane)).abs().max()) for k in (1, 3)) < 1e-4


BUSY = Change(
    (0.3, -0.4, 0.2), 0.9, (Appearance(0.05, 0.7, 1.2, 1.2, 0.6, 0.8, 1.4),), (0, 2), (1, 2)
)  # everything at once


@given(*[st.floats(-0.5, 0.5)] * 3, st.floats(0.7, 1.4), st.sets(st.integers(0, 2)))
@settings(max_examples=10)
def test_scan_and_mask_move_together(z, y, x, zoom, axes):
    scan, mask = ball_scan()
    moved, moved_mask = changed(scan, mask, Change((z, y, x), zoom, mirrored=tuple(sorted(axes))))
    assert set(moved_mask.unique().tolist()) <= {0.0, 1.0}
    disagree = ((moved > 2) != (moved_mask > 0)).sum() / (moved_mask > 0).sum()
    assert disagree < 0.1  # at the tumour's edge alone


def test_outside_the_roi_nothing_appears():
    scan, mask = ball_scan()
    still = changed(scan, mask, replace(BUSY, angles=(0, 0, 0), zoom=1.0, mirrored=()))[0]
    assert ((still == 0) | (scan != 0)).all()
    assert (still != scan)[scan != 0].float().mean() > 0.99


def test_nothing_drawn_is_nothing_done():
    scan, mask = ball_scan()
    for change in (Change(), draw("none", 0, 0, 1), Change(appearance=(Appearance(),))):
        assert all(torch.equal(a, b) for a, b in zip(changed(scan, mask, change), (scan, mask), strict=True))
    before = scan.clone()
    changed(scan, mask, BUSY)
    assert torch.equal(scan, before)


def test_mirror_alone_does_nothing_else():
    for position in range(20):
        change = draw("mirror", 3, position, 1)
        assert change == Change(mirrored=change.mirrored)


def test_several_modalities_turn_alike_and_look_their_own_way():
    scan, mask = ball_scan(2)
    scan[1] = scan[0]
    two = changed(scan, mask, replace(BUSY, appearance=(Appearance(), Appearance(gamma=1.4))))[0]
    one = changed(scan[:1], mask, replace(BUSY, appearance=()))[0]
    torch.testing.assert_close(two[0], one[0])
    assert not torch.allclose(two[1], one[0])
    assert ((two[0] == 0) == (two[1] == 0)).all()


def test_intensities_change_as_monai_and_scipy_have_them():
    from monai.transforms import AdjustContrast, ScaleIntensityFixedMean  # a second, for each tester that collects

    scan, mask = ball_scan()
    full = torch.where(scan == 0, 0.01, scan)  # no outside

    def look(**what):
        return changed(full, mask, Change(appearance=(Appearance(**what),)))[0]

    blurred = ndimage.gaussian_filter(full[0].numpy(), 0.8, mode="constant", truncate=6)
    torch.testing.assert_close(look(blur_vox=0.8)[0], torch.from_numpy(blurred), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(look(contrast=1.2), ScaleIntensityFixedMean(0.2, preserve_range=True)(full).as_tensor())
    for name, inverted in (("gamma", False), ("inverted_gamma", True)):
        expected = AdjustContrast(1.3, invert_image=inverted, retain_stats=True)(full).as_tensor()
        torch.testing.assert_close(look(**{name: 1.3}), expected)
    torch.testing.assert_close(look(brightness=0.8), 0.8 * full)
    assert float((look(noise=0.1) - full).std()) == pytest.approx(0.1, rel=0.02)
    halved = look(resolution=0.5)
    assert halved.shape == full.shape
    assert (halved - full).abs().mean() > 0.05
