"""Corpora and packs on a hub: pushed with their card, pulled whole or not at all, read where they lie."""

import os
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from scans.errors import HubError, StoreError, UserError
from synth.cli import app
from synth.corpus import Corpus
from synth.corpus.receipt import CARD, sum_of
from synth.corpus.verify import verify
from synth.share.pack import pack
from synth.share.pull import pull
from synth.share.push import push
from synth.share.recipe_pack import pack_recipes
from synth.store.opening import open_store
from synth.store.sealed_json import seal, to_bytes
from tests.made.corpora import append, bits, files_of, make_corpus, pick_store

URL = "hf://datasets/org/tumours"
KEY = "datasets", "org/tumours"
PAGE = b"---\nlicense: cc0-1.0\n---\n\n# A corpus\n"


def with_short_card(path):
    """Give a corpus a card of three lines: a real one takes seconds to draw."""
    store = open_store(path)
    store.write("README.md", PAGE)
    store.write(CARD, to_bytes(seal({"files": {"README.md": sum_of(PAGE)}})))
    return path


@pytest.fixture(scope="module")
def carded(corpus_path, tmp_path_factory):
    return with_short_card(shutil.copytree(corpus_path, tmp_path_factory.mktemp("carded") / "corpus.zarr"))


def test_a_corpus_is_pushed_and_pulled_and_is_the_same_in_every_bit(hub, carded, tmp_path):
    pushed = push(str(carded), URL)
    assert hub.files(*KEY)["README.md"] == PAGE
    assert push(str(carded), URL).sent == 0
    pulled = pull(URL, tmp_path / "back.zarr")
    assert (pulled.kind, pulled.address, pulled.left_out) == ("corpus", pushed.address, ())
    assert files_of(tmp_path / "back.zarr") == files_of(carded)
    assert sorted(os.listdir(tmp_path)) == ["back.zarr"]


def test_a_corpus_is_read_where_it_lies_at_the_commit_it_was_opened_at(hub, carded, tmp_path):
    first = push(str(carded), URL).address
    far, here = Corpus(URL, cache=tmp_path / "cache"), Corpus(carded)
    assert far.where == str(first)
    assert bits(far[5]) == bits(here[5])
    assert verify(URL, samples=1) == []
    repository = hub.repositories[KEY]
    repository.commits["1" * 40], repository.branches["main"] = {}, "1" * 40
    assert bits(far[6]) == bits(here[6])
    assert bits(Corpus(f"{URL}@{first.revision}")[6]) == bits(here[6])
    with pytest.raises(StoreError, match="no corpus"):
        Corpus(URL)
    with pytest.raises(StoreError, match="only read; make it in a folder, then synth push it"):
        open_store(URL).write("zarr.json", b"")
    with pytest.raises(StoreError, match="has no such repository"):
        Corpus("hf://datasets/org/none")
    with pytest.raises(StoreError, match="corpora and packs are datasets"):
        Corpus("hf://org/tumours")


def test_a_corpus_grows_on_the_hub_and_another_does_not_take_its_place(hub, sources_path, carded, tmp_path):
    push(str(carded), URL)
    grown = shutil.copytree(carded, tmp_path / "grown.zarr")
    append(grown, sources_path, 30)
    (grown / CARD).unlink(missing_ok=True)
    other = with_short_card(make_corpus(tmp_path / "other.zarr", sources_path, samples=8, seed=9))
    with pytest.raises(HubError, match="holds another corpus already"):
        push(str(other), URL)
    assert push(str(with_short_card(grown)), URL).sent < len(files_of(grown))
    assert len(Corpus(URL)) == 30
    with pytest.raises(HubError, match="holds another corpus already"):
        push(str(carded), URL)  # less than is there


def test_a_branch_holds_another_state_and_a_revision_names_it(hub, carded, tmp_path):
    first = push(str(carded), URL, revision="v1").address
    assert "zarr.json" not in hub.files(*KEY)
    pull(URL, tmp_path / "by name.zarr", revision="v1")
    pull(f"{URL}@{first.revision}", tmp_path / "by commit.zarr")
    with pytest.raises(HubError, match="holds neither a corpus nor a pack"):
        pull(URL, tmp_path / "main.zarr")
    assert sorted(os.listdir(tmp_path)) == ["by commit.zarr", "by name.zarr"]


def test_a_pull_that_dies_leaves_nothing_under_its_name_and_goes_on(hub, carded, tmp_path):
    push(str(carded), URL)
    hub.fail("GET", "/store/", 403)
    with pytest.raises(HubError, match="may not do that"):
        pull(URL, tmp_path / "back.zarr")
    assert os.listdir(tmp_path) == [".back.zarr.pull"]
    asked = hub.asked("GET", "/store/")
    pull(URL, tmp_path / "back.zarr")
    assert files_of(tmp_path / "back.zarr") == files_of(carded)
    large = len(hub.large)
    assert hub.asked("GET", "/store/") - asked <= large - asked + 1 + 8, "what had come was fetched again"
    with pytest.raises(StoreError, match="exists; choose another place"):
        pull(URL, tmp_path / "back.zarr")


def test_what_its_maker_pushed_damaged_is_not_taken_and_not_kept(hub, carded, tmp_path):
    push(str(carded), URL)
    commit = hub.repositories[KEY].commits[hub.repositories[KEY].branches["main"]]
    commit["layer/c.1.0"] = (commit["layer/c.1.0"][0][::-1], False)
    with pytest.raises(StoreError, match=r"layer/c.1.0 is damaged .*; ask who pushed it"):
        pull(URL, tmp_path / "back.zarr")
    assert os.listdir(tmp_path) == []


def test_files_of_others_in_the_repository_are_left_out_and_told(hub, carded, tmp_path):
    push(str(carded), URL)
    hub.repositories[KEY].commits[hub.repositories[KEY].branches["main"]]["LICENSE"] = (b"ours", False)
    assert pull(URL, tmp_path / "back.zarr").left_out == ("LICENSE",)
    assert files_of(tmp_path / "back.zarr") == files_of(carded)
    assert push(str(carded), URL).sent == 0


@pytest.mark.parametrize(
    "terms", [{"redistribute_derived": False, "licence": "on request"}, {"licence": "CC BY-SA 4.0; CC BY-NC 4.0"}]
)
def test_what_may_not_be_passed_on_is_not_pushed_but_its_recipes_are(hub, tmp_path, terms):
    corpus = make_corpus(tmp_path / "c.zarr", pick_store(tmp_path / "s.zarr", [0, 1], **terms), samples=4)
    with pytest.raises(UserError, match=r"is not pushed: .*synth pack .* --recipes --out recipes.zip"):
        push(str(corpus), URL)
    with pytest.raises(UserError, match="cannot be packed"):
        pack(corpus, tmp_path / "c.zip")
    assert not hub.repositories
    pack_recipes(corpus, tmp_path / "recipes.zip")
    push(str(tmp_path / "recipes.zip"), URL)
    page = hub.files(*KEY)["README.md"].decode()
    assert yaml.safe_load(page.split("---\n")[1])["license"] == "other"
    assert "not one\nvoxel of a scan" in page
    pulled = pull(URL, tmp_path / "back.zip")
    assert (pulled.kind, len(pulled.manifest)) == ("recipes", 4)
    assert (tmp_path / "back.zip").read_bytes() == (tmp_path / "recipes.zip").read_bytes()


def test_a_pack_is_pushed_with_a_page_and_pulled_as_one_file(hub, carded, tmp_path):
    for name in ("a.zip", "b.zip"):
        pack(carded, tmp_path / name)
        push(str(tmp_path / name), URL)
    assert f"synth pull {URL} b.zip" in hub.files(*KEY)["README.md"].decode()
    with pytest.raises(HubError, match=f"holds several packs; give one of them, such as {URL}@.*/a.zip"):
        pull(URL, tmp_path / "c.zip")
    assert pull(f"{URL}/a.zip", tmp_path / "c.zip").kind == "pack"
    assert (tmp_path / "c.zip").read_bytes() == (tmp_path / "a.zip").read_bytes()
    with pytest.raises(HubError, match=r"holds a pack already, a\.zip"):
        push(str(carded), URL)


def test_a_damaged_corpus_is_not_pushed(hub, carded, tmp_path):
    copy = shutil.copytree(carded, tmp_path / "c.zarr")
    content = bytearray((copy / "layer/c.1.0").read_bytes())
    content[9] ^= 1
    (copy / "layer/c.1.0").write_bytes(content)
    with pytest.raises(StoreError, match=r"layer/c.1.0 is damaged: .*run synth verify"):
        push(str(copy), URL)
    assert not hub.repositories


def test_the_commands_draw_the_card_and_say_what_to_type_next(hub, corpus_path, tmp_path):
    done = CliRunner().invoke(app, ["push", str(corpus_path), URL, "--private"])
    assert done.exit_code == 0, done.output
    assert "next: read its page; elsewhere: synth pull hf://datasets/org/tumours@" in done.output
    files = hub.files(*KEY)
    assert files["README.md"].startswith(b"---\npretty_name: Artificial tumours")
    assert "card/samples.png" in files
    done = CliRunner().invoke(app, ["pull", URL, str(tmp_path / "back.zarr"), "--revision", "main"])
    assert "22 samples, every checksum right" in done.output
    done = CliRunner().invoke(app, ["info", URL, "--revision", "main"])
    assert Corpus(corpus_path).content_hash in done.output
