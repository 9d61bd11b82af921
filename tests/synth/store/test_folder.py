"""A store in a folder: nothing half-written, nothing outside, whoever wrote it and whatever dies."""

import os
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scans.durable import only_writer
from scans.errors import StoreError
from synth.store.folder import Folder
from synth.store.opening import open_store
from tests.made.stores import FEW, ROOT, below, disk_full, grow, operations


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "c.zarr")


@FEW
@given(key=st.text(st.sampled_from("./\\:aé\0\ud800*?~$ "), max_size=8) | st.text(max_size=8))
def test_a_written_key_is_inside_or_refused(tmp_path, key):
    path = tmp_path / uuid.uuid4().hex
    store = Folder(path / "in" / "c.zarr")
    try:
        store.write(key, b"x")
    except StoreError:
        assert below(path) == set()
    else:
        assert store.read_part(key, 0, 9) == b"x"
        assert below(path) == {f"in/c.zarr/{key}"}
        assert store.sizes() == {key: 1}


def test_a_file_url_and_a_path_are_a_folder(tmp_path):
    open_store(f"file://{tmp_path}/c.zarr").write("a", b"1")
    assert open_store(tmp_path / "c.zarr").read("a") == b"1"


def test_a_local_store_needs_no_fsspec(tmp_path):
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        f"from synth.store.opening import open_store; open_store({str(tmp_path)!r}).write('a', b'1')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_link_leads_nowhere(folder, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"secret")
    folder.write("a/c.0", b"1")
    (folder.root / "a" / "link").symlink_to(tmp_path / "secret" / "file")
    (folder.root / "linked").symlink_to(tmp_path / "secret")
    (folder.root / "loop").symlink_to("loop")
    assert folder.sizes() == {"a/c.0": 1, "a/link": -1, "linked": -1, "loop": -1}
    assert folder.sizes("linked") == {"linked": -1}
    assert folder.size("a/link") == -1
    for key in ("a/link", "loop"):
        for operation in [*operations(folder, key)][:5]:
            with pytest.raises(StoreError, match="symbolic link"):
                operation()
    for operation in operations(folder, "linked/file"):
        with pytest.raises(StoreError, match="symbolic link"):
            operation()
    folder.write("a/link", b"a file again")
    folder.remove("loop")
    assert folder.sizes() == {"a/c.0": 1, "a/link": 12, "linked": -1}
    assert (tmp_path / "secret" / "file").read_bytes() == b"secret"


def test_a_store_behind_a_link_is_the_users_own(folder, tmp_path):
    folder.write("a/c.0", b"1")
    (tmp_path / "link").symlink_to(folder.root)
    assert open_store(tmp_path / "link").read("a/c.0") == b"1"


@pytest.mark.timeout(10)
def test_a_pipe_or_a_folder_is_no_file(folder):
    folder.write("a/c.0", b"1")
    os.mkfifo(folder.root / "pipe")
    for key in ("pipe", "a"):
        with pytest.raises(StoreError, match="is no file"):
            folder.read(key)
        assert folder.size(key) == -1


def test_a_full_disk_leaves_what_was_there(folder, monkeypatch):
    folder.write("a/c.0", b"old")
    writing = grow(folder, "a/c.0", b"new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        for write in (writing.commit, lambda: folder.write("a/c.0", b"new"), lambda: folder.write("a/c.1", b"new")):
            with pytest.raises(OSError, match="No space left"):
                write()
        writing.discard()
    assert below(folder.root) == {"a/c.0"}
    assert folder.read("a/c.0") == b"old"


def test_a_full_disk_leaves_no_store(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        folder.lay_out([("zarr.json", b"1")])
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_laid_out_leaves_nothing(folder, tmp_path):
    def files():
        yield "a/zarr.json", b"1"
        assert list(tmp_path.iterdir()) != []
        raise StoreError("no more")

    with pytest.raises(StoreError, match="no more"):
        folder.lay_out(files())
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_lay_out_one_is_first_and_its_store_is_whole(folder, tmp_path):
    start = threading.Barrier(8)

    def lay_out(number):
        start.wait()
        return folder.lay_out([("a", str(number).encode()), ("b", str(number).encode())])

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lay_out, range(8)))
    assert sum(first) == 1
    assert folder.read("a") == folder.read("b") == str(first.index(True)).encode()
    assert [path.name for path in tmp_path.iterdir()] == ["c.zarr"]


def test_a_folder_with_other_files_or_a_file_in_its_place_stays(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear", encoding="utf-8")
    (tmp_path / "file").write_text("dear", encoding="utf-8")
    for name in ("full", "file"):
        assert not Folder(tmp_path / name).is_empty()
        assert not Folder(tmp_path / name).lay_out([("zarr.json", b"1")])
    assert below(tmp_path) == {"full/letter.txt", "file"}


def test_a_folder_that_holds_nothing_but_its_lock_is_empty_and_stays_locked(folder):
    with folder.only_writer():
        assert folder.is_empty()
        assert folder.lay_out([("zarr.json", b"1")])
        with pytest.raises(StoreError, match="being written by another run"), only_writer(folder.root):
            pass
    assert folder.sizes() == {".lock": 0, "zarr.json": 1}


def test_what_killed_writers_left_is_swept(folder):
    folder.write("a/c.0", b"1")
    grow(folder, "a/c.1", b"2")
    grow(folder, "c.2", b"2")
    (folder.root / "a" / ".c.0.123.tmp").write_bytes(b"3")
    (folder.root / "a" / "link.partial").symlink_to(folder.root / "a")
    folder.sweep()
    assert below(folder.root) == {"a/c.0"}


def test_more_files_than_are_kept_open_are_read_by_many_threads(folder):
    keys = [f"{number}" for number in range(150)]
    for key in keys:
        folder.write(key, key.encode() * 100)
    before = len(os.listdir("/dev/fd"))
    most = 0

    def read(number):
        nonlocal most
        key = keys[number * 7919 % 150]
        assert folder.read_part(key, len(key), 300) == (key.encode() * 100)[len(key) : len(key) + 300]
        if number % 100 == 0:
            most = max(most, len(os.listdir("/dev/fd")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(5000)))
    assert most - before <= 64 + 2 * 8 + 8  # kept, being read or opened, and those of the count itself
