import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from real_scans import write_case, write_catalog
from tiny_checkpoint import save_bright

from scans.errors import CheckpointError
from train.cases import RealScan
from train.checkpoint import load_checkpoint
from train.finetune import Supervised, batch_of, finetune, split_cases
from train.settings import Finetune, Schedule, SettingsError

NAMES = [f"case{i:02}" for i in range(30)]


@given(st.integers(3, 30), st.integers(2, 3), st.integers(0, 2**31))
def test_every_case_is_tested_once_and_never_trained_on_in_its_fold(count, folds, seed):
    parts = [split_cases(NAMES[:count], folds, fold, 1.0, seed) for fold in range(folds)]
    assert sorted(name for part in parts for name in part.test) == NAMES[:count]
    for part in parts:
        assert sorted(part.training + part.validation + part.test) == NAMES[:count]
        assert part.training


@given(st.integers(0, 2**31), st.floats(0.05, 1), st.floats(0.05, 1))
def test_fractions_are_nested_and_keep_the_test_fold(seed, a, b):
    small, large = (split_cases(NAMES, 3, 1, fraction, seed) for fraction in sorted((a, b)))
    assert set(small.training) <= set(large.training)
    assert set(small.validation) <= set(large.validation)
    assert small.test == large.test


def test_a_fold_that_is_not_there_is_refused():
    with pytest.raises(SettingsError, match="--fold 3"):
        split_cases(NAMES, 3, 3, 1.0, 0)
    with pytest.raises(SettingsError, match="only 2 usable cases"):
        split_cases(NAMES[:2], 3, 0, 1.0, 0)


def test_scan_and_mask_are_mirrored_together():
    volume = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    batch = batch_of([RealScan("a", volume[None], volume > 0)] * 2, [(0, 2), ()])
    assert torch.equal(batch.composite > 0, batch.mask > 0)
    np.testing.assert_array_equal(batch.composite[0, 0].numpy(), volume[::-1, :, ::-1])
    np.testing.assert_array_equal(batch.composite[1, 0].numpy(), volume)


def test_mirrors_depend_on_the_step_alone():
    volume = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    task = Supervised([RealScan("a", volume[None], volume > 0)], [], Finetune())
    first, again = list(task.batches(range(6))), list(task.batches(range(3, 6)))
    assert all(torch.equal(a.composite, b.composite) for a, b in zip(first[3:], again, strict=True))
    assert len({tuple(batch.composite.flatten().tolist()) for batch in first}) > 2


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    for seed in range(3):
        write_case(root / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    return write_catalog(root / "catalog.yaml", root / "data")


def test_encoder_comes_from_pretraining_and_the_record_says_what_was_seen(heads, tmp_path):
    init = save_bright(tmp_path / "best.safetensors", size=16)
    schedule = Schedule(steps=1, learning_rate=1e-12, checkpoint_every=1, device="cpu")
    outcome = finetune(init, heads, "heads", tmp_path / "run", Finetune(schedule=schedule))
    assert outcome.step == 1
    before, after = load_checkpoint(init), load_checkpoint(tmp_path / "run" / "last.safetensors")
    weights = [name for name in before.network if name.endswith("weight")]
    same = {name: torch.allclose(before.network[name], after.network[name], atol=1e-6) for name in weights}
    assert all(kept == name.startswith("encoder.") for name, kept in same.items())
    data = after.record.data
    assert after.record.stage == "finetune"
    assert sorted(data["training"] + data["validation"] + data["test"]) == ["case0", "case1", "case2"]
    assert data["corpus"] == before.record.data["corpus"]
    assert after.record.threshold == before.record.threshold


def test_from_scratch_learns_and_leaves_out_bad_cases_with_a_word(heads, tmp_path):
    said = []
    write_case(heads.parent / "data", "bad", spacing_mm=(4.0, 4.0, 4.0))
    (heads.parent / "data" / "bad_seg.nii.gz").unlink()
    settings = Finetune(
        network={"width": 2},
        schedule=Schedule(steps=30, learning_rate=1e-2, checkpoint_every=30, device="cpu", precision="fp32"),
    )
    outcome = finetune(None, heads, "heads", tmp_path / "run", settings, size=16, say=said.append)
    assert outcome.left_out == 1
    assert any("bad" in line for line in said)
    losses = [
        json.loads(line)["total"]
        for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        if "total" in line
    ]
    assert losses[-1] < losses[0]


def test_a_missing_checkpoint_is_named(heads, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        finetune(tmp_path / "none.safetensors", heads, "heads", tmp_path / "run", Finetune())
