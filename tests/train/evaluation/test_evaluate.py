import csv
import json
import re
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scans.errors import CatalogError
from scans.image.volume import read_mask, read_volume, write_volume
from tests.made.modality_pairs import save_looking_at, write_pair, write_pairs_catalog
from tests.made.pages import areas_ml, said_by, scenes_in
from tests.made.real_scans import head, write_case, write_catalog
from tests.made.skulls import Tool, with_skull
from tests.made.tiny_checkpoint import LEVEL, save_bright
from train.cli.application import app
from train.evaluation.evaluate import MOST_SCENES, _forget_scenes, evaluate


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
    assert scores["mean"]["network"]["nothing_found"] == 0
    assert scores["mean"]["network"]["tumour_free"] == {"cases": 0, "nothing_found": 0, "false_ml": None}
    assert scores["threshold_rule"]["side"] == "above"
    (first, *_) = scores["cases"]
    assert first["network"]["missed_ml"] == evaluation.cases[0].model.missed_ml
    assert first["threshold"]["false_ml"] == evaluation.cases[0].threshold.false_ml
    assert scores["threshold_rule"]["words"] == "smooth 1 mm, above 1, largest part"


def test_lesions_of_both_rows_are_in_every_file_and_on_the_terminal(evaluated):
    evaluation, out = evaluated
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["lesion"] == {"least_ml": 0.05, "detected_at_dice": 0.2}
    page = (out / "report.html").read_text(encoding="utf-8")
    for row in ("network", "threshold"):
        overall, *sizes = scores["mean"][row]["lesions"]
        assert (overall["lesions"], overall["touched"], overall["detected"]) == (2, 2, 2)
        assert [size["name"] for size in sizes] == ["under 1 ml", "1 to 10 ml", "10 ml and more"]
        assert [size["lesions"] for size in sizes] == [0, 2, 0]
        assert sizes[0]["recall_touched"]["value"] is None
        for case in scores["cases"]:
            (lesion,) = case[row]["each_lesion"]
            assert lesion["volume_ml"] == pytest.approx(case[row]["truth_ml"])
            assert lesion["dice"] == pytest.approx(case[row]["lesion_dice"]) == pytest.approx(case[row]["dice"])
        assert f"<td>{row}</td><td>all</td><td>2</td><td>1.00 [1.00, 1.00]</td>" in page
    with open(out / "cases.csv", encoding="utf-8", newline="") as file:
        assert [row["detected_lesions"] for row in csv.DictReader(file)] == ["1"] * 4
    assert evaluation.lesions["network"][0].said().startswith("2 of 2 lesions are touched, 2 with a Dice of 0.2")


def test_masks_are_kept_on_the_scans_grid(evaluated, heads):
    _, out = evaluated
    mask = read_mask(out / "masks" / "one_mask.nii.gz")
    assert mask.same_grid(read_volume(heads.parent / "data" / "one_flair.nii.gz"))


def test_the_worst_cases_can_be_looked_into_with_the_volumes_of_the_table(evaluated):
    evaluation, out = evaluated
    page = (out / "report.html").read_text(encoding="utf-8")
    scenes = scenes_in(page)
    assert scenes.keys() == {case.name for case in evaluation.cases}
    for case in evaluation.cases:
        areas, scores = areas_ml(scenes[case.name]), case.model
        assert areas["missed"] == pytest.approx(scores.missed_ml, abs=1e-3)
        assert areas["false"] == pytest.approx(scores.false_ml, abs=1e-3)
        assert areas["found"] == pytest.approx(scores.truth_ml - scores.missed_ml, abs=1e-3)
    assert page.count('<a href="#look" data-scene=') == len(scenes)
    many = [replace(evaluation.cases[0], name=str(n), model=replace(scores, dice=(n * 7 % 10) / 10)) for n in range(10)]
    _forget_scenes(many)
    assert sorted(case.model.dice for case in many if case.scene) == [n / 10 for n in range(MOST_SCENES)]


def test_report_is_self_contained_and_escapes_names(evaluated):
    evaluation, out = evaluated
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"""(src|href)=["'](?!data:|#)|@import|<link|<iframe""", page)
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


@pytest.fixture(scope="module")
def with_healthy(checkpoint, tmp_path_factory):
    """Two cases without a tumour beside one with: in one the network finds a ball, in the other nothing."""
    root = tmp_path_factory.mktemp("healthy")
    spacing = (3.0, 2.5, 2.0)
    for name in ("ill", "false alarm", "healthy"):
        write_case(root / "data", name, spacing_mm=spacing)
    scan, tumour, _ = head(spacing_mm=spacing)
    nothing = tumour.with_array(0 * tumour.array)
    for name in ("false alarm", "healthy"):
        write_volume(nothing, root / "data" / f"{name}_seg.nii.gz")
    halves = np.where(np.arange(scan.array.shape[2]) % 8 < 4, 90, 110)  # nowhere 2 deviations above their mean
    dull = np.where(scan.array != 0, halves, 0).astype(np.float32)
    write_volume(scan.with_array(dull), root / "data" / "healthy_flair.nii.gz")
    catalog = write_catalog(root / "catalog.yaml", root / "data")
    command = ["evaluate", "--dataset", "heads", "--checkpoint", str(checkpoint), "--catalog", str(catalog)]
    result = CliRunner().invoke(app, [*command, "--out", str(root / "out")])
    assert result.exit_code == 0, result.output
    return root / "out", " ".join(result.output.split())


def test_cases_without_a_tumour_are_scored_apart_in_every_file(with_healthy):
    out, _ = with_healthy
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    each = {case["case"]: case["network"] for case in scores["cases"]}
    mean = scores["mean"]["network"]
    for metric in ("dice", "hd95_mm", "sensitivity"):
        assert each["healthy"][metric] is each["false alarm"][metric] is None
        assert (mean[metric]["mean"], mean[metric]["cases"]) == (each["ill"][metric], 1)
    false_ml = each["false alarm"]["volume_ml"]
    assert false_ml > 5
    assert mean["tumour_free"] == {"cases": 2, "nothing_found": 1, "false_ml": pytest.approx(false_ml / 2)}
    assert mean["nothing_found"] == 0
    with open(out / "cases.csv", encoding="utf-8", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file) if row["row"] == "network"}
    assert {name: (row["tumour_free"], row["nothing_found"]) for name, row in rows.items()} == {
        **{"ill": ("0", "0"), "false alarm": ("1", "0"), "healthy": ("1", "1")},
    }
    assert rows["healthy"]["dice"] == rows["healthy"]["hd95_mm"] == ""


def test_page_and_terminal_say_how_many_cases_have_no_tumour(with_healthy):
    out, printed = with_healthy
    assert "network: 1 of 1 lesions are touched" in printed
    page = " ".join(said_by((out / "report.html").read_text(encoding="utf-8")).split())
    for told in (printed, page):
        assert "network: 2 of 3 cases have an empty reference" in told
        assert "nothing is found in 1 of 2, falsely" in told
    assert "of 1 cases" in json.loads((out / "scores.json").read_text(encoding="utf-8"))["verdict"]
    assert "nan" not in page.replace("nance", "")
    assert "nan" not in printed
    assert page.count("data:image/png;base64,") == 3


def test_a_dataset_without_any_tumour_has_no_dice_and_says_so(checkpoint, tmp_path):
    write_case(tmp_path / "data", "one", spacing_mm=(3.0, 2.5, 2.0))
    _, tumour, _ = head(spacing_mm=(3.0, 2.5, 2.0))
    write_volume(tumour.with_array(0 * tumour.array), tmp_path / "data" / "one_seg.nii.gz")
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    evaluation = evaluate(checkpoint, catalog, "heads", tmp_path / "out")
    assert evaluation.verdict().startswith("No case has a tumour in the reference")
    assert evaluation.means["network"]["dice"].count == 0
    assert "undefined" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_mask_repeats_its_scans_affine_and_form_codes_bit_for_bit(checkpoint, tmp_path):
    write_case(tmp_path / "data", "one", spacing_mm=(3.0, 2.5, 2.0), flipped=False)
    for what in ("flair", "seg"):
        path = tmp_path / "data" / f"one_{what}.nii.gz"
        image = nibabel.load(path)
        sheared = image.affine.copy()
        sheared[0, 1] += 0.06  # about a degree and a half
        changed = nibabel.Nifti1Image(np.asarray(image.dataobj), sheared)
        changed.set_qform(None, 0)
        changed.set_sform(sheared, 4)
        nibabel.save(changed, path)
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    (case,) = evaluate(checkpoint, catalog, "heads", tmp_path / "out").cases
    assert case.model.dice > 0.85
    scan = nibabel.load(tmp_path / "data" / "one_flair.nii.gz")
    mask = nibabel.load(tmp_path / "out" / "masks" / "one_mask.nii.gz")
    assert np.array_equal(mask.affine, scan.affine)
    for field in ("qform_code", "sform_code"):
        assert mask.header[field] == scan.header[field]


def test_pictures_of_every_case_and_class_have_a_place_of_their_own(tmp_path):
    for name in ("a", "a_b"):
        write_case(tmp_path / "data", name, spacing_mm=(4.0, 4.0, 4.0))
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    classes = {"b_c": [1], "c": [1], "b/c": [1]}
    content = yaml.safe_load(catalog.read_text(encoding="utf-8"))
    task = {"dataset": "heads", "modalities": ["FLAIR"], "classes": classes, "folds": {"parts": 2}}
    catalog.write_text(yaml.safe_dump({**content, "tasks": {"many": task}}), encoding="utf-8")
    data = {"dataset": "elsewhere", "test": [], "training": ["x"], "corpus": None, "classes": classes}
    path = save_bright(tmp_path / "best.safetensors", levels=(2.0, 2.5, 3.0), stage="finetune", data=data)
    evaluate(path, catalog, "many", tmp_path / "out")
    assert len(list((tmp_path / "out" / "pictures").rglob("*.png"))) == 6


def test_annotated_scans_with_their_skull_are_scored_by_masks_that_a_command_makes(tmp_path):
    tool = Tool(tmp_path)
    path = write_case(tmp_path / "data", "one", spacing_mm=(4.0, 4.0, 4.0))
    write_volume(with_skull(read_volume(path)), path)
    (tmp_path / "data" / "one_brain.nii.gz").unlink()
    catalog = write_catalog(tmp_path / "catalog.yaml", tmp_path / "data")
    checkpoint = save_bright(tmp_path / "best.safetensors", size=32)
    options = ["--checkpoint", str(checkpoint), "--catalog", str(catalog), "--dataset", "heads", "--device", "cpu"]
    command = ["evaluate", *options, "--out", str(tmp_path / "out")]
    assert "--brain-mask-with" in CliRunner().invoke(app, command).stderr
    masked = [*command, "--brain-mask-with", tool.command(), "--brain-masks", str(tmp_path / "kept")]
    result = CliRunner().invoke(app, masked)
    assert (result.exit_code, tool.runs) == (0, 1)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert scores["mean"]["network"]["dice"]["mean"] > 0.7
