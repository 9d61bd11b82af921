import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scans.catalog.synthesis import Synthesis, override
from scans.errors import CatalogError, StoreError
from tests.made.tables import CATALOG, TINY, Watched
from tests.made.tiny_checkpoint import bright_network
from tests.made.trainings import without_pictures
from train.cli.application import app
from train.network.checkpoint import load_record
from train.settings import SettingsError
from train.tables.error_mask import ErrorMask, error
from train.tables.gather import THRESHOLD_ROW, gather_cell
from train.tables.make import chosen, make_table, plan_cells
from train.tables.plan import PARTS, SCALES, TABLES, TASKS, Column, Row, Table, printed
from train.tables.steps import scores_of
from train.tables.targets import Target, find_targets

HASH = "?" * 10
TARGET = Target(region={"name": "r"}, normals={"n": ["a"]}, dataset="d", cases=["x"], finetuned_as="d")
TARGETS = dict.fromkeys(TASKS, TARGET)


def small_table():
    rows = (
        Row("full", "70±1 40"),
        Row("error", "38.47 7.24", losses=("l0",), mask_from="normal"),
        Row("adapted", adapted=True),
        Row("tuned", finetuned=True),
        Row("absent", missing="nobody built it"),
    )
    return Table("V", "a part of it", (Column("WTS"), Column("LTS")), rows, "full")


@pytest.fixture(scope="module")
def made(catalog, tmp_path_factory):
    out = tmp_path_factory.mktemp("tables")
    watch = Watched()
    with without_pictures():
        with pytest.raises(KeyboardInterrupt):
            make_table(small_table(), TINY, catalog, out, Watched(stop_at=2), device="cpu")
        result = make_table(small_table(), TINY, catalog, out, watch, device="cpu")
    return result, watch, out


# The plan.


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_row_has_a_number_or_a_dash_of_the_paper_for_each_column(table):
    for row in table.rows:
        assert len(row.paper.split()) == len(table.columns)
        numbers = [printed(row, position)[0] for position in range(len(table.columns))]
        assert all(number is None or 0 < number < 100 for number in numbers)
    assert table.reference in [row.name for row in table.rows]
    assert len({row.name for row in table.rows}) == len(table.rows)


def test_the_papers_numbers_stand_where_the_paper_prints_them():
    def found(table, row, **column):
        rows, columns = TABLES[table].rows, TABLES[table].columns
        (position,) = [i for i, c in enumerate(columns) if all(getattr(c, k) == v for k, v in column.items())]
        return printed(next(r for r in rows if r.name == row), position)

    assert found("I", "Genesis", task="LTS", metric="hd95_mm") == (39.92, 8.90)
    assert found("II", "Ours", part="TC", metric="sensitivity") == (80.01, 0.55)
    assert found("III", "3D RPL", task="LTS", fraction=0.4) == (55.53, None)
    assert found("IV", "3D IF", task="LTS") == (None, None)
    assert found("V", "intensity + elastic", task="WTS") == (70.97, None)
    assert found("VI", "L0 + L1", task="LTS") == (33.08, None)


def test_rows_of_table_v_are_all_subsets_of_the_transformations_and_settings_alone():
    seen = set()
    for row in TABLES["V"].rows:
        drawn = override(Synthesis(), list(row.synthesis))
        if not row.real:
            seen.add((drawn.linear.enabled, drawn.blur.enabled, drawn.elastic.enabled))
            rest = drawn.model_dump(exclude={"linear": {"enabled"}, "blur": {"enabled"}, "elastic": {"enabled"}})
            assert rest == Synthesis().model_dump(
                exclude={"linear": {"enabled"}, "blur": {"enabled"}, "elastic": {"enabled"}}
            )
    assert len(seen) == 8


def test_rows_of_table_vi_train_the_losses_they_name_and_no_other():
    wts = TABLES["VI"].columns[0]
    for row in TABLES["VI"].rows[:5]:
        (scores,) = scores_of(row, wts, TASKS["WTS"], TARGET, SCALES["full"], 1).values()
        loss = scores.after[0].settings["loss"]
        assert {name.upper() for name in ("l0", "l1", "l2", "l3") if loss[name]} == set(row.name.split(" + "))
        assert loss["cross_entropy"] == 0
        assert (row.mask_from == "mask") == (loss["l2"] > 0)


def test_tables_share_what_has_the_same_settings_and_nothing_else():
    def keys(number, row, kind):
        (row,) = [r for r in TABLES[number].rows if r.name == row]
        steps = scores_of(row, Column("WTS"), TASKS["WTS"], TARGET, SCALES["tiny"], 2).values()
        return {each.key for step in steps for each in step.chain() if each.kind == kind}

    full, blurless = "intensity + blur + elastic", "intensity + elastic"
    assert keys("V", full, "scores") == keys("VI", "L0 + L1 + L2 + L3", "scores") == keys("IV", "Ours", "scores")
    assert keys("V", full, "corpus") == keys("VI", "L0", "corpus")
    assert keys("V", full, "sources") == keys("V", blurless, "sources")
    assert not keys("V", full, "corpus") & keys("V", blurless, "corpus")
    assert len(keys("V", full, "pretrain")) == 2  # two seeds
    assert len(keys("V", full, "corpus")) == 1


@given(st.sampled_from(["size", "samples", "width", "pretrain_steps", "cross_entropy", "validation_samples"]))
def test_a_change_of_scale_is_another_network(name):
    scale = SCALES["tiny"]
    changed = replace(scale, **{name: getattr(scale, name) * 2})
    row, column, task = TABLES["V"].rows[-2], Column("WTS"), TASKS["WTS"]
    before, after = (scores_of(row, column, task, TARGET, s, 1)["seed 0"].after[0] for s in (scale, changed))
    assert before.key != after.key


def test_fractions_start_from_one_pretraining_and_every_fold_has_its_own_run():
    table = TABLES["III"]
    cells = plan_cells(table, SCALES["full"], TARGETS, 3)
    ours = [list(cells["Ours", column].scores.values()) for column in table.columns if column.task == "WTS"]
    assert [len(scores) for scores in ours] == [3] * 7
    tuned = [step for scores in ours[1:] for step in scores]
    assert len({step.key for step in tuned}) == 18
    assert len({step.after[0].after[1].key for step in tuned}) == 1
    assert "shown no mask" in cells["Genesis", table.columns[0]].reason


def test_an_unknown_table_or_scale_is_told():
    with pytest.raises(SettingsError, match="no table VII; there are I, II, III, IV, V, VI"):
        chosen("VII", "tiny")
    with pytest.raises(SettingsError, match="give tiny, small, full"):
        chosen("v", "huge")
    with pytest.raises(SettingsError, match="give robust, paper, none"):
        chosen("v", "tiny", preset="best")
    with pytest.raises(SettingsError, match="--size 40: give a multiple of 16"):
        chosen("v", "tiny", size=40)
    with pytest.raises(SettingsError, match="--steps 0"):
        chosen("v", "tiny", steps=0)


def test_a_table_by_another_preset_is_of_other_networks_read_as_they_chose_and_keeps_its_own_files():
    def step_of(table, scale):
        return scores_of(table.rows[-2], Column("WTS"), TASKS["WTS"], TARGET, scale, 1)["seed 0"]

    papers, robust = (chosen("V", "tiny", preset, steps=7) for preset in (None, "robust"))
    assert (papers[0].stem, robust[0].stem) == ("V", "V-robust")
    theirs, ours = step_of(*papers), step_of(*robust)
    assert ours.after[0].settings["preset"] == "robust"
    assert ours.after[0].settings["network"]["norm"] == "instance"
    assert ours.after[0].settings["schedule"]["steps"] == 7
    assert ours.settings["read"] == "chosen"
    assert "read" not in theirs.settings
    assert ours.after[0].after == theirs.after[0].after  # one corpus


# Running.


def test_every_row_has_a_number_or_a_reason(made):
    result, watch, _ = made
    assert watch.problems == result.failed == []
    for (row, column), cell in result.gathered.cells.items():
        assert math.isnan(cell.ours.mean) == bool(cell.reason), (row, column)
    assert result.gathered.cells["absent", Column("WTS")].reason == "nobody built it"
    assert result.gathered.cells["full", Column("LTS")].reason.startswith("no normal scans of region liver-ct")


def test_a_task_whose_region_the_catalog_lacks_is_told_of_the_region(catalog, tmp_path):
    text = catalog.read_text(encoding="utf-8").replace("  liver-ct: {modality: CT}\n", "")
    (tmp_path / "catalog.yaml").write_text(text, encoding="utf-8")
    found = find_targets(tmp_path / "catalog.yaml", [TASKS["WTS"], TASKS["LTS"]])
    assert not found["WTS"].problem
    assert found["LTS"].problem == "the catalog has no region liver-ct"


def test_a_table_stopped_in_a_training_goes_on_and_makes_nothing_twice(made, catalog):
    _, watch, out = made
    # Sources and the corpus, shared by all rows, were there when the first training was stopped.
    assert watch.names == [
        "pretrain", "scores", "pretrain", "scores", "adapt", "scores", "folds", "finetune", "scores",
    ]  # fmt: skip
    again = Watched()
    make_table(small_table(), TINY, catalog, out, again, device="cpu")
    assert again.names == []


def test_what_lost_its_receipt_is_made_again_and_only_that(made, catalog):
    result, _, out = made
    (receipt,) = (out / "scores").glob(f"*l0l1l2l3-seed0-{HASH}/made.json")
    (receipt.parent / "scores.json").unlink()
    receipt.unlink()
    again = Watched()
    repeated = make_table(small_table(), TINY, catalog, out, again, device="cpu")
    assert again.names == ["scores"]
    assert repeated.gathered.cells["full", Column("WTS")] == result.gathered.cells["full", Column("WTS")]


def test_damaged_scores_are_told_of_and_the_rest_of_the_table_stands(made, catalog):
    _, _, out = made
    (scores,) = (out / "scores").glob(f"*l0-seed0-{HASH}/scores.json")
    text = scores.read_text(encoding="utf-8")
    scores.write_text("{", encoding="utf-8")
    result = make_table(small_table(), TINY, catalog, out, Watched(), device="cpu")
    scores.write_text(text, encoding="utf-8")
    assert "no scores can be read" in result.gathered.cells["error", Column("WTS")].reason
    assert not result.gathered.cells["full", Column("WTS")].reason


def test_numbers_are_those_of_the_runs_scores(made):
    result, _, out = made
    (path,) = (out / "scores").glob(f"*l0l1l2l3-seed0-{HASH}/scores.json")
    scores = json.loads(path.read_text(encoding="utf-8"))
    cell = result.gathered.cells["full", Column("WTS")]
    assert cell.ours.mean == pytest.approx(scores["mean"]["network"]["dice"]["mean"])
    assert cell.threshold.mean == pytest.approx(scores["mean"]["threshold"]["dice"]["mean"])
    assert cell.ours.cases == 3
    assert (cell.paper, cell.paper_over_runs) == (70.0, 1.0)


def test_files_tell_numbers_reasons_and_what_was_chosen_where(made):
    result, _, _ = made
    text = result.files["markdown"].read_text(encoding="utf-8")
    for words in (
        "threshold row",
        "nobody built it",
        "What was chosen where",
        "probability of at least 0.5",
        "gliomas",
    ):
        assert words in text
    with open(result.files["csv"], encoding="utf-8", newline="") as file:
        lines = {(line["row"], line["task"]): line for line in csv.DictReader(file)}
    assert len(lines) == 12
    assert (lines["full", "WTS"]["minus_reference"], lines["full", "WTS"]["pairs"]) == ("0", "3")
    assert lines["absent", "WTS"]["wilcoxon_p"] == ""
    assert lines["absent", "WTS"]["mean"] == ""
    assert float(lines["threshold row", "WTS"]["mean"]) == pytest.approx(float(lines["full", "WTS"]["threshold"]))
    with open(result.files["cases"], encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file))
    assert {line["case"] for line in cases if line["row"] == "full"} == {"t0", "t1", "t2"}
    assert {line["run"] for line in cases} == {"seed 0", "fold 0"}
    assert result.files["plot"].read_bytes().startswith(b"\x89PNG")


def test_a_fine_tuned_row_is_scored_on_its_test_fold_alone(made):
    result, _, out = made
    (best,) = (out / "finetune").glob("*/best.safetensors")
    test = set(load_record(best).data["test"])
    assert {score.case for score in result.gathered.cells["tuned", Column("WTS")].scores} == test


def test_the_mask_of_a_network_without_one_is_told_with_its_level(made):
    _, _, out = made
    (path,) = (out / "scores").glob(f"*l0-seed0-{HASH}/scores.json")
    source = json.loads(path.read_text(encoding="utf-8"))["mask_from"]
    assert source["source"] == "normal"
    assert source["level"] > 0


@pytest.mark.usefixtures("undrawn")
def test_table_ii_has_a_column_for_each_class_from_its_own_scores(made, catalog):
    _, _, out = made
    rows = [row for row in TABLES["II"].rows if row.name in ("Scratch (w. aug)", "Ours")]
    watch = Watched()
    result = make_table(replace(TABLES["II"], rows=tuple(rows)), TINY, catalog, out, watch, device="cpu")
    assert watch.names == ["folds", "finetune", "scores", "finetune", "scores"]  # pretraining is that of other tables
    task, targets = TASKS["BTS"], find_targets(catalog, [TASKS["BTS"]])
    for row in rows:
        for column in TABLES["II"].columns:
            cell = result.gathered.cells[row.name, column]
            (step,) = scores_of(row, column, task, targets["BTS"], TINY, 1).values()
            scores = json.loads((out / step.folder / "scores.json").read_text(encoding="utf-8"))
            mean = scores["mean"][f"network: {PARTS[column.part]}"][column.metric]
            assert not cell.reason
            assert (cell.ours.mean, cell.ours.cases) == (pytest.approx(mean["mean"]), 3)
            assert (cell.threshold.runs > 0) == (row.name == "Ours" and column.part == "WT")
    below = result.gathered.shown(THRESHOLD_ROW, TABLES["II"].columns[1])
    assert below.reason == "a threshold finds a tumour as a whole"
    assert "BTS ET" in result.files["markdown"].read_text(encoding="utf-8")


def test_table_ii_without_its_dataset_says_what_is_missing(made, catalog, tmp_path):
    text = catalog.read_text(encoding="utf-8").replace(f"{catalog.parent}/brats", str(tmp_path / "nowhere"))
    (tmp_path / "catalog.yaml").write_text(text, encoding="utf-8")
    made_of_none = make_table(TABLES["II"], TINY, tmp_path / "catalog.yaml", tmp_path / "out", Watched(), device="cpu")
    reasons = {cell.reason for cell in made_of_none.gathered.cells.values()}
    assert len(reasons) == 1
    assert "no annotated scans in FLAIR, T2 with labels of whole tumour, tumour core" in reasons.pop()


def test_a_table_without_any_scans_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "catalog.yaml"
    text = CATALOG.replace("{path: FOLDER/normal}", "{env: NO_SUCH_DATA}").replace("FOLDER", str(tmp_path))
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        CatalogError, match=r"no task of this table has its scans here; no normal scans .* NO_SUCH_DATA"
    ):
        find_targets(path, [TASKS["WTS"]])
    result = CliRunner().invoke(app, ["table", "V", "--catalog", str(path), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, CatalogError)
    assert not (tmp_path / "out").exists()


# Numbers.


def test_mean_and_deviation_are_over_runs_then_over_cases(tmp_path):
    values = {"fold0": [0.2, 0.4], "fold1": [0.9, None]}
    for run, dices in values.items():
        cases = [
            {"case": f"{run}-{n}", "network": {"dice": d, "truth_ml": 1.0}, "threshold": None, "problem": ""}
            for n, d in enumerate(dices)
        ]
        cases.append({"case": "no tumour", "network": {"dice": 0.0, "truth_ml": 0.0}, "threshold": None, "problem": ""})
        cases.append({"case": "bad", "network": None, "threshold": None, "problem": "unreadable"})
        (tmp_path / run).mkdir()
        (tmp_path / run / "scores.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    folders = {run: tmp_path / run for run in values}
    cell = gather_cell(Row("a"), Column("LTS"), 0, TASKS["LTS"], folders, "")
    assert cell.ours.mean == pytest.approx((0.3 + 0.9) / 2)
    assert cell.ours.over_runs == pytest.approx(np.std([0.3, 0.9], ddof=1))
    assert cell.ours.over_cases == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
    assert (cell.ours.runs, cell.ours.cases, cell.threshold.runs) == (2, 3, 0)
    with pytest.raises(StoreError, match="no scores can be read"):
        gather_cell(Row("a"), Column("WTS"), 0, TASKS["WTS"], {"seed0": tmp_path}, "")


@pytest.mark.parametrize("source", ["normal", "tumour"])
def test_the_mask_of_an_error_is_where_it_exceeds_its_level(source):
    torch.manual_seed(0)
    scan = torch.randn(1, 1, 16, 16, 16)
    scan[..., :4] = 0  # outside the ROI
    network = bright_network().eval()
    with torch.no_grad():
        layers = network(scan)
        found = ErrorMask(network, source, 0.5).eval()(scan)
    layer = scan - layers.normal if source == "normal" else layers.texture
    expected = (layer.abs() > 0.5) & (scan != 0)
    assert torch.equal(found.logits > 0, expected)
    assert torch.equal(found.normal, layers.normal)
    assert error(scan, layers, source)[..., :4].abs().max() == 0
