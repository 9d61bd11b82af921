"""Verification: a sound corpus passes, and each kind of damage is named."""

import json
import shutil

import numpy as np
import pytest
import zarr

from scans.durable import sha256
from scans.errors import StoreError
from synth.corpus.verify import verify
from synth.store.sealed_json import seal


@pytest.fixture(params=["layered", "dense"])
def copy(request, corpus_path, dense_path, tmp_path):
    return shutil.copytree(corpus_path if request.param == "layered" else dense_path, tmp_path / "corpus.zarr")


@pytest.fixture
def dense(dense_path, tmp_path):
    return shutil.copytree(dense_path, tmp_path / "corpus.zarr")


@pytest.fixture
def layered(corpus_path, tmp_path):
    return shutil.copytree(corpus_path, tmp_path / "corpus.zarr")


def reseal(path, shard, key=None, **changed):
    """Make a receipt agree with a file that was changed, as a forger would."""
    file = path / "receipts" / f"{shard:06d}.json"
    receipt = json.loads(file.read_text(encoding="utf-8")) | changed
    if key is not None:
        receipt["files"][key] = {"bytes": (path / key).stat().st_size, "sha256": sha256(path / key)}
    file.write_text(json.dumps(seal(receipt)))


def findings_of(path):
    return [str(finding) for finding in verify(path)]


def kinds(path):
    """Return one file of each kind that a corpus holds."""
    found = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != ".lock"):
        found[(file.parent, file.name.startswith("c."), file.name if file.suffix == ".json" else "")] = file
    return list(found.values())


def test_a_sound_corpus_passes_every_check(copy):
    seen = []
    assert verify(copy, progress=seen.append) == []
    assert seen == list(range(22))


def test_a_flipped_bit_in_any_kind_of_file_is_named(copy):
    for file in kinds(copy):
        sound = file.read_bytes()
        content = bytearray(sound)
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        named = findings_of(copy)
        key = str(file.relative_to(copy))
        assert any(key in finding for finding in named), f"{key}: {named}"
        file.write_bytes(sound)
    assert findings_of(copy) == []


def test_any_kind_of_file_cut_short_or_missing_is_named(copy):
    for file in kinds(copy):
        sound = file.read_bytes()
        key = str(file.relative_to(copy))
        file.write_bytes(sound[:-9])
        assert any(key in finding for finding in findings_of(copy)), f"{key} cut short"
        file.unlink()
        assert any(key in finding for finding in findings_of(copy)), f"{key} missing"
        file.write_bytes(sound)


def test_a_file_that_belongs_to_nothing_is_named(copy):
    shutil.copy(copy / "alpha" / "c.0", copy / "alpha" / "c.9")
    assert any("alpha/c.9: no part of this corpus" in finding for finding in findings_of(copy))


def test_a_shard_of_another_corpus_is_named(copy):
    reseal(copy, 1, identity="0" * 64)
    assert any("shard 1: belongs to another corpus" in finding for finding in findings_of(copy))


def test_changed_settings_are_noticed_even_when_they_are_sealed(copy):
    content = json.loads((copy / "zarr.json").read_text(encoding="utf-8"))
    content["attributes"]["generations"][0]["settings"]["alpha"] = [0.0, 1.0]
    content["attributes"] = seal(content["attributes"])
    (copy / "zarr.json").write_text(json.dumps(content))
    assert any("does not match its settings" in finding for finding in findings_of(copy))


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
def test_a_broken_promise_is_named_even_when_checksums_agree(dense, name, change, expected):
    with np.errstate(invalid="ignore"), zarr.config.set({"array.write_empty_chunks": True}):
        array = zarr.open_group(dense, mode="r+")[name]
        array[:8] = change(array[:8])
    reseal(dense, 0, str(next((dense / name).glob("c.0*")).relative_to(dense)))
    assert any(expected in str(finding) for finding in verify(dense, samples=22))


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("layer", lambda a: a + np.float16(1), "its content is not the receipt's"),
        ("form", lambda a: a * (np.arange(8) > 0).astype(np.uint8)[:, None], "the layer of sample 0 is empty"),
        ("alpha", lambda a: a + np.float32(0.5), "its alpha is not the recipe's"),
        ("recipes", lambda a: a * np.inf, "a recipe's numbers are finite"),
        ("recipes", lambda a: a[::-1], "its recipe is that of index 7, not 0"),
        ("recipes", lambda a: a * 3, "is out of range"),
    ],
)
def test_a_broken_promise_of_layers_is_named_even_when_checksums_agree(layered, name, change, expected):
    with np.errstate(invalid="ignore"), zarr.config.set({"array.write_empty_chunks": True}):
        array = zarr.open_group(layered, mode="r+")[name]
        array[:8] = change(array[:8])
    reseal(layered, 0, str(next((layered / name).glob("c.0*")).relative_to(layered)))
    assert any(expected in str(finding) for finding in verify(layered))


def test_a_box_outside_the_cube_is_named(layered):
    boxes = zarr.open_group(layered, mode="r+")["box"]
    changed = boxes[:8]
    changed[3] = [0, 40, -1, 5, 9, 9]
    boxes[:8] = changed
    reseal(layered, 0, "box/c.0.0")
    assert any("sample 3" in finding for finding in findings_of(layered))


def test_a_folder_that_is_no_corpus_is_one_sentence(tmp_path, sources_path):
    with pytest.raises(StoreError, match="no corpus here"):
        verify(tmp_path)
    with pytest.raises(StoreError, match="not a corpus"):
        verify(sources_path)
