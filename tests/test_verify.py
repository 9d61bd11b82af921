"""Verification: a sound corpus passes, and each kind of damage is named."""

import json
import shutil

import numpy as np
import pytest
import zarr

from scans.durable import sha256
from scans.errors import StoreError
from synth.verify import verify


@pytest.fixture
def copy(corpus_path, tmp_path):
    return shutil.copytree(corpus_path, tmp_path / "corpus.zarr")


def reseal(path, shard, key):
    """Make a receipt agree with a file that was changed, as a forger would."""
    file = path / "receipts" / f"{shard:06d}.json"
    receipt = json.loads(file.read_text(encoding="utf-8"))
    receipt["files"][key] = {"bytes": (path / key).stat().st_size, "sha256": sha256(path / key)}
    file.write_text(json.dumps(receipt))


def test_a_sound_corpus_passes_every_check(corpus_path):
    seen = []
    assert verify(corpus_path, checked=seen.append) == []
    assert seen == list(range(22))


@pytest.mark.parametrize("name", ["composite", "normal", "texture", "mask", "alpha", "recipes"])
def test_a_flipped_bit_in_any_array_is_named(copy, name):
    file = next((copy / name).glob("c.1*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    findings = verify(copy)
    assert any(f"shard 1: {name}/{file.name} is damaged" in finding for finding in findings)


def test_truncated_missing_and_foreign_files_are_named(copy):
    (copy / "texture" / "c.0.0.0.0").write_bytes((copy / "texture" / "c.0.0.0.0").read_bytes()[:-9])
    (copy / "mask" / "c.1.0.0.0").unlink()
    (copy / "receipts" / "000002.json").unlink()
    shutil.copy(copy / "alpha" / "c.0", copy / "alpha" / "c.9")
    findings = "\n".join(verify(copy))
    assert "texture/c.0.0.0.0 has" in findings
    assert "shard 1: mask/c.1.0.0.0 is missing" in findings
    assert "shard 2: missing (no valid receipt)" in findings
    assert "alpha/c.9: no shard of this corpus owns this file" in findings


def test_a_shard_of_another_corpus_is_named(copy):
    file = copy / "receipts" / "000001.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"identity": "0" * 64}))
    assert any("shard 1: belongs to another corpus" in finding for finding in verify(copy))


def test_changed_settings_are_noticed(copy):
    content = json.loads((copy / "zarr.json").read_text(encoding="utf-8"))
    content["attributes"]["settings"]["alpha"] = [0.0, 1.0]
    (copy / "zarr.json").write_text(json.dumps(content))
    assert any("does not match its settings" in finding for finding in verify(copy))


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("composite", lambda a: a + np.float16(0.25), "Eq. 5 does not hold inside the mask"),
        ("texture", lambda a: a + np.float16(1), "the texture is not 0 outside the mask"),
        ("mask", lambda a: a * 3, "the mask is not binary"),
        ("mask", lambda a: a * (np.arange(8, dtype=np.uint8) > 0)[:, None, None, None], "the mask is empty"),
        ("normal", lambda a: a * np.float16(np.nan), "normal holds NaN or infinity"),
        ("alpha", lambda a: a + np.float32(0.5), "its alpha is not the recipe's"),
    ],
)
def test_a_broken_promise_is_named_even_when_checksums_agree(copy, name, change, expected):
    array = zarr.open_group(copy, mode="r+")[name]
    with np.errstate(invalid="ignore"):
        array[:8] = change(array[:8])
    key = str(next((copy / name).glob("c.0*")).relative_to(copy))
    reseal(copy, 0, key)
    assert any(expected in finding for finding in verify(copy, samples=22))


def test_a_folder_that_is_no_corpus_is_one_sentence(tmp_path, sources_path):
    with pytest.raises(StoreError, match="no corpus here"):
        verify(tmp_path)
    with pytest.raises(StoreError, match="not a corpus"):
        verify(sources_path)
