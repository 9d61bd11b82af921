"""The catalog's tasks on small folders laid out as the challenges lay out theirs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from scans.catalog.catalog import load_catalog
from scans.errors import CatalogError
from scans.image.cases import find_cases
from scans.image.volume import read_volume, write_volume
from tests.made.real_scans import head, write_brats
from tests.made.tiny_checkpoint import save_bright
from train.architectures.choice import FIRST_CONVOLUTION
from train.cases.classes import masks_of
from train.cases.folds import read_folds, write_folds
from train.cases.tasks import task_folds
from train.cli.application import app
from train.evaluation.evaluate import evaluate
from train.proxies.recorded import load_checkpoint
from train.settings import Finetune, Schedule, SettingsError
from train.stages.finetune import finetune

pytestmark = pytest.mark.usefixtures("undrawn")

FIRST = FIRST_CONVOLUTION["unet"]
CATALOG = Path(__file__).parents[3] / "data_catalog.yaml"
SHORT = Finetune(
    network={"width": 2},
    schedule=Schedule(steps=2, batch=1, checkpoint_every=2, device="cpu", precision="fp32"),
)


def brain_region():
    return load_catalog(CATALOG).region("brain-flair").model_dump(mode="json")


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    return write_brats(tmp_path_factory.mktemp("brats") / "MICCAI_BraTS_2018_Data_Training")


@pytest.fixture(scope="module")
def lits(tmp_path_factory):
    """Training Batch 1 and 2: liver is 1, tumour 2; the last case has no tumour."""
    root = tmp_path_factory.mktemp("lits")
    for number in range(5):
        folder = root / f"Training Batch {1 + number // 3}"
        folder.mkdir(exist_ok=True)
        scan, tumour, liver = head(seed=number, spacing_mm=(4.0, 4.0, 4.0))
        array = liver.array + (tumour.array if number < 4 else 0)
        write_volume(scan, folder / f"volume-{number}.nii")
        write_volume(liver.with_array(array.astype(np.uint8)), folder / f"segmentation-{number}.nii")
    return root


@pytest.fixture
def here(monkeypatch, brats, lits):
    monkeypatch.setenv("BRATS2018_ROOT", str(brats))
    monkeypatch.setenv("LITS2017_ROOT", str(lits))


def test_one_path_finds_every_case_of_both_challenges(here):
    catalog = load_catalog(CATALOG)
    for name, count, images in (("BraTS2018", 6, 1), ("BraTS2018-4", 6, 4), ("LiTS2017", 5, 1)):
        cases = find_cases(catalog.dataset(name), name)
        assert len(cases) == count
        assert all(len(case.images) == images and case.label is not None and not case.problem for case in cases)


def test_folds_are_by_patient_and_leave_out_livers_without_tumour(here):
    said = []
    whole = task_folds(CATALOG, "WTS")
    assert len(whole.folds) == 3
    together = [{"Brats18_2013_10_1", "Brats18_2013_10_2"} & set(whole.parts(fold).test) for fold in range(3)]
    assert sorted(len(found) for found in together) == [0, 0, 2]
    liver = task_folds(CATALOG, "LTS", say=said.append)
    assert liver.without_tumour == ("4",)
    assert liver.cases == {"0", "1", "2", "3"}
    assert said == ["1 of 5 cases hold no tumour and are left out"]
    assert len(task_folds(CATALOG, "BTS").folds) == 1


def test_folds_are_written_and_used_from_the_command_line(here, tmp_path):
    file = tmp_path / "folds" / "WTS.json"
    said = CliRunner().invoke(app, ["folds", "--task", "WTS", "--out", str(file), "--catalog", str(CATALOG)])
    assert said.exit_code == 0, said.output
    assert "6 cases of BraTS2018" in said.output
    said = CliRunner().invoke(
        app,
        [
            *("finetune", "--task", "WTS", "--folds", str(file), "--fold", "1", "--fraction", "0.5"),
            *("--init", "scratch", "--catalog", str(CATALOG), "--out", str(tmp_path / "run")),
            *("--size", "32", "--width", "1"),
            *("--steps", "1", "--batch", "1", "--device", "cpu", "--precision", "fp32", "--augment", "mirror"),
        ],
    )
    assert said.exit_code == 0, said.output
    assert "--task WTS " in said.output
    record = load_checkpoint(tmp_path / "run" / "last.safetensors").record
    parts = read_folds(file).parts(1, 0.5)
    assert (record.data["training"], record.data["test"]) == (parts.training, parts.test)
    assert (record.data["task"], record.data["dataset"]) == ("WTS", "BraTS2018")
    assert record.settings["augment"] == "mirror"


def test_folds_are_the_same_for_every_seed_and_start(here, tmp_path):
    init = save_bright(tmp_path / "best.safetensors", size=32, region=brain_region())
    tests = []
    for number, start in enumerate((None, init)):
        schedule = SHORT.schedule.model_copy(update={"seed": number, "steps": 1})
        settings = SHORT.model_copy(update={"schedule": schedule})
        finetune(start, CATALOG, "WTS", tmp_path / str(number), settings, size=32)
        tests.append(load_checkpoint(tmp_path / str(number) / "last.safetensors").record.data["test"])
    assert tests[0] == tests[1]


def test_three_classes_in_four_modalities_begin_with_an_encoder_of_one_and_are_scored(here, brats, tmp_path):
    init = save_bright(tmp_path / "best.safetensors", size=32, region=brain_region())
    finetune(init, CATALOG, "BTS", tmp_path / "run", SHORT)
    before, after = load_checkpoint(init), load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert after.network["head.weight"].shape[0] == 2 * 4 + 3
    assert after.network[FIRST].shape[1] == 4
    assert before.network[FIRST].shape[1] == 1
    assert list(after.record.data["classes"]) == ["whole tumour", "tumour core", "enhancing tumour"]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = next(line for line in log if "validation_dice" in line)
    each = [scores[f"validation_dice_{name}"] for name in ("whole_tumour", "tumour_core", "enhancing_tumour")]
    assert np.mean(each) == pytest.approx(scores["validation_dice"])
    evaluation = evaluate(tmp_path / "run" / "best.safetensors", CATALOG, "BTS", tmp_path / "out", device="cpu")
    (case,) = evaluation.scored
    (path,) = brats.glob(f"*/{case.name}/{case.name}_seg.nii.gz")
    masks = masks_of(read_volume(path).array, after.record.data["classes"])
    assert [case.classes[name].truth_ml for name in after.record.data["classes"]] == pytest.approx(
        masks.sum(axis=(1, 2, 3)) * 4.0**3 / 1000
    )


def test_a_network_is_scored_against_the_labels_it_was_trained_on(here, brats, tmp_path):
    task = "tasks: {cores: {dataset: BraTS2018, modalities: [FLAIR], classes: {core: [1, 4]}, folds: {parts: 3}}}"
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(f"include: ['{CATALOG}']\n{task}\n", encoding="utf-8")
    finetune(None, catalog, "cores", tmp_path / "run", SHORT, size=32)
    evaluation = evaluate(tmp_path / "run" / "last.safetensors", catalog, "BraTS2018", tmp_path / "out", device="cpu")
    assert len(evaluation.scored) == 2
    for case in evaluation.scored:
        (path,) = brats.glob(f"*/{case.name}/{case.name}_seg.nii.gz")
        voxels = np.isin(read_volume(path).array, (1, 4)).sum()
        assert case.model.truth_ml == pytest.approx(voxels * 4.0**3 / 1000)


def test_livers_from_scratch_are_normalised_by_their_training_cases_and_scored_where_there_is_a_tumour(here, tmp_path):
    ours = "normalisation: {kind: zscore, scale: 25, raw_zero: -1024}"
    common = CATALOG.read_text(encoding="utf-8").replace(ours, "normalisation: {kind: window, raw_zero: -1024}")
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(common, encoding="utf-8")
    finetune(None, catalog, "LTS", tmp_path / "run", SHORT, size=32)
    record = load_checkpoint(tmp_path / "run" / "last.safetensors").record
    statistics = record.channels[0]["statistics"]
    # Tissue of 100 with a deviation of 6 and 200 in the tumour, of which the percentile keeps a part; -1024 is 0.
    low, mean, high = (statistics[name] - 1024 for name in ("low", "mean", "high"))
    assert 80 < low < 100 < mean < 120 < high
    assert 150 < high < 200
    assert "4" not in record.data["training"] + record.data["validation"] + record.data["test"]
    best = tmp_path / "run" / "best.safetensors"
    evaluation = evaluate(best, catalog, "LTS", tmp_path / "out", all_cases=True, device="cpu")
    assert [case.name for case in evaluation.cases] == ["0", "1", "2", "3"]
    assert "but 1 without a tumour" in evaluation.selection


def test_folds_that_do_not_fit_the_scans_here_are_refused(here, brats, tmp_path):
    file = tmp_path / "WTS.json"
    folds = task_folds(CATALOG, "WTS")
    write_folds(folds, file)
    with pytest.raises(SettingsError, match="folds of WTS, not of BTS"):
        finetune(None, CATALOG, "BTS", tmp_path / "run", SHORT, size=32, folds_file=file)
    content = file.read_text(encoding="utf-8").replace("Brats18_CBICA_AAB_1", "Brats18_CBICA_ZZZ_1")
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match="Brats18_CBICA_ZZZ_1, which the dataset BraTS2018 has not here"):
        finetune(None, CATALOG, "WTS", tmp_path / "run", SHORT, size=32, folds_file=file)


def test_a_task_without_scans_says_what_to_do(monkeypatch):
    monkeypatch.delenv("BRATS2018_ROOT", raising=False)
    with pytest.raises(CatalogError, match="set BRATS2018_ROOT"):
        task_folds(CATALOG, "WTS")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("dataset: heads -> dataset: hands", "task T: no dataset hands; there are heads"),
        ("modalities: [FLAIR] -> modalities: [T2]", "task T: names T2"),
        ("classes: {all: null} -> classes: {}", "classes"),
        ("classes: {all: null} -> classes: {all: []}", "class all has no label values"),
        ("classes: {all: null} -> classes: {all: [0, 1]}", "0 marks nothing in a label file"),
        ("folds: {parts: 3} -> folds: {parts: 3, share: 0.1}", "exactly one of parts, share and test"),
        ("  T: -> heads:", "a dataset has this name"),
        ("label: -> lesion:", "gives no pattern for label"),
        ("modalities: [FLAIR] -> modality: FLAIR", "modality"),
    ],
)
def test_a_task_that_cannot_be_is_refused_in_one_line(tmp_path, change, sentence):
    text = """
regions: {brain: {modality: FLAIR}}
datasets:
  heads: {role: tumour, region: brain, modality: FLAIR, licence: CC0, terms: none, redistribute_derived: true,
    citation: nobody, obtain: here, root: {path: data}, layout: {image: "{case}.nii", label: "{case}_seg.nii"}}
tasks:
  T:
    dataset: heads
    modalities: [FLAIR]
    classes: {all: null}
    folds: {parts: 3}
"""
    path = tmp_path / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_catalog(path).task("T").classes == {"all": None}
    old, new = change.split(" -> ")
    assert old in text
    path.write_text(text.replace(old, "  heads:" if new == "heads:" else new), encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        load_catalog(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_cannot_be_read_is_told_of_and_its_case_stays_in_its_fold(monkeypatch, lits, tmp_path):
    shutil.copytree(lits, tmp_path / "lits")
    (tmp_path / "lits" / "Training Batch 1" / "segmentation-1.nii").write_bytes(b"cut off")
    monkeypatch.setenv("LITS2017_ROOT", str(tmp_path / "lits"))
    said: list[str] = []
    folds = task_folds(CATALOG, "LTS", say=said.append)
    assert "1" in folds.cases
    assert said[0].startswith("1 stays in its fold, but cannot be used: ")
