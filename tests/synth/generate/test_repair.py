"""Repair: whatever is damaged comes back byte for byte, and nothing else is touched."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from scans.errors import StoreError
from synth.cli.application import app
from synth.corpus import Corpus
from synth.corpus.receipt import read_receipt, receipt_key
from synth.corpus.shard_writer import ShardWriter
from synth.corpus.verify import verify
from synth.generate.plan import make_manifest
from synth.generate.repair import repair
from synth.generate.run import generate
from synth.sources.reader import SourceStore
from synth.store.sealed_json import seal
from synth.tumour.sample import Tumour
from tests.made.corpora import files_of, make_corpus, pick_store
from tests.made.sources import make_store

# Every kind of file, by its key; * is its number.
KINDS = {
    "layered": ["form/c.*.0", "layer/c.*.0", "edge/c.*.0", "box/c.*.0"],
    "dense": ["composite/c.*.0.0.0", "normal/c.*.0.0.0", "texture/c.*.0.0.0", "mask/c.*.0.0.0"],
}
OF_BOTH = ["alpha/c.*", "recipes/c.*.0", "receipts/0*.json", "receipts/sources.json", "sources/normal/c.*",
           "sources/roi/c.*", "zarr.json", "manifest.json", "*/zarr.json", "sources/*/zarr.json"]  # fmt: skip


def flip(content, place):
    changed = bytearray(content)
    changed[min(int(place * len(content)), len(content) - 1)] ^= 1
    return bytes(changed)


DAMAGE = {
    "a bit of the first byte": lambda content: flip(content, 0),
    "a bit in the middle": lambda content: flip(content, 0.5),
    "a bit near the end": lambda content: flip(content, 0.97),
    "cut short": lambda content: content[:-9],
    "emptied": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "gone": lambda content: None,
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory, sources_path):
    """A corpus of each layout, with every kind of file."""
    folder = tmp_path_factory.mktemp("sound")
    return {
        layout: make_corpus(folder / layout, sources_path, "mask.soft_mm=2", samples=5, shard_size=3, layout=layout)
        for layout in KINDS
    }


@pytest.fixture
def corpus(sound, tmp_path, request):
    return shutil.copytree(sound[getattr(request, "param", "layered")], tmp_path / "c.zarr")


def damage(path, key, how):
    content = how((path / key).read_bytes())
    if content is None:
        (path / key).unlink()
    else:
        (path / key).write_bytes(content)


@pytest.mark.parametrize(
    ("layout", "kind"), [(layout, kind) for layout, own in KINDS.items() for kind in [*own, *OF_BOTH]]
)
def test_any_damage_to_any_file_is_undone(sound, sources_path, tmp_path, layout, kind):
    """Each file of a kind in turn, each with another kind of damage; one of them with all."""
    whole = files_of(sound[layout])
    path = shutil.copytree(sound[layout], tmp_path / "c.zarr")
    keys = sorted(str(file.relative_to(path)) for file in path.glob(kind))
    assert keys
    ways = list(DAMAGE.items())
    for number in range(max(len(keys), len(ways))):
        key, (name, how) = keys[number % len(keys)], ways[number % len(ways)]
        times = {f: f.stat().st_mtime_ns for f in path.rglob("c.*")}
        damage(path, key, how)
        result = repair(path, sources_path, workers=0)
        assert (result.left, len(result.mended)) == ([], 1), (key, name)
        assert files_of(path) == whole, (key, name)
        written = {f.name.split(".")[1] for f, time in times.items() if f.stat().st_mtime_ns != time}
        assert len(written) <= 1, "nothing but the damaged shard or source is written"


def test_everything_at_once(sound, corpus, sources_path):
    for file in sorted(corpus.rglob("*")):
        if file.is_file() and file.name != "manifest.json":
            file.write_bytes(flip(file.read_bytes(), 0.3) if file.stat().st_size else b"")
    result = repair(corpus, sources_path, workers=0)
    assert result.left == []
    assert files_of(corpus) == files_of(sound["layered"])


def test_a_sound_corpus_is_left_alone(corpus, sources_path):
    times = {f: f.stat().st_mtime_ns for f in corpus.rglob("*") if f.is_file() and f.name != ".lock"}
    result = repair(corpus, sources_path, deep=True, workers=0)
    assert (result.mended, result.left) == ([], [])
    assert {f: f.stat().st_mtime_ns for f in times} == times


@pytest.mark.parametrize("layout", KINDS)
def test_a_shard_of_another_corpus_gives_way_to_the_right_one(sound, sources_path, tmp_path, layout):
    path = shutil.copytree(sound[layout], tmp_path / "c.zarr")
    alike = {"samples": 5, "shard_size": 3, "layout": layout}
    other = make_corpus(tmp_path / "other", sources_path, "mask.soft_mm=2", seed=8, **alike)
    for key in [receipt_key(1), *Corpus(other).receipts[1].files]:
        shutil.copy(other / key, path / key)
    assert repair(path, sources_path, workers=0).mended == ["shard 1: made again"]
    assert files_of(path) == files_of(sound[layout])


def test_receipts_that_changed_places_are_put_right(sound, corpus, sources_path):
    one, other = corpus / receipt_key(0), corpus / receipt_key(1)
    one.rename(corpus / "between")
    other.rename(one)
    (corpus / "between").rename(other)
    assert len(repair(corpus, sources_path, workers=0).mended) == 2
    assert files_of(corpus) == files_of(sound["layered"])


def test_a_corpus_that_was_never_finished_is_finished(sound, corpus, sources_path):
    for file in corpus.rglob("c.1*"):
        file.unlink() if "sources" not in file.parts else None
    (corpus / receipt_key(1)).unlink()
    (corpus / "form" / "c.1.0.77.partial").write_bytes(b"left by a killed worker")
    assert repair(corpus, sources_path, workers=0).left == []
    assert files_of(corpus) == files_of(sound["layered"])


def test_without_sources_it_mends_what_needs_none_and_says_what_is_left(sound, corpus):
    (corpus / "zarr.json").unlink()
    damage(corpus, "layer/zarr.json", DAMAGE["cut short"])
    damage(corpus, "layer/c.1.0", DAMAGE["a bit in the middle"])
    damage(corpus, "sources/roi/c.2.0.0.0", DAMAGE["gone"])
    before = (corpus / "layer/c.1.0").read_bytes()
    result = repair(corpus)
    assert result.mended == ["layer/zarr.json: written again", "zarr.json: written again"]
    assert len(result.left) == 2
    assert "shard 1: layer/c.1.0 is damaged" in "".join(result.left)
    assert "sources/roi/c.2.0.0.0 is missing" in "".join(result.left)
    assert result.needs_sources
    assert (corpus / "layer/c.1.0").read_bytes() == before, "what cannot be replaced stays"
    assert json.loads((corpus / "zarr.json").read_text(encoding="utf-8"))["node_type"] == "group"


@pytest.mark.parametrize("how", ["gone", "emptied", "a bit in the middle"])
def test_without_any_manifest_nothing_is_done(corpus, sources_path, how):
    for key in ("zarr.json", "manifest.json"):
        damage(corpus, key, DAMAGE[how])
    before = files_of(corpus)
    with pytest.raises(StoreError, match=r"neither copy of the manifest can be used.*make it again elsewhere"):
        repair(corpus, sources_path, workers=0)
    assert files_of(corpus) == before


def test_where_there_is_no_corpus_none_appears(tmp_path):
    with pytest.raises(StoreError, match="no corpus here"):
        repair(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_foreign_files_are_named_and_removed_only_if_asked(sound, corpus, sources_path, tmp_path):
    (corpus / "notes.txt").write_text("mine")
    shutil.copy(corpus / "alpha" / "c.0", corpus / "alpha" / "c.9")
    (corpus / "link").symlink_to(tmp_path)
    for left in (repair(corpus, sources_path, workers=0).left, repair(corpus).left):
        assert [line.partition(":")[0] for line in left] == ["alpha/c.9", "link", "notes.txt"]
    result = repair(corpus, sources_path, remove_foreign=True, workers=0)
    assert (len(result.mended), result.left) == (3, [])
    assert files_of(corpus) == files_of(sound["layered"])
    assert tmp_path.is_dir()


def test_a_link_in_place_of_a_file_gives_way_to_the_file(sound, corpus, sources_path, tmp_path):
    (corpus / "layer" / "c.0.0").rename(tmp_path / "elsewhere")
    (corpus / "layer" / "c.0.0").symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    assert repair(corpus, sources_path, workers=0).left == []
    assert not (corpus / "layer" / "c.0.0").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == before
    assert files_of(corpus) == files_of(sound["layered"])


def test_a_store_without_the_sources_leaves_all_as_it_was(corpus, tmp_path):
    """One of its sources is another's: neither it nor the shards that need it can be made."""
    damage(corpus, "sources/normal/c.1.0.0.0", DAMAGE["a bit in the middle"])
    damage(corpus, "layer/c.1.0", DAMAGE["gone"])
    before = files_of(corpus)
    result = repair(corpus, pick_store(tmp_path / "s", [4]), workers=0)
    assert result.mended == []
    assert "source made--case1: not written again: " in "".join(result.left)
    assert "shard 1: not made again: " in "".join(result.left)
    assert files_of(corpus) == before
    with pytest.raises(StoreError, match="no sources here"):
        repair(corpus, tmp_path / "nowhere")


def test_sources_are_found_by_content_whatever_their_names(sound, corpus, tmp_path):
    shutil.copytree(make_store(tmp_path / "s", 3), tmp_path / "renamed")
    for number in range(3):
        (tmp_path / "renamed" / f"made--case{number}").rename(tmp_path / "renamed" / f"new--{9 - number}")
    damage(corpus, "layer/c.1.0", DAMAGE["gone"])
    damage(corpus, "sources/normal/c.1.0.0.0", DAMAGE["gone"])
    assert repair(corpus, tmp_path / "renamed", workers=0).left == []
    assert files_of(corpus) == files_of(sound["layered"])


def test_a_shard_that_would_come_out_otherwise_stays_as_it_is(corpus, sources_path):
    receipt = Corpus(corpus).receipts[1]
    damage(corpus, "layer/c.1.0", DAMAGE["a bit in the middle"])
    (corpus / receipt_key(1)).write_bytes(dataclasses.replace(receipt, content="0" * 64).to_bytes())
    before = files_of(corpus)
    result = repair(corpus, sources_path, workers=0)
    assert "shard 1: not made again: " in "".join(result.left)
    assert "would not hold the samples" in "".join(result.left)
    assert files_of(corpus) == before


def test_a_source_that_would_come_out_otherwise_stays_as_it_is(corpus, sources_path):
    damage(corpus, "sources/normal/c.1.0.0.0", DAMAGE["a bit in the middle"])
    content = json.loads((corpus / "receipts/sources.json").read_text(encoding="utf-8"))
    content["files"]["1"]["sources/normal/c.1.0.0.0"]["sha256"] = "0" * 64
    (corpus / "receipts/sources.json").write_text(json.dumps(seal(content)))
    before = files_of(corpus)
    assert "source made--case1 would not be the files it was" in "".join(repair(corpus, sources_path, workers=0).left)
    assert files_of(corpus) == before


def forge(path, shard):
    """Commit a shard whose checksums agree, and whose tumours are twice as bright as Eq. 5 allows."""
    corpus = Corpus(path)
    with ShardWriter(corpus.store, corpus.manifest, shard) as writer:
        for index in corpus.manifest.indices(shard):
            tumour = corpus.tumour(index)
            brighter = Tumour(tumour.box, tumour.composite * np.float16(2), tumour.texture, tumour.mask, tumour.alpha)
            writer.add(corpus.recipes[index], corpus.source(int(corpus.normal[index])), None, brighter)
        writer.commit()


def test_what_checksums_agree_with_is_found_by_looking_deep(sources, sources_path, tmp_path):
    path = make_corpus(tmp_path / "c", sources_path, samples=5, shard_size=3, layout="dense")
    whole = files_of(path)
    forge(path, 1)
    shallow = repair(path, sources_path, workers=0)
    assert (shallow.mended, shallow.left) == ([], [])
    assert any("Eq. 5" in line for line in repair(path, deep=True).left)
    deep = repair(path, sources_path, deep=True, workers=0)
    assert (deep.mended, deep.left) == (["shard 1: made again"], [])
    assert files_of(path) == whole


def test_a_corpus_behind_a_url_is_mended_there(sources, sources_path, tmp_path):
    url = f"memory://{tmp_path.name}/c.zarr"
    generate(make_manifest(sources, 5, 7, shard_size=3), sources_path, url, workers=0)
    corpus = Corpus(url)
    content, store = corpus.content_hash, corpus.store
    store.write("layer/c.0.0", flip(store.read("layer/c.0.0"), 0.5))
    store.write("foreign", b"")
    store.remove("zarr.json")
    store.remove("sources/roi/c.0.0.0.0")
    assert repair(url, sources_path, remove_foreign=True, workers=0).left == []
    assert Corpus(url).content_hash == content
    assert verify(url) == []


def test_the_old_shard_stays_until_the_new_one_is_whole(corpus, sources_path, monkeypatch):
    """A full disk, and later room again."""
    damage(corpus, "layer/c.1.0", DAMAGE["a bit in the middle"])
    before = files_of(corpus)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("synth.store.folder.os.fsync", full)
        result = repair(corpus, sources_path, workers=0)
    assert "shard 1: not made again: No space left on device" in "".join(result.left)
    assert files_of(corpus) == before
    manifest = Corpus(corpus).manifest
    assert read_receipt(Corpus(corpus).store, manifest, 1) is not None
    assert repair(corpus, sources_path, workers=0).left == []


def test_a_shard_made_by_worker_processes_is_the_same(sound, corpus, sources_path):
    for shard in (0, 1):
        damage(corpus, f"layer/c.{shard}.0", DAMAGE["a bit in the middle"])
    assert repair(corpus, sources_path, workers=2).left == []
    assert files_of(corpus) == files_of(sound["layered"])


def test_the_command_says_what_it_did_what_is_left_and_what_comes_next(corpus, sources_path):
    taught = CliRunner().invoke(app, ["repair", "--help"]).output
    assert "Example" in taught
    assert "synth repair corpus.zarr --sources" in taught
    damage(corpus, "layer/c.1.0", DAMAGE["gone"])
    (corpus / "manifest.json").unlink()
    first = CliRunner().invoke(app, ["repair", str(corpus)])
    assert first.exit_code == 1
    assert "manifest.json: written again" in first.output
    assert "shard 1: layer/c.1.0 is missing" in first.output
    assert f"next: synth repair {corpus} --sources SOURCES" in first.output
    second = CliRunner().invoke(app, ["repair", str(corpus), "--sources", str(sources_path), "--workers", "0"])
    assert second.exit_code == 0
    assert "shard 1: made again" in second.output
    assert "1 mended, now sound" in second.output
    assert f"next: synth verify {corpus}" in second.output
    third = CliRunner().invoke(app, ["repair", str(corpus), "--deep"])
    assert (third.exit_code, f"{corpus}: sound" in third.output) == (0, True)
    assert SourceStore(sources_path).names == ["made--case0", "made--case1", "made--case2"]
