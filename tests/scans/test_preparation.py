import itertools
import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from scans.catalog.catalog import load_catalog
from scans.catalog.region import FieldOfView, Region
from scans.errors import ScanError
from scans.image.box import tight_box
from scans.image.cases import find_cases, read_case
from scans.image.foreground import border_value, find_foreground
from scans.image.frame import Frame, box_in_scan, coverage, fit_frame, from_frame, part_from_frame, to_frame, widen
from scans.image.grid import Grid
from scans.image.normalisation import Statistics, normalise
from scans.image.preparation import prepare, prepare_modalities, reframe, restore
from scans.image.volume import Volume
from tests.made.scan_files import GRID, brain, ellipsoid, mask

BRAIN = Region(name="brain", modality="FLAIR")
LIVER = Region.model_validate(
    {
        "name": "liver",
        "modality": "CT",
        "field_of_view": {"kind": "spacing", "spacing_mm": 0.5},
        "normalisation": {"kind": "window", "raw_zero": -1024},
        "roi": {"kind": "label"},
    }
)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def there_and_back(volume: Volume, frame: Frame) -> np.ndarray:
    share = (to_frame(volume, frame) >= 0.5).astype(np.float32)
    return from_frame(share, frame).array >= 0.5


def refusal(*arguments, **keywords) -> str:
    with pytest.raises(ScanError) as caught:
        prepare(*arguments, **keywords)
    return str(caught.value)


# The road there and back.


def brought_back(array: np.ndarray, frame: Frame) -> np.ndarray:
    """Look up each voxel of the scan in the cube, linearly: `from_frame`, slow, where the cube is the coarser one."""
    z, y, x = np.indices(frame.scan.shape)
    points = np.stack([x, y, z, np.ones_like(x)], axis=-1) @ frame.scan.affine.T
    places = np.moveaxis(points @ np.linalg.inv(frame.network.affine).T, -1, 0)[2::-1]
    ends = np.reshape(array.shape, (3, 1, 1, 1)) - 0.5
    within = ((places >= -0.5) & (places <= ends)).all(axis=0)
    return np.where(within, ndimage.map_coordinates(array, places, order=1, mode="nearest"), 0)


@settings(max_examples=10, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    corner=st.tuples(*[st.integers(0, 12)] * 3),
    size=st.integers(1, 4),
    least=st.sampled_from([0.1, 0.5, 0.9]),
    side_mm=st.sampled_from([None, 0.19]),  # a cube around the organ, and one that it reaches beyond
)
def test_what_comes_back_is_what_was_found_wherever_it_is_asked_for(turn, corner, size, least, side_mm):
    direction = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    grid = Grid((24, 28, 26), (1.5, 1.0, 1.2), (3.0, -2.0, 7.0), tuple(direction.ravel()))
    roi = (slice(2, 21), slice(3, 25), slice(4, 22))
    frame = fit_frame(
        grid, roi, FieldOfView(kind="spacing", spacing_mm=side_mm) if side_mm else FieldOfView(), "LPS", 16
    )
    share = np.random.default_rng(size).uniform(0, 0.09, frame.network.shape).astype(np.float32)
    share[tuple(slice(first, first + size) for first in corner)] = 1
    wanted = brought_back(share, frame)
    np.testing.assert_allclose(from_frame(share, frame).array, wanted, rtol=0, atol=2e-6)
    box = box_in_scan(share >= least, frame)
    reached = np.zeros(wanted.shape, bool)
    if box is not None:
        reached[box] = True
        part = part_from_frame(share, frame, box)
        np.testing.assert_allclose(part.array, wanted[box], rtol=0, atol=2e-6)
    assert (wanted[~reached] < least).all()


def smoothed_whole(volume: Volume, frame: Frame) -> np.ndarray:
    """`to_frame`, slow: every voxel of the scan is smoothed, also those that the cube does not look at."""
    turned = np.abs(np.reshape(volume.direction, (3, 3)).T @ np.reshape(frame.network.direction, (3, 3)))
    ratio = np.array(frame.spacing_mm[::-1])[turned.argmax(axis=1)] / volume.spacing_mm[::-1]
    sigma = 0.5 * np.sqrt(np.maximum(ratio**2 - 1, 0))
    smooth = volume.with_array(ndimage.gaussian_filter(volume.array, sigma[::-1], mode="nearest"))
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(Volume.on(frame.network, np.zeros(frame.network.shape, np.uint8)).to_itk())
    return sitk.GetArrayFromImage(resampler.Execute(smooth.to_itk()))


@settings(max_examples=15, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    askew=st.floats(-0.3, 0.3),  # degrees, as a file may state that other software wrote
    orientation=st.sampled_from(["LPS", "SPL", "AIR"]),
    side_mm=st.sampled_from([None, 0.4]),
)
@example(turn=(0, 0, 0), askew=0, orientation="LPS", side_mm=None)  # along the axes of space, where ITK is not asked
@example(turn=(0, 180, 0), askew=0, orientation="RPS", side_mm=0.4)
def test_the_cube_is_that_of_the_scan_smoothed_whole_to_the_bit(turn, askew, orientation, side_mm):
    direction = Rotation.from_euler("xyz", turn, degrees=True)
    grid = Grid((41, 48, 36), (1.0, 0.6, 0.8), (3.0, -2.0, 7.0), tuple(direction.as_matrix().ravel()))
    roi = (slice(2, 38), slice(3, 45), slice(4, 33))
    field_of_view = FieldOfView(kind="spacing", spacing_mm=side_mm) if side_mm else FieldOfView()
    frame = fit_frame(grid, roi, field_of_view, orientation, 16)
    turned = Rotation.from_euler("x", askew, degrees=True) * direction
    organ = ellipsoid(grid.shape)
    values = np.random.default_rng(0).uniform(-1, 2, grid.shape).astype(np.float32)
    for array in (values, np.where(organ, values, np.float32(0)), organ.astype(np.float32)):
        scan = Volume(array, grid.spacing_mm, grid.origin, tuple(turned.as_matrix().ravel()))
        np.testing.assert_array_equal(to_frame(scan, frame), smoothed_whole(scan, frame))
    np.testing.assert_array_equal(to_frame(scan.with_array(organ), frame), smoothed_whole(scan, frame))  # as bytes


@settings(max_examples=25, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.6, 2.0)] * 3),
    flip=st.booleans(),
    orientation=st.sampled_from(["LPS", "RAS", "SPL", "AIR"]),
)
@example(turn=(1.0, 1e-304, 0.0), spacing=(1.0, 1.0, 1.0), flip=False, orientation="LPS")  # once broke ITK
def test_mask_survives_the_road_there_and_back(turn, spacing, flip, orientation):
    direction = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    if flip:
        direction[:, 0] *= -1
    grid = Grid((48, 54, 60), spacing, (30.0, -20.0, 7.0), tuple(direction.ravel()))
    roi, tumour = Volume.on(grid, ellipsoid(grid.shape)), mask(grid, 0.4, 0.1)
    frame = fit_frame(grid, tight_box(roi.array), FieldOfView(), orientation, 64)
    assert dice(there_and_back(tumour, frame), tumour.array > 0) > 0.97
    assert dice(there_and_back(roi, frame), roi.array > 0) > 0.97


@pytest.mark.parametrize("name", ["dev-flair-normal", "dev-flair-tumour", "dev-liver-normal"])
def test_real_masks_survive_the_road_there_and_back(dev_data, name):
    catalog = load_catalog("catalogs/dev.yaml")
    dataset = catalog.dataset(name)
    region = catalog.region(dataset.region)
    for case in find_cases(dataset, name):
        scan = read_case(case, dataset, region)
        frame = prepare(scan.volume, scan.roi, None, region, 128).frame
        for one in filter(None, (scan.roi, scan.label)):
            assert dice(there_and_back(one, frame), one.array > 0) > 0.97, case.name


def test_cube_does_not_depend_on_how_the_file_orders_its_axes():
    scan = brain()
    expected = prepare(scan, None, None, BRAIN, 32)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            axes = np.eye(3)[:, list(order)] * flips  # columns: where the new axes x, y, z point
            array = scan.array.transpose([2 - order[2 - a] for a in range(3)])[
                tuple(slice(None, None, f) for f in flips[::-1])
            ]
            spacing = np.array(scan.spacing_mm[::-1])[list(order)]
            first = [0 if flips[a] > 0 else array.shape[2 - a] - 1 for a in range(3)]
            origin = np.array(scan.origin) - axes @ (spacing * first)
            turned = Volume(np.ascontiguousarray(array), tuple(spacing[::-1]), tuple(origin), tuple(axes.ravel()))
            prepared = prepare(turned, None, None, BRAIN, 32)
            np.testing.assert_allclose(prepared.intensity, expected.intensity, atol=0.02)
            np.testing.assert_allclose(prepared.frame.network.affine, expected.frame.network.affine, atol=1e-9)


def test_cube_axes_point_where_the_region_says():
    marked = brain()
    z, y, x = (n - 1 for n in GRID.shape)
    marked.array[z // 2 + 6, y // 2, x // 2] = 9000  # towards S of the centre: LPS axes are the grid's here
    for orientation, toward in {"LPS": (1, 0, 0), "RAI": (-1, 0, 0), "SPL": (0, 0, 1)}.items():
        region = BRAIN.model_copy(update={"orientation": orientation})
        cube = prepare(marked, None, None, region, 32).intensity
        peak = np.array(np.unravel_index(cube.argmax(), cube.shape)) - 15.5
        assert np.sign(np.where(np.abs(peak) > 2, peak, 0)).tolist() == list(toward)


def test_resize_fills_the_cube_with_the_bounding_box():
    prepared = prepare(brain(), None, None, BRAIN, 32)
    for axis in range(3):
        assert prepared.roi.take(0, axis).any()
        assert prepared.roi.take(-1, axis).any()
    extent = np.array(prepared.frame.spacing_mm) * 32
    inside = ellipsoid(GRID.shape)
    for axis in range(3):
        voxels = np.flatnonzero(inside.any(axis=tuple(set(range(3)) - {axis})))
        assert extent[axis] == pytest.approx((np.ptp(voxels) + 1) * GRID.spacing_mm[axis])


def test_fixed_spacing_scales_with_the_size_and_reports_what_is_cut():
    for size in (64, 32):
        prepared = prepare(brain(background=-1000), mask(radius=0.8, centre=0.0), None, LIVER, size)
        assert prepared.frame.spacing_mm == pytest.approx((0.5 * 128 / size,) * 3)
        assert prepared.coverage == 1.0
    narrow = LIVER.model_copy(update={"field_of_view": FieldOfView(kind="spacing", spacing_mm=0.15)})
    prepared = prepare(brain(), mask(radius=0.8, centre=0.0), None, narrow, 64)
    assert 0.2 < prepared.coverage < 0.6
    assert prepared.roi.mean() == pytest.approx(1.0, abs=0.05)


def test_coarser_voxels_average_what_finer_ones_held():
    checks = (np.indices(GRID.shape).sum(axis=0) % 2 * 100).astype(np.float32)
    volume = Volume.on(GRID, checks)
    frame = fit_frame(GRID, tight_box(np.ones(GRID.shape, bool)), FieldOfView(), "LPS", 8)
    inner = to_frame(volume, frame)[2:-2, 2:-2, 2:-2]
    assert np.abs(inner - 50).max() < 5


def test_frame_survives_json():
    frame = prepare(brain(), None, None, BRAIN, 32).frame
    assert Frame.from_json(json.loads(json.dumps(frame.to_json()))) == frame


# The region of interest.


@pytest.mark.parametrize("background", [0.0, -3.19, 40.0])
def test_foreground_is_what_differs_from_the_background_without_its_holes(background):
    scan = brain(background=background)
    scan.array[15, 18, 16] = background  # a ventricle of value background
    scan.array[1, 1, 1] = 50  # debris
    found = find_foreground(scan.array, border_value(scan.array))
    np.testing.assert_array_equal(found, ellipsoid(GRID.shape))


def test_scan_that_is_not_skull_stripped_asks_for_a_mask():
    noise = np.random.default_rng(0).normal(50, 9, GRID.shape).astype(np.float32)
    sentence = refusal(Volume.on(GRID, noise), None, None, BRAIN, 32, where="head.nii.gz")
    assert sentence.startswith("head.nii.gz: not skull-stripped")
    prepare(Volume.on(GRID, noise), mask(), None, BRAIN, 32)


def test_head_on_zeros_is_not_taken_for_a_stripped_brain():
    millilitres = ellipsoid(GRID.shape).sum() * GRID.voxel_mm3 / 1000
    bounds = [
        Region.model_validate({"modality": "FLAIR", "name": "b", "roi": {"most_ml": millilitres * f}})
        for f in (0.9, 1.1)
    ]
    assert "it seems not skull-stripped" in refusal(brain(), None, None, bounds[0], 32, where="head.nii.gz")
    prepare(brain(), mask(), None, bounds[0], 32)  # with a mask it is the mask that counts
    prepare(brain(), None, None, bounds[1], 32)


def test_unusable_masks_are_refused():
    scan, empty = brain(), Volume.on(GRID, np.zeros(GRID.shape, np.uint8))
    assert "ROI mask is empty" in refusal(scan, empty, None, BRAIN, 32)
    speck = Volume.on(GRID, np.pad(np.ones((4, 4, 3), np.uint8), [(9, 17), (9, 23), (9, 20)]))
    assert "only 86 mm3" in refusal(scan, speck, None, BRAIN, 32)
    assert "needs an ROI mask" in refusal(scan, None, None, LIVER, 32)
    apart = mask(radius=0.2, centre=-0.5)
    assert "outside the ROI" in refusal(scan, mask(radius=0.3, centre=0.4), apart, BRAIN, 32)
    moved = Volume.on(Grid(GRID.shape, GRID.spacing_mm, (0, 0, 0), GRID.direction), mask().array)
    assert "grid" in refusal(scan, moved, None, BRAIN, 32)
    flat = scan.with_array(np.where(mask().array > 0, np.float32(5), scan.array))
    assert "nothing varies" in refusal(flat, mask(), None, BRAIN, 32)
    assert "leave nothing" in refusal(scan, mask(), mask(radius=0.5), BRAIN, 32)


@pytest.mark.parametrize("size", [0, 8, 20, 520])
def test_size_must_fit_the_network(size):
    assert "multiple of 8" in refusal(brain(), None, None, BRAIN, size)


def test_stray_voxel_of_a_mask_does_not_stretch_the_cube():
    stray = mask(radius=0.5, centre=0.0)
    stray.array[0, 0, 0] = 1
    expected = prepare(brain(), mask(radius=0.5, centre=0.0), None, BRAIN, 32)
    assert prepare(brain(), stray, None, BRAIN, 32).frame == expected.frame


# Intensities.


def test_zscore_uses_healthy_voxels_of_the_roi_alone():
    scan, lesion = brain(), mask(radius=0.3)
    scan.array[lesion.array > 0] = 4000
    prepared = prepare(scan, None, lesion, BRAIN, 32)
    assert prepared.statistics.mean == pytest.approx(100, abs=4)
    assert prepared.statistics.std == pytest.approx(20, abs=4)
    values = normalise(prepared.intensity, prepared.roi, prepared.statistics)
    assert values[prepared.roi & ~prepared.lesion].mean() == pytest.approx(0, abs=1e-4)
    assert values[prepared.roi & ~prepared.lesion].std() == pytest.approx(1, abs=1e-4)
    assert not values[~prepared.roi].any()
    assert values.dtype == np.float32


def test_every_voxel_a_lesion_touches_counts_as_lesion():
    scan, lesion = brain(), mask(radius=0.3)
    scan.array[lesion.array > 0] = 100_000
    prepared = prepare(scan, None, lesion, BRAIN, 16)  # coarse: many voxels hold some of it
    assert prepared.intensity[prepared.roi & ~prepared.lesion].max() < 12_000


def test_scan_gives_the_same_with_and_without_skull_stripping():
    stripped = brain()
    skull = np.random.default_rng(1).normal(300, 99, GRID.shape).astype(np.float32)
    whole = stripped.with_array(np.where(ellipsoid(GRID.shape), stripped.array, skull))
    a = prepare(stripped, None, None, BRAIN, 32)
    b = prepare(whole, mask(radius=0.8, centre=0.0), None, BRAIN, 32)
    np.testing.assert_array_equal(a.roi, b.roi)
    np.testing.assert_allclose(a.intensity, b.intensity, rtol=1e-5)
    assert a.intensity[a.roi].min() > 20, "no voxel at the edge is darkened by the background"


def test_intensities_are_never_negative_and_zero_outside():
    for scan in (brain(), brain(background=-3.19), Volume.on(GRID, brain().array - 150)):
        prepared = prepare(scan, mask(radius=0.8, centre=0.0), None, BRAIN, 32)
        assert prepared.intensity.min() == 0
        assert not prepared.intensity[~prepared.roi].any()
        assert prepared.intensity[prepared.roi].mean() > 0


def test_zscored_scan_gets_its_zero_back_from_its_background():
    raw = brain()
    a = prepare(raw, None, None, BRAIN, 32)
    for mean in (60, 100):  # of the whole scan, and of the brain: then half of the brain is negative
        b = prepare(raw.with_array((raw.array - mean) / 25), None, None, BRAIN, 32)
        np.testing.assert_allclose(b.intensity * 25, a.intensity, atol=1e-3)
    scaled = [normalise(p.intensity, p.roi, p.statistics) for p in (a, b)]
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1e-4)


def test_zscored_foreground_on_zeros_is_shifted_by_its_minimum():
    raw = brain()
    inside = ellipsoid(GRID.shape)
    scored = raw.with_array(np.where(inside, (raw.array - 100) / 20, 0).astype(np.float32))
    prepared = prepare(scored, None, None, BRAIN, 32)
    lowest = scored.array[inside].min()
    assert prepared.intensity[prepared.roi].mean() == pytest.approx(-lowest, rel=0.1)


def test_a_little_ringing_is_clipped_not_shifted():
    scan = brain()
    scan.array[15, 18, 10:16] = -8
    prepared = prepare(scan, None, None, BRAIN, 32)
    assert prepared.statistics.mean == pytest.approx(100, abs=4)


def test_ct_is_counted_from_its_raw_zero_and_normalised_by_common_statistics():
    ct = brain(background=-1100)
    common = Statistics(mean=1100.0, std=50.0, low=1060.0, high=1150.0)
    prepared = prepare(ct, mask(radius=0.5, centre=0.0), None, LIVER, 32, common)
    assert prepared.intensity[prepared.roi].mean() == pytest.approx(1124, abs=5)
    assert prepared.statistics == common
    values = normalise(prepared.intensity, prepared.roi, common)[prepared.roi]
    assert values.min() >= -0.8 - 1e-6
    assert values.max() <= 1.0 + 1e-6
    assert prepare(ct, mask(), None, LIVER, 32).statistics is None


def test_preparation_repeats_itself_to_the_bit():
    a, b = (prepare(brain(), None, mask(), BRAIN, 32) for _ in range(2))
    np.testing.assert_array_equal(a.intensity, b.intensity)
    assert a.statistics == b.statistics


def test_statistics_survive_json():
    statistics = Statistics.of(np.arange(10.0), 1, 8)
    assert Statistics.from_json(json.loads(json.dumps(statistics.to_json()))) == statistics


# Several modalities, other frames, and the way back for intensities.

T1 = Region(name="brain", modality="T1")


def test_modalities_share_the_first_ones_roi_and_frame_and_have_statistics_of_their_own():
    flair = brain(seed=1)
    whole = np.random.default_rng(1).normal(700, 30, GRID.shape).astype(np.float32)  # with its skull on
    both = prepare_modalities([flair, flair.with_array(whole)], None, [BRAIN, T1], 32, [None, None])
    alone = prepare(flair, None, None, BRAIN, 32)
    assert both[0].frame == both[1].frame == alone.frame
    for one in both:
        np.testing.assert_array_equal(one.roi, alone.roi)
        np.testing.assert_array_equal(one.inside, alone.inside)
    np.testing.assert_array_equal(both[0].intensity, alone.intensity)
    assert both[0].statistics == alone.statistics
    assert both[1].statistics.mean == pytest.approx(700, abs=5)
    values = normalise(both[1].intensity, both[1].roi, both[1].statistics)
    assert values[both[1].roi].std() == pytest.approx(1, abs=1e-3)


def test_a_given_roi_counts_for_all_modalities():
    roi = mask(radius=0.5, centre=0.0)
    scans = [brain(), brain(seed=1, background=-3.0)]
    both = prepare_modalities(scans, roi, [BRAIN, T1], 32, [None, None])
    for scan, one in zip(scans, both, strict=True):
        np.testing.assert_array_equal(one.intensity, prepare(scan, roi, None, BRAIN, 32).intensity)
        np.testing.assert_array_equal(one.inside, roi.array > 0)


def test_one_modality_is_prepared_as_ever():
    (one,) = prepare_modalities([brain()], None, [BRAIN], 32, [None])
    alone = prepare(brain(), None, None, BRAIN, 32)
    np.testing.assert_array_equal(one.intensity, alone.intensity)
    assert (one.frame, one.statistics) == (alone.frame, alone.statistics)


def test_shared_statistics_go_to_the_modality_they_belong_to():
    common = [Statistics(1100.0, 50.0, 1000.0, 1200.0), Statistics(1120.0, 40.0, 900.0, 1300.0)]
    roi = mask(radius=0.5, centre=0.0)
    both = prepare_modalities([brain(background=-1000)] * 2, roi, [LIVER, LIVER], 32, common)
    assert [one.statistics for one in both] == common


def test_modalities_that_do_not_fit_are_refused():
    scan = brain()
    moved = Volume(scan.array, scan.spacing_mm, (0.0, 0.0, 0.0), scan.direction)
    noisy = scan.with_array(scan.array + np.random.default_rng(0).normal(size=GRID.shape))
    for scans, regions, sentence in (
        ([scan], [BRAIN, T1], "head: has 1 modalities, 2 are needed"),
        ([scan, moved], [BRAIN, T1], "head: its modalities are not on one grid"),
        ([scan, scan], [LIVER, LIVER], "needs an ROI mask"),
        ([noisy, scan], [BRAIN, T1], "not skull-stripped"),
    ):
        with pytest.raises(ScanError, match=sentence):
            prepare_modalities(scans, None, regions, 32, [None] * len(regions), "head")


@pytest.mark.parametrize("background", [0.0, -3.19, 40.0])
def test_what_is_normalised_is_restored_to_the_scans_own_intensities(background):
    scan = brain(background=background)
    cube = prepare(scan, None, None, BRAIN, 64)
    native = reframe(scan, cube, widen(cube.frame, scan.with_array(cube.inside), native=True))
    inside = ellipsoid(GRID.shape)
    for prepared, most in ((native, 1e-3), (cube, 8)):
        assert prepared.zero == pytest.approx(min(background, 0))
        layer = normalise(prepared.intensity, prepared.roi, prepared.statistics)
        back = restore(layer, prepared, scan)
        assert back.grid == scan.grid
        np.testing.assert_array_equal(back.array[~inside], scan.array[~inside])
        assert np.abs(back.array - scan.array)[inside].mean() < most


def test_restoring_mixes_nothing_in_from_beyond_the_roi():
    scan = brain()
    prepared = prepare(scan, None, None, BRAIN, 32)
    layer = np.where(prepared.roi, np.float32(0), np.float32(1e6))  # 0 is the mean
    back = restore(layer, prepared, scan)
    np.testing.assert_allclose(back.array[prepared.inside], prepared.statistics.mean, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.6, 2.0)] * 3),
    orientation=st.sampled_from(["LPS", "RAS", "SPL", "AIR"]),
    native=st.booleans(),
    step_mm=st.floats(0.2, 1.5),
)
def test_a_widened_frame_holds_the_whole_roi_in_the_cubes_axes(turn, spacing, orientation, native, step_mm):
    direction = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    grid = Grid((24, 27, 21), spacing, (30.0, -20.0, 7.0), tuple(direction.ravel()))
    roi = mask(grid, 0.6, 0.2)
    cube = fit_frame(grid, tight_box(roi.array), FieldOfView(kind="spacing", spacing_mm=step_mm), orientation, 16)
    box = widen(cube, roi, native=native)
    assert coverage(box, roi.array > 0) == 1
    assert box.network.direction == cube.network.direction
    if native:
        there = to_frame(roi.with_array(roi.array.astype(np.float32)), box)
        np.testing.assert_allclose(np.sort(there[there > 1e-3]), 1, atol=1e-3)
        assert (there > 0.5).sum() == roi.array.sum(), "the scan's own voxels, none interpolated"
    else:
        assert box.spacing_mm == cube.spacing_mm
        assert min(box.network.shape) >= 16
        offset = np.linalg.inv(box.network.affine) @ [*cube.network.origin, 1.0]
        np.testing.assert_allclose(offset, np.round(offset), atol=1e-5)
