import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scans.file_names import safe_names
from tests.made.real_scans import CATALOG, write_case
from tests.made.tiny_checkpoint import bright_network
from train.cases.prepared import RealScan
from train.network import hardware
from train.network.unet import UNet
from train.run.pictures import validation_picture
from train.settings import Network
from train.stages.real_validation import RealValidation, find_real_cases

REGION = {"name": "brain", "modality": "FLAIR"}
CHANNELS = [{"region": REGION, "statistics": None}]
SIZE = 32


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Two datasets of heads: three cases (one without annotation, one that is no scan) and two."""
    root = tmp_path_factory.mktemp("cases")
    for seed, name in enumerate(["a", "b", "unlabelled"]):
        write_case(root / "first", name, seed=seed, spacing_mm=(3.0, 2.5, 2.0))
    (root / "first" / "unlabelled_seg.nii.gz").unlink()
    for seed, name in enumerate(["c", "d"]):
        write_case(root / "second", name, seed=seed, spacing_mm=(3.0, 2.5, 2.0))
    (root / "first" / "broken_flair.nii.gz").write_bytes(b"no scan")
    (root / "first" / "broken_seg.nii.gz").write_bytes(b"no mask")
    entry = CATALOG[CATALOG.index("  heads:") : CATALOG.index("  livers:")]
    text = CATALOG.replace("FOLDER", str(root / "first"))
    text += entry.replace("heads", "more heads").replace("FOLDER", str(root / "second"))
    text += entry.replace("heads", "elsewhere").replace("FOLDER", str(root / "nowhere"))
    text += entry.replace("heads", "healthy").replace("role: tumour", "role: normal").replace("FOLDER", str(root))
    path = root / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def scans(catalog):
    return find_real_cases(catalog, CHANNELS, SIZE, 9)


def test_annotated_cases_of_the_region_are_spread_over_datasets(catalog):
    said = []
    found = find_real_cases(catalog, CHANNELS, SIZE, 3, said.append)
    assert [scan.name for scan in found] == ["heads--a", "more heads--c", "heads--b"]
    assert all(scan.mask.any() and scan.intensity.dtype == np.float32 for scan in found)
    assert said == []


def test_a_case_that_cannot_be_used_is_told_and_replaced(catalog):
    said = []
    found = find_real_cases(catalog, CHANNELS, SIZE, 9, said.append)
    assert sorted(scan.name for scan in found) == ["heads--a", "heads--b", "more heads--c", "more heads--d"]
    assert len(said) == 1
    assert "broken" in said[0]


def test_no_catalog_no_region_or_no_wish_is_no_error(catalog, tmp_path):
    assert find_real_cases(None, CHANNELS, SIZE, 3) == []
    assert find_real_cases(catalog, CHANNELS, SIZE, 0) == []
    assert find_real_cases(catalog, [{"region": {**REGION, "name": "lung"}, "statistics": None}], SIZE, 3) == []
    said = []
    assert find_real_cases(tmp_path / "none.yaml", CHANNELS, SIZE, 3, said.append) == []
    assert len(said) == 1
    assert "none.yaml" in said[0]


def test_a_network_that_finds_what_is_bright_scores_high_on_real_cases(scans):
    machine = hardware.choose("cpu", "fp32")
    network = machine.place(bright_network()).eval()
    scores = RealValidation(scans, 3).scores(network, machine)
    each = {name: value for name, value in scores.items() if name != "real_dice"}
    assert set(each) == {f"real_dice.{name}" for name in ("heads--a", "heads--b", "more_heads--c", "more_heads--d")}
    assert scores["real_dice"] == pytest.approx(np.mean(list(each.values())))
    assert min(each.values()) > 0.8
    assert RealValidation(scans, 1).scores(network, machine) == pytest.approx(scores)


def test_scoring_leaves_the_network_as_it_was(scans):
    machine = hardware.choose("cpu", "fp32")
    network = machine.place(UNet(Network(width=2))).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    RealValidation(scans, 2).scores(network, machine)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_without_cases_there_is_nothing_to_show():
    machine = hardware.choose("cpu", "fp32")
    nothing = RealValidation([], 2)
    assert nothing.scores(bright_network().eval(), machine) == {}
    assert nothing.views(bright_network().eval(), machine) == []


def test_a_picture_shows_every_case(scans, tmp_path):
    machine = hardware.choose("cpu", "fp32")
    views = RealValidation(scans, 2).views(machine.place(bright_network()).eval(), machine)
    assert [view.name for view in views] == [scan.name for scan in scans]
    assert all(view.mask.any() for view in views)
    image = validation_picture(views, tmp_path / "real-0000001.png")
    assert image.shape[0] > 4 * 100
    assert [file.name for file in tmp_path.iterdir()] == ["real-0000001.png"]


def test_several_modalities_go_through_a_network_of_as_many_channels():
    machine = hardware.choose("cpu", "fp32")
    network = machine.place(UNet(Network(width=2, in_channels=3))).eval()
    draw = np.random.default_rng(0)
    many = [
        RealScan(
            f"case {n}",
            draw.normal(size=(3, 16, 16, 16)).astype(np.float32),
            draw.random((16, 16, 16)) < 0.1,
            (1.0, 1.0, 1.0),
        )
        for n in range(2)
    ]
    validation = RealValidation(many, 2)
    assert 0 <= validation.scores(network, machine)["real_dice"] <= 1
    assert validation.views(network, machine)[0].scan.shape == (16, 16, 16)


@given(st.lists(st.one_of(st.text(max_size=4), st.sampled_from(["a", "a-2", "a b", "a_b", ""])), max_size=12))
def test_names_are_safe_and_no_two_alike(names):
    safe = safe_names(names)
    assert len(set(safe)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in safe)


@given(st.lists(st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True), unique=True))
def test_names_that_are_safe_stay_as_they_are(names):
    assert safe_names(names) == names
