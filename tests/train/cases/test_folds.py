import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scans.catalog.task import FoldRule, Task
from train.cases.folds import draw_folds, read_folds, write_folds
from train.settings import SettingsError

NAMES = [f"p{i // 2:02}_{i % 2}" for i in range(40)]  # two scans of each of 20 patients


def task(folds=None, **changed):
    values = {"dataset": "d", "modalities": ["FLAIR"], "classes": {"tumour": None}, "folds": folds or {"parts": 3}}
    return Task.model_validate({**values, "patient": "{patient}_*", **changed})


@given(st.permutations(NAMES), st.integers(2, 5), st.integers(0, 2**31))
def test_folds_are_a_function_of_the_sorted_names_and_the_seed(shuffled, parts, seed):
    rule = task({"parts": parts})
    assert draw_folds("T", rule, shuffled, seed) == draw_folds("T", rule, NAMES, seed)


@given(st.integers(6, 40), st.integers(2, 3), st.integers(0, 2**31))
def test_every_case_is_tested_once_and_never_trained_on_in_its_fold(count, parts, seed):
    folds = draw_folds("T", task({"parts": parts}), NAMES[:count], seed)
    each = [folds.parts(fold) for fold in range(parts)]
    assert sorted(name for part in each for name in part.test) == NAMES[:count]
    for part in each:
        assert sorted(part.training + part.validation + part.test) == NAMES[:count]
        assert part.training


@given(st.integers(0, 2**31), st.floats(0.05, 1))
def test_no_patient_is_on_two_sides(seed, fraction):
    parts = draw_folds("T", task(), NAMES, seed).parts(1, fraction)
    sides = [{name.split("_")[0] for name in side} for side in (parts.training, parts.validation, parts.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


@given(st.integers(0, 2**31), st.floats(0.05, 1), st.floats(0.05, 1))
def test_fractions_are_nested_and_keep_the_test_fold(seed, a, b):
    folds = draw_folds("T", task(), NAMES, seed)
    small, large = (folds.parts(1, fraction) for fraction in sorted((a, b)))
    assert set(small.training) <= set(large.training)
    assert set(small.validation) <= set(large.validation)
    assert small.test == large.test


def test_the_papers_counts_come_out():
    names = [f"Brats18_TCIA{i:03}_1" for i in range(285)]
    folds = draw_folds("WTS", task(), names)
    for fold in range(3):
        parts = folds.parts(fold)
        assert (len(parts.training) + len(parts.validation), len(parts.test)) == (190, 95)
        tenth = folds.parts(fold, 0.1)
        assert len(tenth.training) + len(tenth.validation) == 19


def test_a_share_is_drawn_once_and_a_list_is_taken_as_it_is():
    share = draw_folds("T", task({"share": 0.2}), NAMES)
    assert len(share.folds) == 1
    assert len(share.folds[0].test) == 4
    listed = draw_folds("T", task({"test": ["p03", "p01"]}), NAMES)
    assert listed.parts(0).test == ["p01_0", "p01_1", "p03_0", "p03_1"]
    with pytest.raises(SettingsError, match="patient p99 of its test set"):
        draw_folds("T", task({"test": ["p99"]}), NAMES)
    with pytest.raises(SettingsError, match="nobody is left"):
        draw_folds("T", task({"test": ["p00", "p01"]}), NAMES[:4])


def test_what_cannot_be_parted_is_refused():
    with pytest.raises(SettingsError, match="2 annotated patients are too few for 3 parts"):
        draw_folds("T", task(), NAMES[:4])
    with pytest.raises(SettingsError, match="case nounderscore does not fit patient"):
        draw_folds("T", task(), [*NAMES, "nounderscore"])
    with pytest.raises(SettingsError, match="--fold 3: the folds of T are 0 to 2"):
        draw_folds("T", task(), NAMES).parts(3)


def test_a_case_is_its_own_patient_unless_the_task_says_otherwise():
    assert task(patient="{patient}").patient_of("Brats18_2013_10_1") == "Brats18_2013_10_1"
    assert task().patient_of("Brats18_2013_10_1") == "Brats18_2013_10"
    assert task(patient="sub-{patient}_ses*").patient_of("sub-7_ses-2") == "7"


@pytest.mark.parametrize("rule", [{"parts": 3, "share": 0.5}, {}, {"parts": 1}, {"share": 1.0}, {"test": []}])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(ValueError, match=r"folds|greater|less|least"):
        FoldRule.model_validate(rule)


def test_a_file_gives_the_folds_back_and_other_folds_do_not_replace_it(tmp_path):
    path = tmp_path / "deep" / "T.json"
    folds = draw_folds("T", task(), NAMES, without_tumour=["z", "a"])
    write_folds(folds, path)
    write_folds(folds, path)
    assert read_folds(path) == folds
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="other folds"):
        write_folds(draw_folds("T", task(), NAMES, seed=1), path)
    assert path.read_bytes() == before


def spoil(content, how):
    fold = content["folds"][0]
    if how == "patient":
        fold["training"][0]["name"] = fold["test"][0]["name"]
    elif how == "case":
        fold["training"][0]["cases"] = fold["test"][0]["cases"]
    elif how == "empty":
        fold["test"] = []
    else:
        del content["task"]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [("patient", "is in a fold twice"), ("case", "is in a fold twice"), ("empty", "nobody"), ("task", "task")],
)
def test_a_damaged_or_unfair_file_is_refused_in_one_line(how, sentence, tmp_path):
    path = tmp_path / "T.json"
    write_folds(draw_folds("T", task(), NAMES), path)
    path.write_text(spoil(json.loads(path.read_text()), how), encoding="utf-8")
    with pytest.raises(SettingsError, match=sentence) as caught:
        read_folds(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\x00 not json")
    with pytest.raises(SettingsError, match="is not a fold file"):
        read_folds(path)
    with pytest.raises(SettingsError, match="no fold file"):
        read_folds(tmp_path / "none.json")
