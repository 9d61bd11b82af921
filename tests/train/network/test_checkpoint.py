import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from safetensors.torch import save_file

from scans.durable import write_atomically
from scans.errors import CheckpointError
from tests.made.tiny_checkpoint import RECORD
from train.network.checkpoint import save_checkpoint
from train.network.unet import UNet
from train.network.weights import restore_network
from train.proxies.recorded import load_checkpoint
from train.settings import Network


def network(width=2):
    torch.manual_seed(0)
    return UNet(Network(width=width))


def test_weights_and_record_come_back_from_one_file(tmp_path):
    path = tmp_path / "last.safetensors"
    before = network()
    save_checkpoint(path, RECORD, before)
    path.with_suffix(".json").unlink()
    saved = load_checkpoint(path)
    assert saved.record == RECORD
    after = UNet(Network(width=2))
    restore_network(after, saved.network, path)
    assert all(
        torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    )


def test_the_record_lies_beside_it_as_json(tmp_path):
    save_checkpoint(tmp_path / "best.safetensors", RECORD, network())
    assert json.loads((tmp_path / "best.json").read_text(encoding="utf-8"))["data"] == {"corpus": "abc"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.json", "best.safetensors"]


class Bomb:
    def __reduce__(self):
        return (open, ("/tmp/should-not-exist", "w"))


@pytest.mark.parametrize("name", ["a.pt", "a.ckpt", "a.safetensors"])
def test_a_pickle_is_refused_unopened(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "best.safetensors")


def test_a_truncated_checkpoint_is_named(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, RECORD, network())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_other_safetensors_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint made by train"):
        load_checkpoint(path)


def test_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "last.safetensors"
    record = json.dumps({"format": "layered-tumors-checkpoint", "version": 99})
    save_file({"w": torch.zeros(2)}, path, metadata={"record": record})
    with pytest.raises(CheckpointError, match="version 99"):
        load_checkpoint(path)


def test_another_networks_weights_are_refused(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, RECORD, network(width=4))
    with pytest.raises(CheckpointError, match="has shape"):
        restore_network(network(width=2), load_checkpoint(path).network, path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    path = tmp_path / "last.safetensors"
    broken = network()
    broken.head.bias.data[0] = float("nan")
    save_checkpoint(path, RECORD, broken)
    with pytest.raises(CheckpointError, match=r"head\.bias"):
        load_checkpoint(path)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="no space is left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_checkpoint_of_one_modality_from_before_there_were_several_is_read(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, RECORD, network())
    with safe_open(path, framework="pt") as file:
        old = json.loads(file.metadata()["record"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    (channel,) = old.pop("channels")
    path.write_bytes(to_bytes(tensors, metadata={"record": json.dumps({**old, **channel, "version": 1})}))
    assert load_checkpoint(path).record == RECORD
