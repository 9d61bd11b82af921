"""The failure page: volumes against a slow count, the worst first, and a page that stands alone and trusts no name."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scans.catalog.region import Region
from scans.image.preparation import prepare
from scans.image.volume import Volume
from scans.page.render import write_page
from scans.page.scene import oriented_grid
from tests.made.flood_fill import slow_parts
from train.evaluation.failure_page import MOST_PICTURES, failure_section
from train.evaluation.failure_picture import failure_picture
from train.evaluation.failures import CaseOutcome, by_size, in_common, in_sum, worst_first
from train.evaluation.metrics import score
from train.evaluation.upright import Upright, telling_planes, upright

PNG = b"\x89PNG\r\n\x1a\n"
SPACING = (2.0, 0.5, 3.0)
VOXEL_ML = 3.0 / 1000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.1, 0.3, 1.0]), st.sampled_from([0.0, 0.02, 0.1, 1.0]))
def test_missed_and_false_volumes_and_lesions_equal_a_slow_count(seed, of_truth, of_mask):
    rng = np.random.default_rng(seed)
    truth, mask = rng.random((5, 6, 7)) < of_truth, rng.random((5, 6, 7)) < of_mask
    found = score(mask, truth, SPACING, least_ml=0)
    real, seen = ({tuple(v) for v in np.argwhere(m)} for m in (truth, mask))
    missed = [part for part in slow_parts(truth) if not part & seen]
    stray = [part for part in slow_parts(mask) if not part & real]
    assert found.missed_ml == pytest.approx(len(real - seen) * VOXEL_ML)
    assert found.false_ml == pytest.approx(len(seen - real) * VOXEL_ML)
    assert found.truth_ml + found.false_ml == pytest.approx(found.volume_ml + found.missed_ml)
    assert (found.lesions, found.missed_lesions) == (len(slow_parts(truth)), len(missed))
    assert found.missed_lesions_ml == pytest.approx(sum(map(len, missed)) * VOXEL_ML)
    assert found.false_parts == len(stray)
    assert found.false_parts_ml == pytest.approx(sum(map(len, stray)) * VOXEL_ML)


def outcome(name, truth, found):
    """A case in a row of 1000 voxels of 1 ml; both arguments are (first, behind the last)."""
    line = np.zeros((2, 1, 1, 1000), bool)
    for row, (first, last) in zip(line, (truth, found), strict=True):
        row[..., first:last] = True
    scores = score(line[1], line[0], (10, 10, 10))
    return CaseOutcome(name, scores, replace(scores, dice=0.5), PNG)


CASES = [
    outcome("good", (0, 100), (0, 90)),
    outcome("nothing found", (0, 40), (0, 0)),
    outcome("wrong place", (0, 40), (500, 520)),
    outcome("no tumour", (0, 0), (0, 5)),
    outcome("none, none found", (0, 0), (0, 0)),
]


def test_the_worst_come_first_and_of_equal_dice_the_most_wrong_volume():
    assert [o.case for o in worst_first(CASES)] == [
        "wrong place", "nothing found", "no tumour", "good", "none, none found",
    ]  # fmt: skip


def test_every_case_is_in_one_class_of_size():
    classes = by_size(CASES)
    assert [(c.low_ml, c.high_ml, len(c.outcomes)) for c in classes] == [(0, 0, 2), (30, 100, 2), (100, 300, 1)]
    edges = [outcome(str(n), (0, n), (0, n)) for n in (1, 2, 3, 10, 30, 99, 100, 300, 999)]
    assert sum(len(c.outcomes) for c in by_size(edges)) == len(edges)
    assert all(c.low_ml <= o.scores.truth_ml < c.high_ml for c in by_size(edges) for o in c.outcomes)


def test_the_sum_over_cases_is_told():
    text = " ".join(in_sum(CASES))
    assert "Of 180.0 ml of tumour 90.0 ml are missed (50%)." in text
    assert "2 of 3 separate lesions, 80.0 ml, are missed altogether." in text
    assert "25.0 ml are found where there is no tumour, 25.0 of them in 2 parts" in text
    assert "in 3 of 5 cases" in text
    assert "Nothing at all is found in 1." in text


def test_what_the_worst_have_in_common_is_told_of_nine_cases_or_more():
    small = [outcome(f"s{n}", (0, 4), (3, 4 + n)) for n in range(3)]
    large = [outcome(f"l{n}", (0, 200 + n), (0, 190)) for n in range(6)]
    assert in_common(small + large[:5]) == []
    medians = {each.name: (each.worst, each.others) for each in in_common(small + large)}
    assert medians["tumour (ml)"] == (4, 202.5)
    assert medians["missed (% of the tumour)"][0] == 75


def page(tmp_path, outcomes, name=""):
    template = tmp_path / "section.html"
    write_page("section_test.html", template, {"section": failure_section(outcomes, name)})
    return template.read_text(encoding="utf-8")


@pytest.fixture
def page_of(tmp_path, monkeypatch):
    """Return a function that renders a section as report.html does."""
    from jinja2 import ChoiceLoader, DictLoader, PackageLoader

    own = (
        '{% extends "base.html" %}{% from "failures.html" import failures %}'
        '{% block body %}{{ failures(section, {"missed": "#1", "false": "#2"}, true, "", ()) }}{% endblock %}'
    )
    monkeypatch.setattr(
        "jinja2.PackageLoader", lambda name: ChoiceLoader([DictLoader({"section_test.html": own}), PackageLoader(name)])
    )
    return lambda outcomes, name="": page(tmp_path, outcomes, name)


def test_two_hundred_cases_show_the_worst_pictures_and_say_what_is_left_out(page_of):
    scores = CASES[0].scores
    many = [CaseOutcome(f"case {n:03}", replace(scores, dice=n / 200), scores, PNG) for n in range(200)]
    html = page_of(many)
    assert html.count("data:image/png;base64,") == MOST_PICTURES
    assert f"Of 200 cases the worst {MOST_PICTURES} are shown" in html
    assert f"the\nother {200 - MOST_PICTURES} are in the folder pictures" in html
    named = re.findall(r"<td>(case \d+)</td>", html)
    assert named == [f"case {n:03}" for n in range(200)], "all are listed, worst first"
    assert re.findall(r"<strong>(case \d+)</strong>", html) == named[:MOST_PICTURES]


@pytest.mark.parametrize("which", range(len(CASES)))
def test_one_case_makes_a_page_whatever_is_empty(page_of, which):
    html = page_of([CASES[which]])
    assert CASES[which].case in html
    assert "nan" not in html.lower()
    assert "left out" not in html
    assert ("<svg" in html) == (CASES[which].scores.truth_ml > 0)


def test_names_are_escaped_and_nothing_is_loaded(page_of):
    html = page_of([outcome("<script>x</script>", (0, 30), (0, 20))], name="<i>core</i>")
    assert "<script" not in html
    assert "<i>" not in html
    assert "worst first: &lt;i&gt;core&lt;/i&gt;" in html
    assert not re.search(r"""(src|href)=["'](?!data:|#)|url\((?!#)|@import|https?:|<link|<iframe""", html)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SRA"])
@pytest.mark.parametrize("turn", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, -1, -1, 0, 0, 0, 1, 0)])
def test_pictures_are_upright_however_scan_and_region_are_turned(orientation, turn):
    """A tumour to the patient's left, in front and above lies right, first and last of (x, y, z)."""
    spacing = (3.0, 2.0, 1.0)
    grid = Volume(np.ones((16, 20, 24), np.float32), spacing, (5.0, -3.0, 2.0), tuple(map(float, turn))).grid
    index = np.stack([*np.indices(grid.shape)[::-1], np.ones(grid.shape)], axis=-1)
    place = index @ grid.affine.T
    place = place[..., :3] - place[..., :3].mean(axis=(0, 1, 2))  # LPS in mm
    scan = Volume.on(grid, (100 + place[..., 0]).astype(np.float32))
    truth = (place[..., 0] > 4) & (place[..., 1] < -4) & (place[..., 2] > 4)
    region = Region(modality="FLAIR", orientation=orientation)
    everywhere = scan.with_array(np.ones(grid.shape, np.uint8))
    prepared = prepare(scan, everywhere, None, region, 16)
    views = upright(scan, prepared, truth, np.zeros_like(truth), orientation, (prepared.intensity,))
    z, y, x = (where.mean() / side for where, side in zip(np.nonzero(views.truth), views.truth.shape, strict=True))
    assert x > 0.5
    assert y < 0.5
    assert z > 0.5
    assert views.truth.sum() == truth.sum(), "voxels are the scan's own"
    assert (np.diff(views.scan, axis=2) > 0).all(), "the scan brightens to the left"
    assert np.corrcoef(views.scan.ravel(), views.layers[0].ravel())[0, 1] > 0.9, "layers lie where the scan does"
    extent = np.ptp(place.reshape(-1, 3), axis=0)[::-1]
    assert (np.array(views.scan.shape) - 1) * views.spacing_mm == pytest.approx(extent)
    there = (views.grid.affine @ [*np.argwhere(views.truth)[0][::-1], 1.0])[:3]
    wanted = (grid.affine @ np.append(np.argwhere(truth)[:, ::-1], np.ones((truth.sum(), 1)), axis=1).T)[:3].T
    assert np.abs(wanted - there).max(axis=1).min() < 1e-6, "a place in it is a place in the scan"


def views(truth, mask, layers=()):
    scan = np.random.default_rng(0).normal(1, 0.1, (10, 12, 14)).astype(np.float32)
    empty = np.zeros(scan.shape, bool)
    masks = []
    for part in (truth, mask):
        masks.append(empty.copy())
        if part:
            masks[-1][part] = True
    grid = oriented_grid(scan.shape, (2.0, 1.0, 1.0), "LPS")
    return Upright(scan, tuple(scan for _ in range(layers)) if layers else (), *masks, grid)


BALL, BESIDE = (slice(2, 5), slice(3, 6), slice(3, 6)), (slice(6, 9), slice(8, 10), slice(8, 10))


@pytest.mark.parametrize(
    ("truth", "mask", "shown"),
    [
        (BALL, BESIDE, ["most missed", "most false", "most wrong"]),
        (BALL, None, ["most missed", "most wrong"]),
        (None, BALL, ["most false", "most wrong"]),
        (BALL, BALL, ["most tumour", "most tumour"]),
        (None, None, ["the middle", "the middle"]),
    ],
)
def test_planes_show_what_is_wrong_and_every_kind_of_case_has_a_picture(truth, mask, shown):
    seen = views(truth, mask, layers=2 if truth else 0)
    planes = telling_planes(seen)
    assert [plane.shows for plane in planes] == shown
    for plane in planes:
        wrong = {"most missed": seen.truth & ~seen.mask, "most false": seen.mask & ~seen.truth}.get(plane.shows)
        if wrong is not None:
            assert wrong[plane.at].sum() == wrong.sum(axis=(1, 2)).max()
    assert failure_picture(seen).startswith(PNG)


def test_a_score_is_never_lost_to_rounding():
    tiny = CaseOutcome("speck", score(np.ones((1, 1, 1)), np.zeros((1, 1, 1)), (0.1, 0.1, 0.1)))
    (case,) = failure_section([tiny])["cases"]
    assert float(case["false_ml"]) == pytest.approx(1e-6)
    assert math.isnan(tiny.scores.sensitivity)
    assert case["sensitivity"] == "undefined"
