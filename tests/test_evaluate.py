import csv
import json

import pytest
from modality_pairs import save_looking_at, write_pair, write_pairs_catalog
from real_scans import write_case, write_catalog
from tiny_checkpoint import LEVEL, save_bright
from typer.testing import CliRunner

from scans.errors import CatalogError
from scans.volume import read_mask, read_volume
from train.cli import app
from train.evaluate import evaluate


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    for seed, name in enumerate(["one", "two <b>"]):
        write_case(root / "data", name, seed=seed, spacing_mm=(3.0, 2.5, 2.0))
    return write_catalog(root / "catalog.yaml", root / "data")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors")


@pytest.fixture(scope="module")
def evaluated(heads, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return evaluate(checkpoint, heads, "heads", out), out


def test_every_case_is_scored_beside_the_threshold_row(evaluated):
    evaluation, out = evaluated
    with open(out / "cases.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["row"]) for row in rows] == [
        (case.name, row) for case in evaluation.cases for row in ("network", "threshold")
    ]
    assert all(float(row["dice"]) > 0.85 for row in rows)
    assert all(float(row["hd95_mm"]) < 4 for row in rows)


def test_json_says_the_same_with_its_conventions(evaluated):
    evaluation, out = evaluated
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["verdict"] == evaluation.verdict()
    assert scores["mean"]["network"]["dice"]["cases"] == 2
    assert scores["mean"]["network"]["one_empty"] == 0
    assert scores["threshold_rule"]["side"] == "above"
    (first, *_) = scores["cases"]
    assert first["network"]["missed_ml"] == evaluation.cases[0].model.missed_ml
    assert first["threshold"]["false_ml"] == evaluation.cases[0].threshold.false_ml


def test_masks_are_kept_on_the_scans_grid(evaluated, heads):
    _, out = evaluated
    mask = read_mask(out / "masks" / "one_mask.nii.gz")
    assert mask.same_grid(read_volume(heads.parent / "data" / "one_flair.nii.gz"))


def test_report_is_self_contained_and_escapes_names(evaluated):
    evaluation, out = evaluated
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page
    assert "<b>" not in page
    assert "cite &lt;us&gt;" in page
    assert evaluation.verdict() in page
    assert {file.name for file in (out / "pictures").iterdir()} == {"one.png", "two <b>.png"}
    assert "BatchNorm" in page
    assert "zero-shot" in page


NOTHING = 1000.0  # a level that no voxel reaches


@pytest.mark.parametrize(
    ("network", "row", "verdict"),
    [
        (LEVEL, NOTHING, "The network beats the threshold row: mean Dice {} against 0.000, higher on 2 of 2 cases."),
        (NOTHING, 1.0, "The network does not beat the threshold row: mean Dice 0.000 against {}, higher on 0 of 2"),
        (NOTHING, NOTHING, "The network does not beat the threshold row: mean Dice 0.000 against 0.000, higher on 0"),
    ],
    ids=["network", "row", "neither"],
)
def test_the_verdict_says_which_of_network_and_threshold_row_is_better(heads, tmp_path, network, row, verdict):
    rule = {"sigma_mm": 1.0, "level": row, "side": "above", "dice": 0.5}
    path = save_bright(tmp_path / "best.safetensors", levels=(network,), threshold=rule)
    evaluation = evaluate(path, heads, "heads", tmp_path / "out")
    means = {name: sum(case.dice for case in scores) / 2 for name, scores in evaluation.rows().items()}
    assert (means["network"] > 0.85) == (network != NOTHING)
    assert (means["threshold"] > 0.85) == (row != NOTHING)
    assert evaluation.verdict().startswith(verdict.format(f"{max(means.values()):.3f}"))


def test_a_bad_case_is_named_the_rest_is_scored_and_the_exit_code_says_so(checkpoint, tmp_path):
    write_case(tmp_path / "data", "good", spacing_mm=(3.0, 2.5, 2.0))
    write_case(tmp_path / "data", "unlabelled", spacing_mm=(3.0, 2.5, 2.0))
    (tmp_path / "data" / "unlabelled_seg.nii.gz").unlink()
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    result = CliRunner().invoke(
        app,
        [
            *("evaluate", "--dataset", "heads", "--checkpoint", str(checkpoint)),
            *("--catalog", str(catalog), "--out", str(tmp_path / "out")),
        ],
    )
    assert result.exit_code == 1
    assert "unlabelled" in result.output
    assert "report.html" in result.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.index("Without a result") < page.index("Mean over cases"), "what is not scored comes first"
    assert page.count("data:image/png") == 1


def test_a_dataset_of_another_region_is_refused(checkpoint, heads, tmp_path):
    with pytest.raises(CatalogError, match="of region liver"):
        evaluate(checkpoint, heads, "livers", tmp_path / "out")


def test_a_fine_tuned_network_is_scored_on_its_test_fold_alone(heads, tmp_path):
    data = {"dataset": "heads", "test": ["one"], "training": ["x"], "corpus": None}
    path = save_bright(tmp_path / "best.safetensors", stage="finetune", data=data)
    assert [case.name for case in evaluate(path, heads, "heads", tmp_path / "out").cases] == ["one"]
    everything = evaluate(path, heads, "heads", tmp_path / "all", all_cases=True)
    assert len(everything.cases) == 2
    assert "included" in everything.selection


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    write_pair(root / "data", "one", spacing_mm=(3.0, 2.5, 2.0))
    return write_pairs_catalog(root / "catalog.yaml", root / "data")


@pytest.mark.parametrize("modalities", [("FLAIR", "T1"), ("T1", "FLAIR")])
def test_several_modalities_are_put_in_the_networks_order(pairs, tmp_path, modalities):
    path = save_looking_at(tmp_path / "best.safetensors", "FLAIR", modalities)
    evaluation = evaluate(path, pairs, "heads", tmp_path / "out")
    (case,) = evaluation.cases
    assert case.model.dice > 0.85, "the tumour is bright in FLAIR, wherever that stands"
    assert (case.threshold.dice > 0.85) == (modalities[0] == "FLAIR"), "the threshold row sees the first modality"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ", ".join(modalities) in page
    assert f"of the first modality, {modalities[0]}" in page
    scores = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert scores["checkpoint"]["modalities"] == list(modalities)


def test_a_network_of_one_modality_takes_its_own_of_several(pairs, checkpoint, tmp_path):
    (case,) = evaluate(checkpoint, pairs, "heads", tmp_path / "out").cases
    assert case.model.dice > 0.85


def test_a_dataset_that_lacks_a_modality_is_refused(heads, tmp_path):
    path = save_looking_at(tmp_path / "best.safetensors", "FLAIR", ("FLAIR", "T1"))
    with pytest.raises(CatalogError, match="has no T1, and the network takes FLAIR, T1; there are FLAIR"):
        evaluate(path, heads, "heads", tmp_path / "out")
