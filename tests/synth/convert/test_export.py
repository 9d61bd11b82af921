"""A corpus in other tools' formats: what nnU-Net v2 requires of a dataset, and scans that any viewer opens.

nnU-Net itself is not installed here. `read_as_nnunet` asks for what its `verify_dataset_integrity` asks for.
"""

import json
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from scans.errors import StoreError
from scans.image.grid import Grid
from scans.image.volume import read_mask, read_volume
from synth.cli import main
from synth.convert.nifti import export_nifti
from synth.convert.nnunet import part_by_source, plan_dataset, write_dataset
from synth.corpus import Corpus
from tests.made.commands import synth
from tests.made.scan_files import brain, save

# Axes that are neither the network's nor at right angles to the scanner's, one of them flipped.
TILTED = Grid((30, 36, 32), (1.5, 1.0, 1.2), (-20.0, 10.0, 5.0), (0.96, -0.28, 0, 0.28, 0.96, 0, 0, 0, -1))
CATALOG = """
regions:
  brain-flair: {modality: FLAIR, synthesis: {shape: {volume_mm3: [300, 3000]}}}
datasets:
  clinic:
    role: normal
    region: brain-flair
    modality: FLAIR
    licence: CC BY 4.0
    terms: cite us
    redistribute_derived: true
    citation: Doe 2020
    obtain: ask the clinic
    root: {path: scans}
    layout: {image: "{case}.nii.gz"}
"""


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """A folder with three scans of different places in space, and two corpora made from them."""
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "data_catalog.yaml").write_text(CATALOG, encoding="utf-8")
    for seed in range(3):
        grid = Grid(TILTED.shape, TILTED.spacing_mm, (-20.0 + 7 * seed, 10.0, 5.0), TILTED.direction)
        save(brain(grid, seed), folder / "scans" / f"p{seed}.nii.gz")
    assert not synth("prepare", "--dataset", "clinic", "--out", "s.zarr", "--size", 32, "--workers", 0,
                     cwd=folder).returncode  # fmt: skip
    for name, seed in (("c.zarr", 3), ("other.zarr", 4)):
        assert not synth("generate", "--sources", "s.zarr", "--out", name, "-n", 12, "--seed", seed, "--workers", 0,
                         cwd=folder).returncode  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def corpus(clinic):
    return Corpus(clinic / "c.zarr")


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """The dataset of all samples, written in one go."""
    dataset = plan_dataset(corpus, range(12), tmp_path_factory.mktemp("raw"), 501, "Brain")
    write_dataset(corpus, dataset)
    return dataset.folder


def export_nnunet(corpus, indices, raw, dataset_id, name):
    return write_dataset(corpus, plan_dataset(corpus, indices, raw, dataset_id, name))


def read_as_nnunet(folder):
    """Return dataset.json and {case: (image, label)} after the checks that nnU-Net makes before it trains."""
    assert re.fullmatch(r"Dataset\d{3}_[\w-]+", folder.name)
    description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert description.keys() >= {"channel_names", "labels", "numTraining", "file_ending"}
    ending = description["file_ending"]
    images = sorted(file.name for file in (folder / "imagesTr").iterdir() if file.name.endswith(ending))
    cases = [name[: -len(ending) - 5] for name in images]
    assert images == [f"{case}_0000{ending}" for case in cases]
    assert len(cases) == description["numTraining"]
    assert len(list(description["channel_names"])) == 1
    read = {}
    for case in cases:
        image = sitk.ReadImage(folder / "imagesTr" / f"{case}_0000{ending}")
        label = sitk.ReadImage(folder / "labelsTr" / f"{case}{ending}")
        for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(image, what)() == getattr(label, what)(), case
        assert set(np.unique(sitk.GetArrayFromImage(label))) <= set(description["labels"].values())
        assert np.isfinite(sitk.GetArrayFromImage(image)).all()
        read[case] = (image, label)
    assert sorted(description["labels"].values()) == list(range(len(description["labels"])))
    return description, read


def contents(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


def test_a_dataset_passes_what_nnunet_checks(whole):
    description, read = read_as_nnunet(whole)
    assert list(read) == [f"Brain_{index:06d}" for index in range(12)]
    assert description["labels"] == {"background": 0, "tumour": 1}
    assert {path.name for path in whole.iterdir()} == {
        "dataset.json", "splits_final.json", "corpus.json", "imagesTr", "labelsTr", ".lock"
    }  # fmt: skip
    assert not list(whole.rglob("*.tmp"))


def test_a_dataset_holds_the_samples_in_the_space_of_their_normals(whole, corpus, clinic):
    for index, (image, label) in enumerate(read_as_nnunet(whole)[1].values()):
        sample = corpus[index]
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sample.composite)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(label), sample.mask)
        np.testing.assert_allclose(image.GetSpacing()[::-1], corpus.spacing_mm(index), rtol=1e-5)
        scan = read_volume(clinic / "scans" / f"p{corpus.normal[index]}.nii.gz")
        middle = np.array(image.TransformContinuousIndexToPhysicalPoint([15.5] * 3))
        assert np.linalg.norm(middle - scan.grid.corners().mean(axis=0)) < 2  # mm; the organ fills its scan
        # The network's axes are the scan's, turned to LPS: the cube lies as tilted as the scan does.
        np.testing.assert_allclose(np.abs(image.GetDirection()), np.abs(TILTED.direction), atol=1e-5)


def test_nnunet_is_told_not_to_normalise_again(whole):
    assert json.loads((whole / "dataset.json").read_text(encoding="utf-8"))["channel_names"] == {"0": "noNorm"}


def test_a_dataset_says_where_it_comes_from(whole, corpus):
    description = json.loads((whole / "dataset.json").read_text(encoding="utf-8"))
    assert description["identity"] == corpus.identity
    assert (description["licence"], description["terms"]) == ("CC BY 4.0", "cite us")
    assert description["reference"] == "Doe 2020"
    assert description["redistribute_derived"] is True
    assert "FLAIR" in description["description"]
    assert description["normalisation"]["kind"] == "zscore"
    sources = json.loads((whole / "corpus.json").read_text(encoding="utf-8"))["sources"]
    assert [source["name"] for source in sources] == ["clinic--p0", "clinic--p1", "clinic--p2"]


def test_validation_shares_no_source_with_training(whole, corpus):
    folds = json.loads((whole / "splits_final.json").read_text(encoding="utf-8"))
    assert len(folds) == 3
    index = {f"Brain_{i:06d}": i for i in range(12)}
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(index)
    for fold in folds:
        held = {int(corpus.normal[index[case]]) for case in fold["val"]}
        seen = {int(corpus.recipe(index[case])[role]) for case in fold["train"] for role in ("normal", "donor")}
        assert held
        assert seen
        assert not held & seen


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=2, max_size=60))
def test_every_sample_validates_once_and_no_fold_is_empty(pairs):
    normals, donors = [list(column) for column in zip(*pairs, strict=True)]
    folds = part_by_source(normals, donors)
    assert folds == part_by_source(normals, donors)
    assert sorted(i for _, validation in folds.parts for i in validation) == list(range(len(normals)))
    for training, validation in folds.parts:
        assert training
        assert validation
        assert not set(training) & set(validation)
        if len(set(normals)) > 1:
            held = {normals[i] for i in validation}
            assert not held & {normals[i] for i in training}
            if "neither" in folds.note:
                assert not held & {donors[i] for i in training}
    assert len(folds.parts) == min(5, len(set(normals)) if len(set(normals)) > 1 else len(normals))
    assert ("one source" in folds.note) == (len(set(normals)) == 1)


def test_folds_are_about_as_large_as_one_another():
    normals = [0] * 40 + [1] * 30 + [2] * 30 + [3] * 20 + [4] * 20 + [5] * 10 + [6] * 10
    sizes = [len(validation) for _, validation in part_by_source(normals, [7] * len(normals)).parts]
    assert sorted(sizes) == [30, 30, 30, 30, 40]


def test_a_killed_export_has_no_description_and_the_next_run_makes_only_what_is_missing(
    clinic, corpus, whole, tmp_path
):
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from synth.corpus import Corpus\n"
        "from synth.convert.nnunet import plan_dataset, write_dataset\n"
        "done = []\n"
        "def written(count):\n"
        "    done.append(count)\n"
        "    if sum(done) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "corpus = Corpus('c.zarr')\n"
        f"write_dataset(corpus, plan_dataset(corpus, range(12), Path({str(tmp_path)!r}), 501, 'Brain'), written)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=clinic, check=False, timeout=120)
    assert killed.returncode == -9
    folder = tmp_path / whole.name
    assert not (folder / "dataset.json").exists()
    (folder / "imagesTr" / ".Brain_000011_0000.nii.gz.0.tmp").write_bytes(b"torn")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*Tr/*.nii.gz")}
    counts = []
    again = write_dataset(corpus, plan_dataset(corpus, range(12), tmp_path, 501, "Brain"), counts.append)
    assert 5 <= again.kept <= 12
    assert counts == [again.kept] + [1] * again.made
    assert contents(folder) == contents(whole)
    labels = [path.name for path in before if path.parent.name == "labelsTr"]  # of a case, what is written last
    for name in labels:
        for path in (folder / "labelsTr" / name, folder / "imagesTr" / name.replace(".nii.gz", "_0000.nii.gz")):
            assert path.stat().st_mtime_ns == before[path]


def test_a_torn_file_is_written_again(corpus, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / whole.name)
    torn = folder / "imagesTr" / "Brain_000004_0000.nii.gz"
    torn.write_bytes(torn.read_bytes()[:1000])
    assert export_nnunet(corpus, range(12), tmp_path, 501, "Brain").kept == 11
    assert contents(folder) == contents(whole)


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_disk_that_refuses_is_one_sentence_and_leaves_no_torn_file(clinic, tmp_path):
    """A limit on the size of files stands in for a full disk: writing fails with an error of the system."""
    arguments = ["export", "c.zarr", "--format", "nnunet", "--out", tmp_path]
    result = synth(*arguments, cwd=clinic, preexec_fn=small_files)
    assert result.returncode == 2
    assert "cannot be written" in result.stderr
    assert "Traceback" not in result.stderr
    left = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    assert sorted(left) == [".lock", "corpus.json"]
    assert synth(*arguments, cwd=clinic).returncode == 0
    read_as_nnunet(tmp_path / "Dataset500_BrainFlair")


def test_more_samples_join_a_dataset_and_fewer_are_refused(corpus, whole, tmp_path):
    export_nnunet(corpus, [3, 7], tmp_path, 501, "Brain")
    assert read_as_nnunet(tmp_path / whole.name)[0]["numTraining"] == 2
    assert export_nnunet(corpus, range(12), tmp_path, 501, "Brain").kept == 2
    assert contents(tmp_path / whole.name) == contents(whole)
    with pytest.raises(StoreError, match=r"Brain_000000_0000\.nii\.gz is not among the samples"):
        export_nnunet(corpus, range(1, 12), tmp_path, 501, "Brain")
    assert contents(tmp_path / whole.name) == contents(whole)


def test_a_folder_of_something_else_is_left_alone(clinic, corpus, whole, tmp_path):
    shutil.copytree(whole, tmp_path / whole.name)
    (tmp_path / "Dataset502_Mine" / "imagesTr").mkdir(parents=True)
    (tmp_path / "Dataset502_Mine" / "imagesTr" / "a_0000.nii.gz").write_bytes(b"")
    before = contents(tmp_path)
    with pytest.raises(StoreError, match="Dataset501_Brain holds samples of another corpus"):
        export_nnunet(Corpus(clinic / "other.zarr"), range(12), tmp_path, 501, "Brain")
    with pytest.raises(StoreError, match="Dataset502_Mine was not made by synth export"):
        export_nnunet(corpus, range(12), tmp_path, 502, "Mine")
    with pytest.raises(StoreError, match=r"--dataset-id 502: .*Dataset502_Mine has it already"):
        export_nnunet(corpus, range(12), tmp_path, 502, "Yours")
    assert contents(tmp_path) == before


def test_a_command_makes_a_dataset_and_says_what_to_type_next(clinic, corpus, tmp_path):
    result = synth("export", "c.zarr", "--format", "nnunet", "--out", tmp_path, "--dataset-id", 7, cwd=clinic)
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path}/Dataset007_BrainFlair: 12 samples (0 kept from before)" in result.stdout
    assert "next: nnUNetv2_plan_and_preprocess -d 7 --verify_dataset_integrity" in result.stdout
    assert "neither as normal nor as donor" in result.stdout
    _, read = read_as_nnunet(tmp_path / "Dataset007_BrainFlair")
    assert len(read) == len(corpus)


def test_a_dataset_of_one_source_says_that_validation_sees_its_anatomy(clinic, corpus, tmp_path):
    result = synth("export", "c.zarr", "--format", "nnunet", "--out", tmp_path, "--source", "clinic--p1", cwd=clinic)
    assert result.returncode == 0, result.stderr
    assert "splits_final.json: one source: validation sees the same anatomy as training" in result.stdout
    _, read = read_as_nnunet(tmp_path / "Dataset500_BrainFlair")
    assert len(read) == (corpus.normal == 1).sum()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--format", "dicom"], "--format dicom: give nifti or nnunet"),
        (["--format", "nnunet", "--dataset-id", "0"], "--dataset-id 0: give a whole number from 1 to 999"),
        (["--format", "nnunet", "--dataset-id", "1000"], "--dataset-id 1000: give a whole number from 1 to 999"),
        (["--format", "nnunet", "--name", "my brains"], "--name 'my brains': use 1 to 64 letters"),
        (["--format", "nnunet", "--name", "../b"], "--name '../b'"),
        (["--format", "nnunet", "--name", ""], "--name ''"),
        (["--format", "nnunet", "-i", "3"], "choose two samples or more"),
        (["--format", "nnunet", "--layers"], "--layers: nnU-Net learns the mask"),
        (["--format", "nnunet", "--out", "Dataset500_Brain"], "give the folder that holds the datasets"),
        (["--format", "nnunet", "-i", "3", "-i", "12"], "-i 12: "),
        (["--name", "Brain"], "--dataset-id and --name belong to a dataset of nnU-Net"),
        (["--most", "0"], "--most 0: ask for at least one sample"),
        (["--source", "p9"], "--source p9: "),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(clinic, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "exported"]
    monkeypatch.setattr(sys, "argv", ["synth", "export", str(clinic / "c.zarr"), *out, *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert sentence in said
    assert said.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nifti_holds_the_layers_that_compose_the_image(corpus, tmp_path):
    written = export_nifti(corpus, [1, 4], tmp_path / "plain")
    assert [path.name for path in written] == ["sample000001_image.nii.gz", "sample000004_image.nii.gz"]
    assert len(list((tmp_path / "plain").iterdir())) == 6
    export_nifti(corpus, [4], tmp_path, layers=True)
    image, normal, texture = (
        read_volume(tmp_path / f"sample000004_{name}.nii.gz") for name in ("image", "normal", "texture")
    )
    mask = read_mask(tmp_path / "sample000004_mask.nii.gz")
    assert all(image.same_grid(other, 1e-4) for other in (normal, texture, mask))
    blended = normal.array + np.float32(corpus[4].alpha) * (texture.array - normal.array)
    expected = np.where(mask.array, blended.astype(np.float16).astype(np.float32), normal.array)
    np.testing.assert_array_equal(image.array, expected)


def test_nifti_is_ten_samples_if_nothing_is_said(clinic, tmp_path):
    assert synth("export", "c.zarr", "--out", tmp_path, cwd=clinic).returncode == 0
    assert len(list(tmp_path.glob("*_image.nii.gz"))) == 10
