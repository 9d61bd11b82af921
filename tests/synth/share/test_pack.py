"""Packs: one file holds a corpus, or its recipes; what the terms of a scan forbid is not packed."""

import dataclasses
import json
import resource
import shutil
import zipfile
from pathlib import Path

import bagit
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scans.errors import StoreError, UserError
from synth.corpus import Corpus
from synth.corpus.manifest import load_manifest
from synth.corpus.receipt import CARD
from synth.corpus.verify import verify
from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.share.pack import pack
from synth.share.recipe_codec import decode_recipes, encode_recipes
from synth.share.recipe_pack import Recipes, pack_recipes
from synth.share.unpack import unpack
from synth.share.zip_archive import Archive, Packing
from synth.sources.format import write_source
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from synth.store.sealed_json import seal, to_bytes
from synth.tumour.recipe import COLUMNS, Recipe
from tests.made.commands import synth
from tests.made.object_store import s3_url  # noqa: F401
from tests.made.packs import content_of
from tests.made.sources import make_scan


@pytest.fixture
def copy(corpus_path, tmp_path) -> Path:
    return shutil.copytree(corpus_path, tmp_path / "corpus.zarr")


@pytest.fixture(scope="module")
def packed(corpus_path, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "corpus.zip"
    pack(corpus_path, path)
    return path


@pytest.fixture(scope="module")
def forbidden(tmp_path_factory, sources_path) -> Path:
    """A corpus of three scans, two of which may not be passed on: one by its catalog, one by its licence."""
    store = shutil.copytree(sources_path, tmp_path_factory.mktemp("forbidden") / "sources.zarr")
    for seed, licence, allowed in ((0, "on request", False), (2, "CC BY-ND 4.0", True)):
        scan = make_scan(seed)
        terms = {"licence": licence, "redistribute_derived": allowed}
        write_source(store, f"made--case{seed}", scan["arrays"], scan["provenance"] | terms)
    out = store.parent / "corpus.zarr"
    assert not generate(make_manifest(SourceStore(store), 22, 7, shard_size=8), store, out, workers=0).failed
    return out


@pytest.mark.parametrize("layout", ["corpus_path", "dense_path"])
def test_what_is_unpacked_is_what_was_packed_byte_for_byte(layout, request, tmp_path):
    corpus = request.getfixturevalue(layout)
    written = pack(corpus, tmp_path / "corpus.zip")
    assert (written.samples, written.new, written.left_out) == (22, True, ())
    unpack(tmp_path / "corpus.zip", tmp_path / "there" / "corpus.zarr")
    assert content_of(tmp_path / "there" / "corpus.zarr") == content_of(corpus)
    assert verify(tmp_path / "there" / "corpus.zarr") == []
    assert sorted(path.name for path in tmp_path.rglob("*.*") if path.parent == tmp_path) == ["corpus.zip"]


def test_a_pack_is_a_valid_bag_of_files_stored_as_they_are(packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        archive.extractall(tmp_path)
    bag = bagit.Bag(str(tmp_path / "corpus"))
    bag.validate()
    assert bag.version_info == (1, 0)
    assert bag.algorithms == ["sha256"]
    assert (tmp_path / "corpus" / "data" / "corpus.zarr" / "zarr.json").is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == ["corpus"], "one folder, as the standard wants"
    assert "Date" not in (tmp_path / "corpus" / "bag-info.txt").read_text(encoding="utf-8")


def test_an_archive_of_very_many_files_is_read_by_others_too(tmp_path):
    """More than a ZIP without 64-bit fields can count."""
    with Packing(tmp_path / "many.zip") as archive:
        for number in range(70_000):
            archive.add(f"folder/{number:06d}", 3, (b"abc",))
        archive.finish()
        archive.commit()
    with zipfile.ZipFile(tmp_path / "many.zip") as there:
        assert len(there.namelist()) == 70_000
        assert there.read("folder/069999") == b"abc"
    ours = Archive(tmp_path / "many.zip")
    assert len(ours.members) == 70_000
    assert ours.read("folder/069999", 3) == b"abc"
    assert list(tmp_path.iterdir()) == [tmp_path / "many.zip"]


def test_two_packs_of_one_corpus_are_the_same_bytes_wherever_it_was_made(packed, sources, sources_path, tmp_path):
    other = tmp_path / "elsewhere.zarr"
    generate(make_manifest(sources, 22, 7, shard_size=8), sources_path, other, workers=0)
    (other / "zarr.json").write_text(json.dumps(json.loads((other / "zarr.json").read_text(encoding="utf-8"))))
    pack(other, tmp_path / "other.zip")
    assert (tmp_path / "other.zip").read_bytes() == packed.read_bytes()


def test_an_identical_pack_may_be_there_and_nothing_else(corpus_path, packed, tmp_path):
    out = tmp_path / "corpus.zip"
    out.write_bytes(packed.read_bytes())
    assert not pack(corpus_path, out).new
    for content in (b"my thesis", packed.read_bytes()[:-1] + b"x"):
        out.write_bytes(content)
        with pytest.raises(StoreError, match="is there, and is not this pack"):
            pack(corpus_path, out)
        assert out.read_bytes() == content
    assert list(tmp_path.iterdir()) == [out]


def test_a_card_goes_along_and_foreign_files_do_not(copy, tmp_path):
    store = open_store(copy)
    files = {"README.md": b"# A corpus\n", "croissant.json": b"{}\n"}
    sums = {}
    for key, content in files.items():
        writing = store.create(key)
        writing.append(content)
        sums[key] = writing.commit()
    store.write(CARD, to_bytes(seal({"files": sums})))
    (copy / "notes of mine.txt").write_text("secret")
    assert pack(copy, tmp_path / "c.zip").left_out == ("notes of mine.txt",)
    unpack(tmp_path / "c.zip", tmp_path / "u.zarr")
    assert (tmp_path / "u.zarr" / "README.md").read_bytes() == files["README.md"]
    assert b"secret" not in (tmp_path / "c.zip").read_bytes()


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("layer/c.1.0", "layer/c.1.0 is damaged"),
        ("sources/normal/c.2.0.0.0", "sources/normal/c.2.0.0.0 is damaged"),
        ("receipts/000001.json", "holds 2 of 3 shards"),
        ("receipts/sources.json", "sources.json is damaged"),
        ("manifest.json", "manifest.json is damaged"),
        ("form/zarr.json", "form/zarr.json is missing or damaged"),
    ],
)
def test_a_damaged_file_stops_the_packing_and_is_named(copy, tmp_path, key, sentence):
    content = bytearray((copy / key).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / key).write_bytes(content)
    with pytest.raises(StoreError, match=sentence):
        pack(copy, tmp_path / "c.zip")
    assert list(tmp_path.iterdir()) == [copy]


def test_a_corpus_that_is_not_finished_is_not_packed(sources, sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    generate(make_manifest(sources, 22, 7, shard_size=8), sources_path, out, workers=0, only=slice(0, 2))
    for way in (pack, pack_recipes):
        with pytest.raises(StoreError, match="holds 2 of 3 shards"):
            way(out, tmp_path / "c.zip")


def test_a_place_that_cannot_be_written_is_one_sentence(corpus_path, tmp_path):
    with pytest.raises(StoreError, match="there is no folder"):
        pack(corpus_path, tmp_path / "nowhere" / "c.zip")
    with pytest.raises(StoreError, match="one file on this machine"):
        pack(corpus_path, "s3://bucket/c.zip")


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_leaves_nothing_behind(corpus_path, packed, tmp_path):
    """A limit on the size of files stands in for the disk."""
    said = synth("pack", corpus_path, "--out", tmp_path / "c.zip", preexec_fn=small_files)
    assert said.returncode == 2, said.stderr
    assert "File too large" in said.stderr
    said = synth("unpack", packed, "--out", tmp_path / "u.zarr", preexec_fn=small_files)
    assert said.returncode == 2, said.stderr
    assert "Traceback" not in said.stderr
    assert not list(tmp_path.iterdir())


def test_what_a_source_forbids_the_corpus_forbids(forbidden, tmp_path):
    with pytest.raises(UserError) as refusal:
        pack(forbidden, tmp_path / "c.zip")
    sentence = str(refusal.value)
    assert "licence on request: made--case0; licence CC BY-ND 4.0: made--case2" in sentence
    assert "made--case1" not in sentence
    assert "--recipes" in sentence
    said = synth("pack", forbidden, "--out", tmp_path / "c.zip")
    assert said.returncode == 2
    assert "made--case0" in said.stderr
    assert "made--case2" in said.stderr
    assert not list(tmp_path.iterdir())


def test_recipes_are_packed_whatever_the_terms_and_hold_no_pixel(forbidden, tmp_path):
    said = synth("pack", forbidden, "--recipes", "--out", tmp_path / "r.zip")
    assert said.returncode == 0, said.stderr
    assert "synth rehydrate" in said.stdout
    corpus, content = Corpus(forbidden), (tmp_path / "r.zip").read_bytes()
    assert len(content) < 12_000
    for position in range(3):
        voxels = corpus.source(position).voxels
        for row in voxels[np.count_nonzero(voxels, axis=2) > 8]:
            assert row.tobytes().strip(b"\0") not in content
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        archive.extractall(tmp_path)
    bagit.Bag(str(tmp_path / "recipes")).validate()


def test_recipes_come_back_bit_for_bit(corpus_path, tmp_path):
    pack_recipes(corpus_path, tmp_path / "r.zip")
    recipes, corpus = Recipes(tmp_path / "r.zip"), Corpus(corpus_path)
    assert recipes.manifest.to_json() == load_manifest(open_store(corpus_path)).to_json()
    there = np.concatenate([recipes.rows(shard) for shard in (2, 0, 1)])
    assert there.tobytes() == np.concatenate([corpus.recipes[16:], corpus.recipes[:16]]).tobytes()
    assert [recipes.digests(shard)[0] for shard in range(3)] == [corpus.receipts[shard].content for shard in range(3)]


def drawn(count: int, seed: int) -> np.ndarray:
    """Make a table as random as drawn recipes are."""
    rng, rows = np.random.default_rng(seed), np.zeros((count, len(COLUMNS)))
    rotation = rng.normal(size=(count, 4))
    values = {
        "index": np.arange(count), "normal": rng.integers(0, 6, count), "donor": rng.integers(0, 6, count),
        "centre_z": rng.integers(20, 108, count), "centre_y": rng.integers(20, 108, count),
        "centre_x": rng.integers(20, 108, count), "octaves": rng.integers(4, 8, count), "tries": 1,
        "noise_high": rng.integers(0, 2**31, count), "noise_low": rng.integers(0, 2**32, count),
        "elastic_high": rng.integers(0, 2**32, count), "elastic_low": rng.integers(0, 2**32, count),
        "kept": np.where(rng.random(count) < 0.3, 1, rng.random(count)),
    }  # fmt: skip
    values |= {f"rotation_{axis}": rotation[:, k] / np.linalg.norm(rotation, axis=1) for k, axis in enumerate("wxyz")}
    for name, (low, high) in {"drawn_volume_mm3": (7e3, 2e5), "axis_ratio": (0.8, 1), "ratio": (1, 3),
                              "sigma_mm": (0, 2), "alpha": (0.2, 0.8)}.items():  # fmt: skip
        values[name] = [float(f"{number:.9g}") for number in rng.uniform(low, high, count)]
    values["volume_mm3"] = values["drawn_volume_mm3"]
    for name, column in values.items():
        rows[:, COLUMNS.index(name)] = column
    return rows


@pytest.mark.parametrize("count", [1000, 4096])
def test_a_thousand_recipes_take_less_than_100_kilobytes(count):
    rows = drawn(count, 1)
    encoded = encode_recipes(rows)
    assert len(encoded) / count < 100
    assert decode_recipes(encoded, np.arange(count), rows.shape[1]).tobytes() == rows.tobytes()


_NUMBER = st.one_of(
    st.integers(-(2**53), 2**53).map(float), st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1e6).map(lambda number: float(f"{number:.9g}")),
)  # fmt: skip
_WHOLE = [number for number, field in enumerate(dataclasses.fields(Recipe)) if field.type is int]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(len(COLUMNS))), elements=_NUMBER))
def test_any_table_comes_back_bit_for_bit(rows):
    rows[:, _WHOLE] = np.clip(np.rint(rows[:, _WHOLE]), -(2**52), 2**52) + 0.0  # an index has no -0
    decoded = decode_recipes(encode_recipes(rows), rows[:, 0].astype(np.int64), rows.shape[1])
    assert decoded.tobytes() == rows.tobytes()


def test_a_pack_of_the_other_kind_is_pointed_at_its_command(packed, corpus_path, tmp_path):
    pack_recipes(corpus_path, tmp_path / "r.zip")
    with pytest.raises(StoreError, match="no pixels; synth rehydrate"):
        unpack(tmp_path / "r.zip", tmp_path / "c.zarr")
    with pytest.raises(StoreError, match="unpack it with synth unpack"):
        Recipes(packed)
    with pytest.raises(StoreError, match="no pack here"):
        unpack(tmp_path / "nothing.zip", tmp_path / "c.zarr")
    assert not (tmp_path / "c.zarr").exists()


def test_nothing_is_unpacked_over_what_is_there(packed, copy, tmp_path):
    before = content_of(copy)
    with pytest.raises(StoreError, match="exists; choose another --out"):
        unpack(packed, copy)
    assert content_of(copy) == before
    assert list(tmp_path.iterdir()) == [copy]


def test_a_corpus_behind_a_url_is_packed_and_a_pack_unpacked_there(s3_url, packed, corpus_path, tmp_path):  # noqa: F811
    unpack(packed, f"{s3_url}/u.zarr")
    assert verify(f"{s3_url}/u.zarr", samples=2) == []
    pack(f"{s3_url}/u.zarr", tmp_path / "c.zip")
    assert (tmp_path / "c.zip").read_bytes() == packed.read_bytes()
    with pytest.raises(StoreError, match="exists; choose another --out"):
        unpack(packed, f"{s3_url}/u.zarr")


def test_the_commands_say_what_to_type_next(corpus_path, tmp_path):
    said = synth("pack", corpus_path, "--out", tmp_path / "c.zip")
    assert said.returncode == 0, said.stderr
    assert f"synth unpack {tmp_path / 'c.zip'} --out corpus.zarr" in said.stdout
    said = synth("unpack", tmp_path / "c.zip", "--out", tmp_path / "u.zarr")
    assert said.returncode == 0, said.stderr
    assert f"synth info {tmp_path / 'u.zarr'}" in said.stdout
    assert content_of(tmp_path / "u.zarr") == content_of(corpus_path)
