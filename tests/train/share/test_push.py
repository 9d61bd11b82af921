"""Networks on a hub: pushed with their card and licence, and taken from there wherever a checkpoint is named."""

import hashlib

import pytest
import yaml
from typer.testing import CliRunner

from scans.errors import CheckpointError, HubError
from tests.made.real_scans import write_case
from tests.made.tiny_checkpoint import save_bright
from train.cli.application import app
from train.inference.named_network import FLAIR, checkpoint_at, checkpoint_or_shipped, origin_of
from train.share.export import export
from train.share.push import push

URL, KEY = "hf://org/finds", ("models", "org/finds")


def free(derived=True):
    source = {"name": "s", "dataset": "d", "licence": "CC0-1.0", "terms": "none", "citation": "A"}
    return {
        "corpus": "ab" * 32,
        "corpus_samples": 5,
        "split": "none",
        "sources": [source | {"redistribute_derived": derived}],
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bright(tmp_path_factory.mktemp("run") / "best.safetensors", data=free())


def test_a_network_is_pushed_with_its_card_and_segments_from_there(hub, checkpoint, tmp_path):
    at = push(checkpoint, URL, licence="CC-BY-4.0", message="v1").address
    files = hub.files(*KEY)
    assert yaml.safe_load(files["README.md"].decode().split("---\n")[1])["license"] == "cc-by-4.0"
    (weights,) = (name for name in files if name.endswith(".safetensors"))
    for line in files["SHA256SUMS"].decode().splitlines():
        assert hashlib.sha256(files[line[66:]]).hexdigest() == line[:64]
    assert hub.repositories[KEY].messages == ["v1"]
    write_case(tmp_path, "a", seed=1, spacing_mm=(6.0, 5.0, 5.0))
    scan = next(path for path in sorted(tmp_path.rglob("*.nii.gz")) if "flair" in path.name or "image" in path.name)
    done = CliRunner().invoke(
        app, ["segment", str(scan), "--checkpoint", URL, "--revision", "main", "--out", str(tmp_path / "masks")]
    )
    assert done.exit_code == 0, done.output
    digest = hashlib.sha256(files[weights]).hexdigest()
    assert f"{at}/{weights}: SHA-256 {digest}" in done.output
    assert list((tmp_path / "masks").glob("*_mask.nii.gz"))


def test_a_network_fetched_once_is_used_without_the_hub_and_said_so(hub, checkpoint, monkeypatch):
    at = push(checkpoint, URL).address
    path = checkpoint_at(URL)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said = []
    assert origin_of(path) == str(at.file(path.name))
    for where in (URL, str(at), str(at.file(path.name))):
        assert checkpoint_at(where, say=said.append) == path
    assert all(f"the hub does not answer; {path.name} of commit {at.revision} was fetched before" in s for s in said)
    with pytest.raises(HubError, match="does not answer"):
        checkpoint_at("hf://org/other")


def test_a_new_export_replaces_the_files_of_the_last_in_one_commit(hub, checkpoint, tmp_path):
    first = push(checkpoint, URL, name="first").address
    export(checkpoint, tmp_path / "shared", name="second", licence="CC-BY-4.0")
    hub.repositories[KEY].commits[first.revision]["LICENSE"] = (b"ours", False)
    push(tmp_path / "shared", URL)
    assert set(hub.files(*KEY)) - {".gitattributes"} == {
        "LICENSE", "README.md", "SHA256SUMS", "second.json", "second.safetensors",
    }  # fmt: skip
    assert len(hub.repositories[KEY].messages) == 2
    assert checkpoint_at(URL).name == "second.safetensors"
    assert checkpoint_at(URL, first.revision).name == "first.safetensors"
    (tmp_path / "shared" / "second.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"second\.json: is not what SHA256SUMS says; export the network again"):
        push(tmp_path / "shared", URL)


@pytest.mark.parametrize("derived", [False, None])
def test_where_terms_may_forbid_it_a_network_is_shown_to_nobody_before_they_are_read(hub, derived, tmp_path):
    kept = save_bright(tmp_path / "kept.safetensors", data=free(derived))
    with pytest.raises(
        CheckpointError, match=r"is not pushed: .*; read those terms, then add --terms-read, or --private"
    ):
        push(kept, URL)
    assert not hub.repositories
    said = []
    push(kept, URL, private=True, warn=said.append)
    assert hub.repositories[KEY].private
    assert len(said) == 1
    assert push(kept, URL, terms_read=True).sent == 0


def test_which_of_several_networks_and_of_none_is_asked(hub, checkpoint):
    at = push(checkpoint, URL, name="a").address
    repository = hub.repositories[KEY]
    repository.commits[at.revision]["b.safetensors"] = (b"", False)
    with pytest.raises(CheckpointError, match=rf"holds several networks; name one, such as {URL}/a.safetensors"):
        checkpoint_at(URL)
    assert checkpoint_at(f"{URL}/a.safetensors").name == "a.safetensors"
    with pytest.raises(CheckpointError, match=r"c.safetensors: is no .safetensors file of that repository"):
        checkpoint_at(f"{URL}/c.safetensors")
    for name in ("a.safetensors", "b.safetensors"):
        del repository.commits[at.revision][name]
    with pytest.raises(CheckpointError, match=r"holds no \.safetensors file; give a repository made by train push"):
        checkpoint_at(URL)


def test_a_file_of_this_machine_is_itself_and_has_no_revision(checkpoint):
    assert checkpoint_at(checkpoint) == checkpoint
    assert origin_of(checkpoint) == checkpoint.name, "no folder of this machine"
    assert checkpoint_or_shipped(None) == FLAIR
    for door in (checkpoint_at, checkpoint_or_shipped):
        with pytest.raises(HubError, match=r"--revision v1: belongs to what is on a hub, and .* is not; leave it out"):
            door(checkpoint, "v1")
    with pytest.raises(CheckpointError, match="--revision v1: give --checkpoint hf://org/name too"):
        checkpoint_or_shipped(None, "v1")
    with pytest.raises(
        CheckpointError, match=r"s3://a/b\.safetensors: a checkpoint is a file on this machine, or hf://"
    ):
        checkpoint_at("s3://a/b.safetensors")
    with pytest.raises(HubError, match="networks are models; give hf://org/name"):
        checkpoint_at("hf://datasets/org/name")


@pytest.mark.parametrize(
    "command",
    [
        "segment scan.nii.gz --checkpoint", "evaluate --dataset d --out o --checkpoint", "export --out o --checkpoint",
        "adapt --corpus c --dataset d --out o --checkpoint", "finetune --dataset d --out o --init",
        "pseudo-label --dataset d --out o --checkpoint",
    ],
)  # fmt: skip
def test_every_command_that_takes_a_checkpoint_asks_the_hub_for_one(hub, command):
    done = CliRunner().invoke(app, [*command.split(), URL, "--revision", "v1"])
    assert str(done.exception).startswith(
        "hf://org/finds@v1: the hub has no such repository, or does not show it to you"
    )
