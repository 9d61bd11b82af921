"""Scenes: the bytes of a page stand for the voxels of a scan, and lie where those lie."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from scans.image.grid import Grid
from scans.page.niivue import about, niivue_gz
from scans.page.render import policy
from scans.page.scene import Areas, Grey, Scene, oriented_grid, pack, size_of
from scans.page.viewer import viewer
from tests.made.hostile_text import HOSTILE

OBLIQUE = Grid((9, 10, 12), (3.0, 2.0, 1.0), (5.0, -7.0, 11.0), (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, 1.0))


def scene(name="one", grid=OBLIQUE, seed=0, **changed):
    """Noise in a box, a hole in it, and a small area towards the end of each axis."""
    voxels = np.zeros(grid.shape, np.float32)
    voxels[1:-1, 2:-1, 4:-1] = np.random.default_rng(seed).normal(100, 10, voxels[1:-1, 2:-1, 4:-1].shape)
    voxels[4, 5, 6] = 0
    labels = np.zeros(grid.shape, np.uint8)
    labels[6:8, 7:9, 8:11], labels[6, 7, 8] = 2, 1
    shown = (Grey("scan", voxels, shown=True), Grey("other", voxels + 1))
    areas = Areas("areas", labels, (("first", "#f0a202"), ("second", "#25c5f5")))
    return replace(Scene(name, grid, shown, (90.0, 110.0), "units", areas), **changed)


def opened(layer):
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(layer["data"])))


@pytest.mark.parametrize("grid", [OBLIQUE, oriented_grid((9, 10, 12), (3.0, 2.0, 1.0), "SRA")])
def test_voxels_lie_in_the_page_where_they_lie_in_the_scan(grid):
    shown = scene(grid=grid)
    packed = pack(shown)
    z, y, x = packed["corner"]
    assert (z, y, x) == (0, 0, 2), "cropped to the scan and two voxels around it"
    for layer in packed["layers"]:
        image = opened(layer)
        assert image.shape == tuple(packed["shape"])[::-1]
        assert image.header["sform_code"] > 0
        assert np.allclose(image.affine, packed["affine"], atol=1e-4)
        in_scan = np.diag([-1, -1, 1, 1]) @ grid.affine @ [x + 3, y + 4, z + 5, 1]
        assert np.allclose(image.affine @ [3, 4, 5, 1], in_scan, atol=1e-4)
    assert np.array_equal(np.asarray(opened(packed["layers"][-1]).dataobj).T, shown.areas.labels[z:, y:, x:])


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SRA", "ASL"])
def test_axes_point_where_the_letters_say(orientation):
    layer = pack(scene(grid=oriented_grid((9, 10, 12), (3.0, 2.0, 1.0), orientation)))["layers"][0]
    assert "".join(nibabel.aff2axcodes(opened(layer).affine)) == orientation
    assert opened(layer).header.get_zooms() == (1.0, 2.0, 3.0)


def test_codes_give_the_intensities_back_and_say_what_was_clipped():
    shown = scene()
    voxels = shown.greys[0].voxels.copy()
    voxels[4, 5, 7], voxels[4, 5, 8], voxels[4, 5, 9] = 1e6, -1e6, np.nan
    packed = pack(scene(greys=(Grey("scan", voxels, shown=True),)))
    layer, corner = packed["layers"][0], tuple(slice(start, None) for start in packed["corner"])
    codes, voxels = np.asarray(opened(layer).dataobj).T, voxels[corner]
    assert layer["range"] == [-1e6, 1e6]
    assert np.array_equal(codes > 0, (voxels != 0) & ~np.isnan(voxels)), "outside is 0, and so is what is no number"
    back = layer["first"] + (codes.astype(float) - 1) * layer["step"]
    near = (codes > 1) & (codes < 255)
    assert near.sum() > 0.9 * (codes > 0).sum()
    assert np.abs(back - voxels)[near].max() <= layer["step"] / 2 * 1.001
    assert layer["step"] < 0.01 * (110 - 90), "finer than a hundredth of what is black to white"
    x = packed["corner"][2]
    assert (codes[4, 5, 7 - x], codes[4, 5, 8 - x]) == (255, 1)


def test_layers_show_nothing_outside_the_first_and_areas_tell_their_volume():
    packed = pack(scene())
    scan, other, areas = (np.asarray(opened(layer).dataobj) for layer in packed["layers"])
    assert (other[scan == 0] == 0).all()
    assert [each["ml"] for each in packed["layers"][2]["areas"]] == [0.006, 0.066]
    assert areas.max() == 2


def test_a_page_opens_at_what_there_is_to_see():
    shown = scene()
    z, y, x = np.add(pack(shown)["focus"], pack(shown)["corner"])
    assert shown.areas.labels[z, y, x]
    focus = np.zeros(OBLIQUE.shape, bool)
    focus[3, 4, 5] = True
    assert np.add(pack(scene(focus=focus))["focus"], pack(shown)["corner"]).tolist() == [3, 4, 5]
    nothing = np.zeros(OBLIQUE.shape, np.float32)
    empty = pack(scene(greys=(Grey("scan", nothing),), areas=None))
    assert empty["shape"] == [9, 10, 12]
    assert empty["focus"] == [4, 5, 6]


def test_the_same_scene_is_the_same_bytes():
    assert json.dumps(pack(scene())) == json.dumps(pack(scene()))


def scripts(page):
    return re.findall(r"<script>(.*?)</script>", page, re.DOTALL)


def test_a_page_runs_the_viewers_own_scripts_and_no_name_becomes_one():
    names = [*HOSTILE, "</script><script>alert(1)</script>", "<!--<script>"]
    shown = viewer(pack(scene(name, said=name)) for name in names)
    assert shown.names == tuple(names)
    (own,) = scripts(shown.body)
    theirs = gzip.decompress(base64.b64decode(niivue_gz()))
    known = [hashlib.sha256(each).digest() for each in (own.encode(), theirs)]
    allowed = re.search("script-src ([^;]*);", policy(shown))[1]
    assert allowed.split() == [f"'sha256-{base64.b64encode(each).decode()}'" for each in known]
    assert "default-src 'none'" in policy(shown)
    assert shown.body.count("<script") == len(names) + 2, "one each for the data, NiiVue and what runs it"
    data = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', shown.body, re.DOTALL)
    assert [json.loads(each)["name"] for each in data] == names
    assert "script-src 'none'" in policy(None)


def test_what_does_not_fit_into_a_page_is_named_and_left_to_pictures():
    packed = [pack(scene(f"case {n}", seed=n)) for n in range(4)]
    shown = viewer(packed, most_bytes=2 * max(map(size_of, packed)))
    assert (shown.names, shown.left_out) == (("case 0", "case 1"), ("case 2", "case 3"))
    assert "alone, as a page holds 0 MB of scans: case 2, case 3." in shown.body
    none = viewer(packed[:1], most_bytes=1)
    assert none.names == ()
    assert "<script" not in none.body
    assert viewer([]) is None


def test_the_packaged_viewer_is_the_one_on_record_and_brings_its_licences():
    assert about()["licence"] == "BSD-2-Clause"
    body = viewer([pack(scene())]).body
    for said in ("Copyright (c) 2021, Niivue", "Brandon Jones", "Arjun Barrett", "RII-UTHSCSA"):
        assert said in body, said
