"""The ``synth`` command as a user meets it: files out, exit codes, one sentence for a mistake."""

import io

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from scans.image.volume import read_mask, read_volume, write_volume
from synth.cli.application import app
from synth.corpus import Corpus
from synth.tumour.sample import Sample
from tests.made.commands import synth
from tests.made.scan_files import brain

CATALOG = """
regions:
  brain: {modality: FLAIR, synthesis: {shape: {volume_mm3: [300, 3000]}}}
datasets:
  clinic:
    role: normal
    region: brain
    modality: FLAIR
    licence: none
    terms: none
    redistribute_derived: true
    citation: none
    obtain: ask the clinic
    root: {path: scans}
    layout: {image: "{case}.nii.gz"}
"""


@pytest.fixture
def clinic(tmp_path):
    """A folder with a catalog, three good scans and a truncated one."""
    (tmp_path / "data_catalog.yaml").write_text(CATALOG, encoding="utf-8")
    (tmp_path / "scans").mkdir()
    for seed in range(3):
        write_volume(brain(seed=seed), tmp_path / "scans" / f"p{seed}.nii.gz")
    whole = (tmp_path / "scans" / "p0.nii.gz").read_bytes()
    (tmp_path / "scans" / "torn.nii.gz").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_the_road_from_scans_to_a_verified_corpus(clinic):
    listed = synth("scan", "--deep", cwd=clinic)
    assert listed.returncode == 1
    assert "torn.nii.gz" in listed.stdout
    prepared = synth("prepare", "--region", "brain", "--out", "s.zarr", "--size", 32, cwd=clinic)
    assert prepared.returncode == 1  # not everything asked for was done
    assert "3 prepared, 0 kept, 1 left out" in prepared.stdout
    assert "left out clinic/torn: " in prepared.stderr
    line = ["generate", "--sources", "s.zarr", "--out", "c[lab].zarr", "-n", 6, "--seed", 3, "--workers", 0]
    made = synth(*line, "--set", "alpha=[0.5,0.6]", cwd=clinic)
    assert made.returncode == 0, made.stderr
    assert "next: synth verify" in made.stdout
    verified = synth("verify", "c[lab].zarr", cwd=clinic)
    assert (verified.returncode, verified.stdout) == (0, "c[lab].zarr: sound\n")
    assert all(0.5 <= sample.alpha <= 0.6 for sample in Corpus(clinic / "c[lab].zarr"))
    shown = synth("show", "c[lab].zarr", "-i", 4, cwd=clinic)
    assert shown.returncode == 0
    assert "6 of 32³ voxels" in synth("info", "c[lab].zarr", cwd=clinic).stdout

    (clinic / "c[lab].zarr" / "layer" / "c.0.0").write_bytes(b"")
    broken = synth("verify", "c[lab].zarr", cwd=clinic)
    assert broken.returncode == 1
    assert "layer/c.0.0 has 0 bytes" in broken.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scan", "--catalog", "nowhere.yaml"], "nowhere.yaml"),
        (["prepare", "--dataset", "BraTS", "--out", "s.zarr"], "no dataset BraTS"),
        (["prepare", "--out", "s.zarr"], "--dataset NAME"),
        (["prepare", "--dataset", "clinic", "--out", "s.zarr", "--size", "100"], "multiple of 8"),
        (["generate", "--sources", "nowhere.zarr", "--out", "c.zarr", "-n", "5"], "no sources here"),
        (["verify", "nowhere.zarr"], "no corpus here"),
        (["show", "nowhere.zarr"], "no corpus here"),
        (["info", "scans"], "no corpus here"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(clinic, arguments, sentence):
    result = synth(*arguments, cwd=clinic)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert "error: " in result.stderr
    assert not (clinic / "c.zarr").exists()


@pytest.mark.parametrize("command", ["scan", "prepare", "generate", "info", "verify", "show", "export"])
def test_every_help_teaches_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"synth {command}" in result.output
    assert "Example" in result.output


def test_montage_shows_three_planes_of_four_pictures_a_sample(corpus_path):
    from synth.report.montage import montage_png

    picture = imread(io.BytesIO(montage_png(Corpus(corpus_path), [0, 5])))
    height, width = picture.shape[:2]
    # Two samples of three rows; the column of numbers and four of pictures, none of them empty.
    for row in range(6):
        for column in range(4):
            top, left = int(height * (0.03 + row * 0.16)), int(width * (0.14 + column * 0.215))
            cell = picture[top : top + height // 6, left : left + width // 5, :3]
            assert cell.std() > 0.01, (row, column)
    green = (picture[..., 1] > 0.6) & (picture[..., 0] < 0.4)
    assert green[:, int(width * 0.75) :].any()  # the mask's contour, in the last column


def test_exported_samples_are_scans_in_the_space_of_their_normal(clinic, monkeypatch):
    monkeypatch.chdir(clinic)
    for code, *arguments in (
        (1, "prepare", "--region", "brain", "--out", "s.zarr", "--size", 32, "--workers", 0),  # a scan is truncated
        (0, "generate", "--sources", "s.zarr", "--out", "c.zarr", "-n", 4, "--workers", 0),
        (0, "export", "c.zarr", "--out", "nifti", "-i", 2),
    ):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == code, result.output
    corpus = Corpus(clinic / "c.zarr")
    sample: Sample = corpus[2]
    image = read_volume(clinic / "nifti" / "sample000002_image.nii.gz")
    mask = read_mask(clinic / "nifti" / "sample000002_mask.nii.gz")
    assert image.same_grid(mask)
    np.testing.assert_allclose(image.array, sample.composite, atol=1e-6)
    np.testing.assert_array_equal(mask.array, sample.mask)
    np.testing.assert_allclose(image.spacing_mm, corpus.spacing_mm(2), rtol=1e-5)
    scan = read_volume(clinic / "scans" / f"p{corpus.normal[2]}.nii.gz")
    centre = [np.array(v.grid.affine @ [*((np.array(v.array.shape[::-1]) - 1) / 2), 1])[:3] for v in (image, scan)]
    assert np.linalg.norm(centre[0] - centre[1]) < 30  # the cube lies in the scan, in mm
