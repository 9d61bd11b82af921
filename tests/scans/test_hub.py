"""Hubs: addresses, files sent and fetched, each refusal a sentence; against a stand-in that answers as a hub does."""

import hashlib
import os
import sys

import pytest

from scans.errors import HubError, printable
from scans.hub import upload as upload_module
from scans.hub.address import DATASET, MODEL, Address, at_revision, hub_address
from scans.hub.download import fetch_file, fetch_folder
from scans.hub.listing import listing, pin
from scans.hub.upload import Piece, upload
from tests.made.hub import READER

HERE = Address(DATASET, "org/data")


def pieces_of(folder, **contents):
    made = []
    for name, content in contents.items():
        path = folder / f"{name}.bin"
        path.write_bytes(content)
        made.append(Piece(f"deep/{path.name}", path, hashlib.sha256(content).hexdigest()))
    page = b"---\nlicense: mit\n---\n\n# Data\n"
    return [*made, Piece("README.md", page, hashlib.sha256(page).hexdigest(), describes=True)]


@pytest.fixture
def pieces(tmp_path):
    return pieces_of(tmp_path, a=bytes(range(256)) * 100, b=os.urandom(50_000), c=b"few words")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(upload_module, "_WAIT_S", 0.01)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("hf://datasets/org/name", Address(DATASET, "org/name")),
        ("hf://org/name@v1.2", Address(MODEL, "org/name", "v1.2")),
        ("hf://models/org/name", Address(MODEL, "org/name")),
        ("hf://datasets/org/name@refs/pr/3/a/b.zip", Address(DATASET, "org/name", "refs/pr/3", "a/b.zip")),
        ("hf://org/name@a%2Fb/NAME.safetensors", Address(MODEL, "org/name", "a/b", "NAME.safetensors")),
    ],
)
def test_an_address_is_read_as_the_hubs_client_reads_it_and_written_the_same(url, read):
    assert hub_address(url) == read
    assert hub_address(str(read)) == read
    from huggingface_hub.utils import parse_hf_uri

    theirs = parse_hf_uri(url)
    assert (theirs.type, theirs.id, theirs.revision or None, theirs.path_in_repo) == (
        read.kind, read.repository, read.revision, read.path,
    )  # fmt: skip


@pytest.mark.parametrize(
    "url", ["hf://name", "hf://datasets/name", "hf://spaces/org/name", "hf://org/name/../x", "s3://a/b"]
)
def test_what_is_no_address_is_told_with_one_that_is(url):
    with pytest.raises(HubError, match="is no address on a hub; give hf://datasets/org/name"):
        hub_address(url)


def test_a_dataset_is_no_network_and_two_revisions_are_one_too_many():
    with pytest.raises(HubError, match="corpora and packs are datasets; give hf://datasets/org/name"):
        hub_address("hf://org/name", DATASET)
    with pytest.raises(HubError, match="networks are models; give hf://org/name"):
        hub_address("hf://datasets/org/name", MODEL)
    with pytest.raises(HubError, match="names another revision than --revision v2"):
        hub_address("hf://org/name@v1", MODEL, "v2")


def test_a_revision_goes_into_an_address_and_a_folder_has_none():
    assert at_revision("hf://datasets/org/name/c.zarr", "v1") == "hf://datasets/org/name@v1/c.zarr"
    assert at_revision("corpus.zarr", None) == "corpus.zarr"
    with pytest.raises(HubError, match=r"--revision v1: belongs to what is on a hub, and corpus\.zarr is not"):
        at_revision("corpus.zarr", "v1")


def test_what_is_sent_is_there_and_is_not_sent_again(hub, pieces, tmp_path):
    pushed = upload(HERE, pieces, message="first", private=True)
    assert hub.files("datasets", "org/data")["deep/b.bin"] == pieces[1].content.read_bytes()
    assert (pushed.files, pushed.sent) == (4, 4)
    assert hub.repositories["datasets", "org/data"].private
    before = hub.asked("PUT", "/store/")
    assert before == 2  # the large ones
    assert upload(HERE, pieces, message="again").sent == 0
    assert hub.asked("PUT", "/store/") == before
    assert hub.repositories["datasets", "org/data"].messages == ["first"]
    fetch_folder(pushed.address, tmp_path / "back")
    assert (tmp_path / "back/deep/a.bin").read_bytes() == pieces[0].content.read_bytes()
    assert not (tmp_path / "back/.gitattributes").exists()


def test_an_upload_that_dies_sends_only_the_rest_when_it_is_run_again(hub, pieces, monkeypatch):
    monkeypatch.setattr(upload_module, "_COMMIT", 2)
    monkeypatch.setattr(upload_module, "_TRIES", 1)
    hub.fail("POST", "/preupload/", 403)
    with pytest.raises(HubError, match="your token may not do that"):
        upload(HERE, pieces, message="data")
    upload_module._commit(HERE, pieces[:2], (), "part", lambda files: None)  # then it was killed
    sent = hub.asked("PUT", "/store/")
    assert "README.md" not in hub.files("datasets", "org/data")
    assert upload(HERE, pieces, message="data").sent == 2
    assert hub.asked("PUT", "/store/") == sent
    assert hub.repositories["datasets", "org/data"].messages == ["part", "data"]


def test_what_describes_the_rest_is_committed_with_the_last_of_it(hub, pieces, monkeypatch):
    monkeypatch.setattr(upload_module, "_COMMIT", 2)
    upload(HERE, pieces[::-1], message="data")
    repository = hub.repositories["datasets", "org/data"]
    assert repository.messages == ["data (part 1 of 2)", "data (part 2 of 2)"]
    *earlier, last = repository.commits.values()
    assert "README.md" in last
    assert not any("README.md" in files for files in earlier)


@pytest.mark.parametrize(("method", "part"), [("POST", "/commit/"), ("PUT", "/store/"), ("POST", "/preupload/")])
def test_a_hub_that_fails_once_is_asked_again(hub, pieces, method, part):
    hub.fail(method, part, 500)
    upload(HERE, pieces, message="data")
    assert listing(pin(HERE)).keys() == {piece.path for piece in pieces}


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, pieces):
    hub.fail("POST", "/commit/", "cut")
    upload(HERE, pieces, message="data")
    assert hub.repositories["datasets", "org/data"].messages == ["data"]


def test_a_hub_that_keeps_other_bytes_than_were_sent_is_found_out(hub, pieces):
    def spoil(files, total):
        repository = hub.repositories["datasets", "org/data"]
        commit = repository.commits[repository.branches["main"]]
        if "deep/c.bin" in commit:
            commit["deep/c.bin"] = (b"few wordz", False)

    with pytest.raises(HubError, match=r"deep/c.bin is not there as it was sent"):
        upload(HERE, pieces, message="data", progress=spoil)


def test_a_file_that_is_cut_off_is_fetched_on_from_there(hub, pieces, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # written to disk at once
    at = upload(HERE, pieces, message="data").address
    hub.fail("GET", "/store/", "cut")
    fetch_folder(at, tmp_path / "back")
    assert (tmp_path / "back/deep/b.bin").read_bytes() == pieces[1].content.read_bytes()
    (asked,) = hub.ranges
    assert int(asked.removeprefix("bytes=").removesuffix("-")) > 1000


def test_a_file_that_is_damaged_in_the_cache_is_not_taken(hub, pieces):
    at = upload(HERE, pieces, message="data").address.file("deep/b.bin")
    remote = listing(at)["deep/b.bin"]
    path = fetch_file(at, remote)
    path.resolve().write_bytes(b"\0" * remote.size)
    with pytest.raises(HubError, match="is not what the hub says that it is; delete that file"):
        fetch_file(at, remote)


def test_why_a_file_is_not_given_is_told_though_the_cache_lacks_it_too(hub, pieces):
    at = upload(HERE, pieces, message="data").address
    remote = listing(at)["deep/b.bin"]
    with pytest.raises(HubError, match="the hub has no such file in it"):
        fetch_file(at.file("none.bin"), remote)
    hub.fail("HEAD", "/resolve/", 403)
    with pytest.raises(HubError, match="your token may not do that"):
        fetch_file(at.file("deep/b.bin"), remote)


def refused(call):
    with pytest.raises(HubError) as caught:
        call()
    sentence = str(caught.value)
    assert sentence == printable(sentence)
    assert "; " in sentence
    assert len(sentence) < 300
    return sentence


def test_each_refusal_is_one_sentence(hub, pieces, monkeypatch):
    upload(HERE, pieces, message="data")
    assert "has no such repository, or does not show it to you" in refused(lambda: pin(Address(DATASET, "org/none")))
    assert "has no such revision" in refused(lambda: pin(HERE.at("none")))
    assert "a commit cannot be added to" in refused(lambda: upload(HERE.at("0" * 40), pieces, message="data"))
    assert "everybody sees it; make it private" in refused(lambda: upload(HERE, pieces, message="data", private=True))
    hub.repositories["datasets", "org/data"].private = True
    monkeypatch.setenv("HF_TOKEN", READER)
    assert "your token may not do that" in refused(lambda: upload(Address(DATASET, "org/new"), pieces, message="data"))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept your token" in refused(lambda: upload(HERE, pieces, message="data"))
    monkeypatch.delenv("HF_TOKEN")
    assert "nobody is logged in to the hub; run hf auth login" in refused(lambda: upload(HERE, pieces, message="data"))
    assert "log in if it is private" in refused(lambda: pin(HERE))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "the hub does not answer; check the network" in refused(lambda: pin(HERE))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'layered-tumors[hub]' brings it" in refused(lambda: pin(HERE))
