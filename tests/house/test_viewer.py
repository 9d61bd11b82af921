"""What pages carry to be looked into, in a real browser: it draws, it obeys, left is left, and nothing is fetched."""

import json

import numpy as np
import pytest

from scans.image.grid import Grid
from scans.page.render import policy
from scans.page.scene import Grey, Scene, oriented_grid, pack
from scans.page.viewer import viewer
from synth.corpus import Corpus
from synth.report.sample_page import sample_page, sample_scene
from tests.made.browser import Browser, find_browser

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed here")
STAGE = ".look-stage"
ORANGE = (0xF0 / 255, 0xA2 / 255, 0x02 / 255)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(find_browser(), tmp_path_factory.mktemp("profile")) as started:
        yield started


def marked(name, grid):
    """A dim body of one voxel's margin, and a bright mark to the patient's left, in front and above."""
    index = np.stack([*np.indices(grid.shape)[::-1], np.ones(grid.shape)], axis=-1)
    place = (index @ grid.affine.T)[..., :3]
    place -= place.mean(axis=(0, 1, 2))
    inside = np.zeros(grid.shape, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    left, back, up = (place[..., axis] / np.abs(place[..., axis]).max() for axis in range(3))
    mark = (left > 0.3) & (left < 0.8) & (back < -0.3) & (back > -0.8) & (up > 0.3) & (up < 0.8) & inside
    voxels = np.where(mark, 200.0, np.where(inside, 60.0, 0.0)).astype(np.float32)
    return Scene(name, grid, (Grey("scan", voxels, shown=True),), (0.0, 200.0), "HU", focus=mark, in_scan=True), place[
        mark
    ]


TURNED = Grid((30, 24, 20), (2.0, 1.5, 3.0), (9.0, 4.0, -8.0), (0, 0, -1, -1, 0, 0, 0, 1, 0))
SCENES = [marked("as prepared", oriented_grid((24, 20, 30), (2.0, 3.0, 1.0), "LPS")), marked("as scanned", TURNED)]
HIDDEN = marked("<b>hidden</b>", oriented_grid((16, 16, 16), (1.0, 1.0, 1.0), "RAI"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return a page of marked scenes."""
    shown = viewer(pack(scene) for scene, _ in (*SCENES, HIDDEN))
    path = tmp_path_factory.mktemp("pages") / "marked.html"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f'<meta http-equiv="Content-Security-Policy" content="{policy(shown)}">'
    path.write_text(
        f"<!doctype html>{head}<style>:root {{ color-scheme: light dark }} {shown.style}</style><body>{shown.body}",
        encoding="utf-8",
    )
    return path


def look(browser, name=None):
    """Bring the viewer into sight, choose a scan, and wait until it is drawn."""
    if name is not None:
        browser.do(f"(() => {{ const s = document.querySelector('.look-scene'); s.value = {json.dumps(name)};"
                   " s.dispatchEvent(new Event('change')) })()")  # fmt: skip
    browser.do("document.getElementById('look').scrollIntoView()")
    browser.until("['ready', 'failed'].includes(document.getElementById('look').dataset.state)")
    told = browser.do("document.querySelector('.look-message').textContent")
    assert told == ""


def told(browser):
    return browser.do("document.querySelector('.look-place').textContent")


def bright(browser, plane):
    """Return where the mark is seen in a plane, as shares (down, right) of what is drawn of the body."""
    browser.do(f"document.querySelector('[data-plane={plane}]').click()")
    grey = browser.picture(STAGE)[8:-8, 8:-8]  # without its round corners
    grey = np.where(np.ptp(grey, axis=-1) < 0.05, grey.mean(axis=-1), 0)  # neither crosshair
    body, mark = np.argwhere(np.abs(grey - 0.3) < 0.05), np.argwhere(grey > 0.9)
    low, high = body.min(axis=0), body.max(axis=0)
    return (mark.mean(axis=0) - low) / (high - low), np.ptp(mark, axis=0)


def test_left_is_left_and_up_is_up_however_the_voxels_lie(browser, page):
    browser.open(page, 500, 700)
    look(browser)
    for (scene, place), name in zip(SCENES, ("as prepared", "as scanned"), strict=True):
        look(browser, name)
        width, depth, height = np.ptp(place, axis=0) + np.abs(scene.grid.affine[:3, :3]).max(axis=1)
        for plane, wanted, sides in (
            ("axial", (False, True), (depth, width)),  # in front is up, the patient's left is right
            ("coronal", (False, True), (height, width)),
            ("sagittal", (False, False), (height, depth)),  # in front is left
        ):
            where, extent = bright(browser, plane)
            assert tuple(where > 0.5) == wanted, (name, plane, where)
            assert extent[0] / extent[1] == pytest.approx(sides[0] / sides[1], rel=0.1), "millimetres are square"
    assert browser.complaints == []
    assert [url for url in browser.requested if not url.startswith(("data:", page.as_uri()))] == []


def orange(browser):
    """Count what is seen in the colour of outlines."""
    return int((np.abs(browser.picture(STAGE) - ORANGE).max(axis=-1) < 0.1).sum())


def test_a_sample_is_looked_into_layer_by_layer_and_slice_by_slice(browser, corpus_path, tmp_path):
    corpus = Corpus(corpus_path)
    path = tmp_path / "samples.html"
    path.write_text(sample_page(corpus, [3, 0]), encoding="utf-8")
    browser.open(path, 800, 600)
    look(browser)
    assert browser.do("document.getElementById('look').dataset.scene") == "sample 3"
    sample, step = corpus[3], pack(sample_scene(corpus, 3))["layers"][0]["step"]

    outlined, first = orange(browser), told(browser)
    assert outlined > 100, "the mask is outlined at first"
    assert first.endswith("mask tumour"), "and looked at"
    browser.do("document.querySelectorAll('.look-layers input[type=checkbox]')[3].click()")
    assert orange(browser) < outlined / 20, "its box takes it away"
    browser.do("document.querySelector('.look-stage canvas').focus()")
    browser.press("4")
    assert orange(browser) == outlined, "and its key brings it back"

    seen = browser.picture(STAGE)
    browser.press("2")
    assert np.abs(browser.picture(STAGE) - seen).max() > 0.1, "the normal lies over the composite"
    browser.press("2")
    browser.press("ArrowUp")
    slider = "document.querySelector('.look-slices [data-plane=axial]')"
    browser.do(f"{slider}.value = Number({slider}.value) + 3; {slider}.dispatchEvent(new Event('input'))")
    assert np.abs(browser.picture(STAGE) - seen).max() > 0.1, "another slice is another picture"
    z, y, x = json.loads(told(browser).partition("= ")[2].partition(":")[0])
    z0, y0, x0 = json.loads(first.partition("= ")[2].partition(":")[0])
    assert (z - z0, y - y0, x - x0) == (1 + 3, 0, 0)
    value = told(browser).partition("composite ")[2].split()[0]
    assert (0 if value == "–" else float(value)) == pytest.approx(sample.composite[z, y, x], abs=step + 0.005)

    look(browser, "sample 0")
    assert "alpha" in browser.do("document.querySelector('.look-said').textContent")
    assert browser.complaints == []


def test_a_page_fits_a_phone_in_the_dark_and_a_link_leads_to_its_scan(browser, page):
    browser.open(page, 390, 844, dark=True, mobile=True)
    look(browser)
    assert browser.do("document.documentElement.scrollWidth") == 390
    assert browser.do("getComputedStyle(document.querySelector('.look legend')).color") == "rgb(255, 255, 255)"
    browser.do("document.body.insertAdjacentHTML('beforeend', '<a href=#look>to it</a>')")
    browser.do(f"document.body.lastChild.dataset.scene = {json.dumps(HIDDEN[0].name)}; document.body.lastChild.click()")
    browser.until(f"document.getElementById('look').dataset.scene === {json.dumps(HIDDEN[0].name)}")
    packed = pack(HIDDEN[0])
    voxel = np.add(packed["focus"], packed["corner"])[::-1]
    x, y, z = (np.diag([-1, -1, 1, 1]) @ HIDDEN[0].grid.affine @ [*voxel, 1])[:3]
    assert told(browser) == f"x, y, z = {x:.1f}, {y:.1f}, {z:.1f} mm (RAS): scan 200"
    assert browser.complaints == []
