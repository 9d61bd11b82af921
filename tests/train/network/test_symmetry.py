import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scans.catalog.region import Region
from scans.image.volume import read_mask, read_volume
from train.network.symmetry import AXES, find_plane, mirrored, seen

SIDE = 48


def head(degrees=(0.0, 0.0), shift=0.0, blob=True, seed=0):
    """Return a head like its mirror image but for a bright blob, and where blob and counterpart are; turned, shifted.

    `degrees` in the axial and the coronal plane, `shift` in voxels to the left.
    """
    z, y, x = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    organ = (z / 18) ** 2 + (y / 20) ** 2 + (x / 16) ** 2 < 1
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=organ.shape), 2) * 8
    tissue = noise + noise[:, :, ::-1]
    ball = (z - 3) ** 2 + (y + 4) ** 2 + (x - 7) ** 2 < 5**2
    tissue = np.where(ball, tissue + 3, tissue) if blob else tissue
    both = (ball | ball[:, :, ::-1]).astype(float)
    return moved(np.where(organ, tissue, 0), degrees, shift), moved(both, degrees, shift) != 0


def moved(volume, degrees, shift):
    if not any(degrees) and not shift:
        return volume.astype(np.float32)
    (c, s), (d, t) = ((np.cos(a), np.sin(a)) for a in np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[d, 0, -t], [0, 1, 0], [t, 0, d]])
    middle = np.full(3, (SIDE - 1) / 2)
    offset = middle - turn @ (middle + np.array([0, 0, shift]))
    organ = ndimage.affine_transform((volume != 0).astype(float), turn, offset, order=1) >= 0.5
    return np.where(organ, ndimage.affine_transform(volume, turn, offset, order=1), 0).astype(np.float32)


def on_device(*scans):
    return torch.from_numpy(np.stack(scans))[:, None]


def likeness(a, b, where):
    where = where & (a != 0) & (b != 0)
    return np.corrcoef(a[where], b[where])[0, 1]


@pytest.mark.parametrize(("degrees", "shift"), [((7, 0), 2), ((-5, 4), -2), ((0, -6), 1), ((12, 0), 0)])
def test_the_plane_of_a_turned_and_shifted_head_is_found_though_a_blob_is_on_one_side(degrees, shift):
    scan, blobs = head(degrees, shift)
    image, healthy = mirrored(on_device(scan))[0, 0].numpy(), ~blobs
    assert likeness(scan, image, healthy) > 0.85
    assert likeness(scan, image, healthy) > likeness(scan, scan[:, :, ::-1], healthy) + 0.1
    slope = find_plane(on_device(scan)[0])[1]
    assert abs(np.degrees(np.arctan(float(slope))) - degrees[0]) < 1.5


def test_the_image_is_what_a_reflection_point_by_point_gives():
    scan, _ = head((7, 3), 2)
    a, b, c = find_plane(on_device(scan)[0]).double().tolist()
    normal = np.array([a, b, 1.0])
    points = np.indices(scan.shape).reshape(3, -1) - (SIDE - 1) / 2
    across = points - 2 * normal[:, None] * (normal @ points - c) / (normal @ normal)
    values, organ = (
        ndimage.map_coordinates(v, across + (SIDE - 1) / 2, order=1, mode="constant").reshape(scan.shape)
        for v in (scan.astype(np.float64), (scan != 0).astype(np.float64))
    )
    slow = np.where(organ >= 0.5, values / np.maximum(organ, 0.5), 0)
    fast = mirrored(on_device(scan))[0, 0].numpy()
    sure = np.abs(organ - 0.5) > 1e-3
    np.testing.assert_allclose(fast[sure], slow[sure], atol=2e-3)
    assert not fast[sure & (organ < 0.5)].any()


def test_a_symmetric_head_in_the_middle_gets_the_plain_flip_bit_for_bit():
    scan, _ = head(blob=False)
    np.testing.assert_array_equal(mirrored(on_device(scan))[0, 0].numpy(), scan[:, :, ::-1])


def test_a_scans_image_does_not_depend_on_what_stands_beside_it():
    scans = on_device(*(head((turn, 0), shift, seed=turn)[0] for turn, shift in ((7, 2), (0, 0), (3, -1))))
    together = mirrored(scans)
    for number in range(3):
        assert torch.equal(mirrored(scans[number : number + 1])[0], together[number])
    assert torch.equal(mirrored(scans.flip(0)), together.flip(0))


def test_the_modalities_of_a_scan_share_their_plane():
    scan, _ = head((7, 0), 2)
    pair = torch.cat([on_device(scan), on_device(2 * scan)], dim=1)
    first, second = mirrored(pair)[0]
    torch.testing.assert_close(second, 2 * first)


@pytest.mark.parametrize("axis", AXES)
def test_any_axis_may_go_from_left_to_right(axis):
    scan = on_device(head((7, 0), 2)[0])
    turned = scan.movedim(4, AXES[axis])
    assert torch.equal(mirrored(turned, axis), mirrored(scan, "x").movedim(4, AXES[axis]))


@settings(max_examples=10)
@given(st.tuples(st.sampled_from([8, 16, 40]), st.sampled_from([8, 24]), st.sampled_from([8, 32])), st.integers(0, 9))
def test_any_sides_and_any_content_give_finite_images_without_gradients(sides, seed):
    scan = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, *sides)).astype(np.float32))
    scan = torch.where(scan > 2 * seed / 9, scan, 0.0).requires_grad_()  # of some hardly anything is left
    image = mirrored(scan)
    assert image.shape == scan.shape
    assert bool(image.isfinite().all())
    assert not image.requires_grad


def test_nothing_and_what_is_not_finite_end_no_training():
    assert not mirrored(torch.zeros(1, 1, 16, 16, 16)).any()
    broken = torch.ones(1, 1, 16, 16, 16)
    broken[0, 0, 3, 4, 5] = torch.nan
    torch.testing.assert_close(mirrored(broken), broken.flip(4), equal_nan=True)


def test_what_has_its_mirror_image_already_is_left_as_it_is():
    scan = torch.randn(2, 2, 16, 16, 16)
    both = seen(scan, 2, "x")
    assert torch.equal(both[:, :2], scan)
    assert torch.equal(both[:, 2:], mirrored(scan))
    assert seen(both, 2, "x") is both
    assert seen(scan, 2, None) is scan


@pytest.mark.parametrize(("orientation", "axis"), [("LPS", "x"), ("RAS", "x"), ("PLS", "y"), ("SPR", "z")])
def test_a_region_says_which_axis_goes_from_left_to_right(orientation, axis):
    assert Region(modality="FLAIR", orientation=orientation, symmetric=True).mirror_axis == axis


def test_real_gliomas_are_more_like_their_aligned_image_than_like_the_plain_flip(dev_data):
    from scans.image.frame import to_frame
    from scans.image.normalisation import normalise
    from scans.image.preparation import prepare

    for path in sorted((dev_data / "brain" / "tumour").glob("*_flair.nii.gz")):
        name = path.name.removesuffix("_flair.nii.gz")
        (label,) = path.parent.glob(f"{name}_seg*.nii.gz")
        roi = path.parent / f"{name}_brain.nii.gz"
        prepared = prepare(read_volume(path), read_mask(roi) if roi.exists() else None, None, Region(modality="F"), 48)
        scan = normalise(prepared.intensity, prepared.roi, prepared.statistics)
        tumour = to_frame(read_mask(label), prepared.frame) > 0.1
        healthy = ~(tumour | tumour[:, :, ::-1])
        image = mirrored(on_device(scan))[0, 0].numpy()
        assert likeness(scan, image, healthy) > likeness(scan, scan[:, :, ::-1], healthy), name
