"""A network of three nested classes, from scans to scores, and handed on."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from scans.errors import CheckpointError
from scans.image.volume import read_volume, write_volume
from tests.made.real_scans import CATALOG, head
from tests.made.tiny_checkpoint import save_bright
from train.cases.classes import masks_of
from train.cli.application import app
from train.evaluation.evaluate import evaluate
from train.network.dice import dice
from train.segmentation.outputs import Options
from train.segmentation.segment import segment
from train.settings import Adapt
from train.share.export import export
from train.stages.adapt import adapt

CLASSES = {"whole tumour": [1, 2, 4], "tumour core": [1, 4], "enhancing tumour": [4]}
LEVELS = (1.3, 4.2, 7.2)
TASKS = """
tasks:
  nested: {dataset: heads, modalities: [FLAIR], folds: {parts: 2},
    classes: {enhancing tumour: [4], whole tumour: [1, 2, 4], tumour core: [1, 4]}}
  other: {dataset: heads, modalities: [FLAIR], folds: {parts: 2}, classes: {whole tumour: null}}
"""
DATA = {"dataset": "heads", "task": "nested", "classes": CLASSES, "training": ["x"], "test": ["one", "two"]}


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Two heads whose tumours grow brighter towards the middle, and a catalog with tasks."""
    root = tmp_path_factory.mktemp("heads")
    for seed, name in enumerate(["one", "two"]):
        flair, tumour, _ = head(seed=seed, spacing_mm=(3.0, 2.5, 2.0))
        labels = 2 * tumour.array
        spot = np.stack(np.nonzero(tumour.array), axis=1) * flair.spacing_mm
        distance = np.linalg.norm(spot - spot.mean(axis=0), axis=1)
        labels[tumour.array > 0] = np.select([distance < 6.5, distance < 10], [4, 1], 2)
        for label, intensity in ((1, 300), (4, 400)):
            flair.array[labels == label] = intensity
        write_volume(flair, root / f"{name}_flair.nii.gz")
        write_volume(tumour.with_array(labels), root / f"{name}_seg.nii.gz")
    path = root / "catalog.yaml"
    path.write_text(CATALOG.replace("FOLDER", str(root)) + TASKS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors", levels=LEVELS, stage="finetune", data=DATA)


@pytest.fixture(scope="module")
def evaluated(heads, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return evaluate(checkpoint, heads, "nested", out, device="cpu"), out


def truth_of(heads, name="one"):
    return masks_of(read_volume(heads.parent / f"{name}_seg.nii.gz").array, CLASSES)


@pytest.mark.parametrize("options", [{}, {"window": "native", "flips": True, "clean": "largest"}])
def test_one_label_map_in_the_datasets_labels_with_the_volume_of_each_class(heads, checkpoint, tmp_path, options):
    scan = heads.parent / "one_flair.nii.gz"
    (result,) = segment(checkpoint, [scan], tmp_path, options=Options(probabilities=True, **options), device="cpu")
    assert not result.problem
    labels = read_volume(tmp_path / "one_flair_mask.nii.gz")
    assert set(np.unique(labels.array)) == {0, 1, 2, 4}
    assert labels.same_grid(read_volume(scan))
    found = masks_of(labels.array, CLASSES)
    for mask, truth, least in zip(found, truth_of(heads), (0.85, 0.8, 0.6), strict=True):
        assert dice(mask, truth) > least
    with open(tmp_path / "summary.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    voxel_ml = np.prod(labels.spacing_mm) / 1000
    for name, mask in zip(CLASSES, found, strict=True):
        assert float(row[f"{name} (ml)"]) == pytest.approx(mask.sum() * voxel_ml, abs=1e-3)
        probability = read_volume(tmp_path / f"one_flair_probability_{name.replace(' ', '-')}.nii.gz").array
        assert (probability[mask] >= 0.5).all()
    assert float(row["volume_ml"]) == float(row["whole tumour (ml)"])
    (kept,) = segment(checkpoint, [scan], tmp_path, options=Options(probabilities=True, **options), device="cpu")
    assert kept.kept


def test_each_class_is_scored_on_the_masks_of_the_label_map(evaluated, heads):
    evaluation, out = evaluated
    for case in evaluation.scored:
        found = masks_of(read_volume(out / "masks" / f"{case.name}_mask.nii.gz").array, CLASSES)
        expected = [dice(mask, truth) for mask, truth in zip(found, truth_of(heads, case.name), strict=True)]
        assert [case.classes[name].dice for name in CLASSES] == pytest.approx(expected)
        assert case.model == case.classes["whole tumour"]
        assert all(np.isfinite(scores.hd95_mm) for scores in case.classes.values())


def test_scores_of_each_class_are_in_every_file_and_the_threshold_row_is_of_the_whole(evaluated):
    evaluation, out = evaluated
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["classes"] == CLASSES
    assert scores["threshold_of"] == "whole tumour"
    rows = [*(f"network: {name}" for name in CLASSES), "threshold: whole tumour"]
    assert list(scores["mean"]) == rows
    for name in CLASSES:
        dices = [case["network"][name]["dice"] for case in scores["cases"]]
        mean = scores["mean"][f"network: {name}"]["dice"]
        assert mean["mean"] == pytest.approx(np.mean(dices))
        assert min(dices) <= mean["low"] <= mean["mean"] <= mean["high"] <= max(dices)
    with open(out / "cases.csv", encoding="utf-8", newline="") as file:
        assert [row["row"] for row in csv.DictReader(file)] == rows * 2
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "scored on whole tumour alone" in page
    assert page.count("Cases, worst first: ") == 3
    assert page.count("Pictures, worst first: enhancing tumour") == 1
    assert "mean Dice of whole tumour" in evaluation.verdict()


def test_the_command_scores_a_task_and_shows_its_classes(checkpoint, heads, tmp_path):
    where = ("--checkpoint", str(checkpoint), "--catalog", str(heads), "--out", str(tmp_path), "--device", "cpu")
    result = CliRunner().invoke(app, ["evaluate", "--task", "nested", *where])
    assert result.exit_code == 0, result.output
    assert "enhancing" in result.output
    result = CliRunner().invoke(app, ["evaluate", *where])
    assert "give either --task or --dataset" in str(result.exception)


def test_other_classes_than_it_finds_are_refused_in_a_sentence(checkpoint, heads, tmp_path):
    with pytest.raises(CheckpointError, match=r"finds whole tumour, .* but other has the labels of whole tumour; give"):
        evaluate(checkpoint, heads, "other", tmp_path / "out")
    single = save_bright(tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match="finds tumour, but nested has the labels of"):
        evaluate(single, heads, "nested", tmp_path / "out")
    with pytest.raises(CheckpointError, match="finds 3 classes, and a corpus has one"):
        adapt(checkpoint, tmp_path / "corpus.zarr", heads, "heads", tmp_path / "run", Adapt())


def test_an_exported_network_names_its_classes_and_their_scores(checkpoint, evaluated, tmp_path):
    _, scores = evaluated
    exported = export(checkpoint, tmp_path / "shared", name="three", evaluations=[scores])
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "| 1 | tumour core | 1, 4 |" in card
    assert "name: 'Dice: tumour core'" in card
    assert "logits = network(scan)  # 3 masks" in card
