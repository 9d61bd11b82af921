"""Stores: the same promises in a folder, in memory and in a bucket; and a local copy of what is far away."""

import os
import shutil
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scans.errors import StoreError
from synth.store.cached import Cached
from synth.store.folder import Folder
from synth.store.opening import open_store
from tests.made.object_store import s3_url  # noqa: F401
from tests.made.stores import FEW, below, disk_full, grow, operations, summed

HOSTILE = ["", ".", "/etc/passwd", "../out", "a/../../out", "a//b", "./a", "a/", "a\\b", "..\\out", "C:/a", "c:a"]
HOSTILE += ["a\0b", "\ud800", "x" * 256, "x/" * 600 + "x", "é" * 200]


@pytest.fixture(params=["folder", "memory", "s3"])
def where(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "c.zarr")
    root = "memory://tumours" if request.param == "memory" else request.getfixturevalue("s3_url")
    return f"{root}/{uuid.uuid4().hex}/c.zarr"


@pytest.fixture
def store(where):
    return open_store(where)


@FEW
@given(content=st.binary(max_size=200), start=st.integers(0, 220), length=st.integers(0, 2**62))
def test_a_file_is_read_back_whole_and_in_parts(store, content, start, length):
    store.write("a/c.0", content)
    assert store.read("a/c.0") == content
    assert store.read("a/c.0", len(content)) == content
    assert store.read_part("a/c.0", start, length) == content[start : start + length]
    assert store.size("a/c.0") == len(content)
    assert store.sha256("a/c.0") == summed(content)["sha256"]


def test_a_grown_file_appears_only_when_committed(store):
    store.write("a/c.0", b"old")
    writing = grow(store, "a/c.0", b"new ", memoryview(b"and longer"))
    assert writing.bytes == 14
    assert store.read("a/c.0") == b"old"
    assert writing.commit() == summed(b"new and longer")
    assert store.read("a/c.0") == b"new and longer"
    writing.discard()
    assert store.sizes() == {"a/c.0": 14}


def test_what_is_discarded_leaves_nothing(store):
    writing = grow(store, "a/c.0", b"content")
    writing.discard()
    writing.discard()
    assert store.sizes() == {}
    assert store.size("a/c.0") == -1


def test_sizes_know_every_file_as_soon_as_it_is_written(store):
    for count, key in enumerate(["zarr.json", "a/c.0", "a/b/c.1", "ab/c.2", "a.json"]):
        store.write(key, b"x" * count)
        grow(store, f"{key}.grown", b"y").commit()
        sizes = store.sizes()
        assert (sizes[key], sizes[f"{key}.grown"]) == (count, 1)
    assert all(store.size(key) == size for key, size in sizes.items())
    assert set(store.sizes("a")) == {"a/c.0", "a/c.0.grown", "a/b/c.1", "a/b/c.1.grown"}
    assert store.sizes("zarr.json") == {"zarr.json": 0}
    assert store.sizes("absent") == {}


def test_another_store_on_the_same_place_sees_what_this_one_writes(store, where):
    other = open_store(where)
    assert (other.sizes(), other.size("a/c.0")) == ({}, -1)
    store.write("a/c.0", b"1")
    assert (other.sizes(), other.size("a/c.0")) == ({"a/c.0": 1}, 1)


def test_an_absent_file_is_not_found(store):
    store.write("there/c.0", b"1")
    for key in ("absent", "there/absent", "there/c.0/absent"):
        for read in (store.read, lambda key: store.read_part(key, 0, 9), store.sha256, lambda key: store.read(key, 9)):
            with pytest.raises(FileNotFoundError):
                read(key)
        assert store.size(key) == -1
        store.remove("absent")
    assert store.size("there") == -1
    assert store.read_many(["absent", "there/c.0", "there/absent"]) == {"there/c.0": b"1"}


def test_a_file_larger_than_it_may_be_is_refused(store):
    store.write("zarr.json", b"x" * 100)
    assert store.read("zarr.json", 100) == store.read_many(["zarr.json"], 100)["zarr.json"]
    for read in (store.read, lambda key, most: store.read_many([key], most)):
        with pytest.raises(StoreError, match=r"'zarr.json' is damaged: it is larger than 99 bytes"):
            read("zarr.json", 99)


def test_a_part_that_cannot_be_is_refused(store):
    store.write("a", b"123")
    for start, length in ((-1, 2), (0, -2), (-3, -1)):
        with pytest.raises(StoreError, match="'a' is damaged"):
            store.read_part("a", start, length)


def test_many_files_are_read_at_once(store):
    content = {f"receipts/{number:06d}.json": str(number).encode() for number in range(100)}
    for key, value in content.items():
        store.write(key, value)
    assert store.read_many(iter(content)) == content


def test_a_removed_file_is_gone_and_a_remade_one_is_read_anew(store):
    store.write("c.0", b"first")
    assert store.read_part("c.0", 0, 9) == b"first"
    store.write("c.0", b"second")
    assert store.read_part("c.0", 0, 9) == b"second"
    grow(store, "c.0", b"third").commit()
    assert store.read_part("c.0", 0, 9) == b"third"
    store.remove("c.0")
    with pytest.raises(FileNotFoundError):
        store.read_part("c.0", 0, 9)


def test_a_store_is_laid_out_at_once_and_is_empty_before(store):
    assert store.is_empty()
    assert store.lay_out([("a/zarr.json", b"1"), ("zarr.json", b"22")])
    assert not store.is_empty()
    assert store.sizes() == {"a/zarr.json": 1, "zarr.json": 2}
    with store.only_writer():
        store.flush(["a", ""])
    store.sweep()
    assert store.read("zarr.json") == b"22"


@pytest.mark.parametrize("key", HOSTILE)
def test_no_key_leads_outside(store, key):
    for operation in operations(store, key):
        with pytest.raises(StoreError, match="no name of a file in a store"):
            operation()


def test_a_store_says_where_it_is(store, where):
    assert (str(store), store.where) == (where, where)
    assert isinstance(store, Folder) == ("://" not in where)


# With a local copy.


class Counted(Folder):
    """A folder that counts the bytes read from it."""

    fetched = 0

    def read_part(self, key, start, length):
        part = super().read_part(key, start, length)
        self.fetched += len(part)
        return part


@pytest.fixture
def far(tmp_path):
    store = Counted(tmp_path / "far.zarr")
    store.write("a/c.0", bytes(range(256)) * 100)
    store.write("zarr.json", b"{}")
    return store


@pytest.fixture
def sums(far):
    return {"a/c.0": summed(far.read("a/c.0"))}


def test_a_copied_file_is_fetched_once_and_reads_the_same(store, tmp_path):
    content = os.urandom(3000)
    store.write("a/c.0", content)
    store.write("zarr.json", b"{}")
    cached = Cached(store, tmp_path / "copies", {"a/c.0": summed(content)})
    assert cached.read_part("a/c.0", 10, 20) == content[10:30]
    assert cached.read("zarr.json") == b"{}"
    store.remove("a/c.0")
    assert cached.read_part("a/c.0", 2990, 20) == content[2990:]
    assert cached.read("a/c.0") == cached.read("a/c.0", 3000) == content
    with pytest.raises(StoreError, match="larger than 2999"):
        cached.read("a/c.0", 2999)
    with pytest.raises(FileNotFoundError):
        cached.read("absent")
    assert str(cached) == str(store)


def test_threads_that_want_one_file_fetch_it_once(far, sums, tmp_path):
    cached = Cached(far, tmp_path / "copies", sums)
    start = threading.Barrier(8)

    def read(number):
        start.wait()
        return cached.read_part("a/c.0", number, 100)

    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(read, range(8)))
    assert parts == [far.read("a/c.0")[number : number + 100] for number in range(8)]
    assert far.fetched == sums["a/c.0"]["bytes"]


def test_copies_serve_other_runs_and_other_corpora(far, sums, tmp_path):
    Cached(far, tmp_path / "copies", sums).read("a/c.0")
    other = Folder(tmp_path / "other.zarr")
    again = Cached(other, tmp_path / "copies", {"b/c.7": sums["a/c.0"]})
    assert again.read("b/c.7") == far.read("a/c.0")


def test_a_copy_cut_short_is_fetched_again(far, sums, tmp_path):
    Cached(far, tmp_path / "copies", sums).read("a/c.0")
    (copy,) = below(tmp_path / "copies")
    os.truncate(tmp_path / "copies" / copy, 1000)
    assert Cached(far, tmp_path / "copies", sums).read("a/c.0") == far.read("a/c.0")
    assert far.fetched == 2 * sums["a/c.0"]["bytes"]


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"x", lambda c: b"x" + c[1:], lambda c: b""])
def test_a_file_that_is_not_what_its_receipt_says_is_named_and_not_kept(far, sums, tmp_path, change):
    far.write("a/c.0", change(far.read("a/c.0")))
    cached = Cached(far, tmp_path / "copies", sums)
    with pytest.raises(StoreError, match=r"'a/c.0' is not what its receipt says"):
        cached.read_part("a/c.0", 0, 1)
    assert below(tmp_path / "copies") == set()


def test_a_receipt_cannot_name_another_copy(far, tmp_path):
    for name in ("../../secret", "", "A" * 64, "0" * 63):
        cached = Cached(far, tmp_path / "copies", {"a/c.0": {"bytes": 3, "sha256": name}})
        with pytest.raises(StoreError, match=r"the receipt of 'a/c.0' is damaged"):
            cached.read("a/c.0")


def test_a_full_disk_under_the_copies_is_told(far, sums, tmp_path, monkeypatch):
    cached = Cached(far, tmp_path / "copies", sums)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        with pytest.raises(StoreError, match="No space left"):
            cached.read("a/c.0")
    assert below(tmp_path / "copies") == set()
    assert cached.read("a/c.0") == far.read("a/c.0")


def test_copies_that_somebody_removes_are_fetched_again(far, sums, tmp_path):
    cached = Cached(far, tmp_path / "copies", sums)
    cached.read("a/c.0")
    shutil.rmtree(tmp_path / "copies")
    assert cached.read("a/c.0") == far.read("a/c.0")
