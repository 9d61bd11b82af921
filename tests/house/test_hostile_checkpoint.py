"""Checkpoints from strangers: refused in one sentence, without executing, and without memory for what they claim."""

import json
import pickle
import resource
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from scans.errors import CheckpointError
from tests.made.commands import train
from tests.made.tiny_checkpoint import RECORD
from train.network.checkpoint import save_checkpoint
from train.network.unet import UNet
from train.proxies.recorded import load_checkpoint
from train.settings import Network


def weights():
    torch.manual_seed(0)
    return {f"network.{name}": tensor for name, tensor in UNet(Network(width=2)).state_dict().items()}


def told(**changed):
    return {**json.loads(json.dumps(asdict(RECORD))), **changed}


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize(
    "name", ["a.pt", "a.pth", "a.ckpt", "a.bin", "a.pkl", "a", "a.SAFETENSORS.pt", "a.safetensors"]
)
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_is_refused_whatever_its_name(tmp_path, monkeypatch, name, form):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save({"weights": torch.zeros(2), "bomb": Bomb()}, path)
    refused(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        (2**63).to_bytes(8, "little") + b"{}",
        (2**40).to_bytes(8, "little") + b"{}",
        (90_000_000).to_bytes(8, "little") + b"{}",
        (9).to_bytes(8, "little") + b"not json!",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"\xff\xfe",
    ],
    ids=["empty", "short", "header of 2^63", "header of 2^40", "header past the end", "no json", "a list", "no text"],
)
def test_a_header_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refused(path)


def test_a_tensor_larger_than_its_file_is_refused(tmp_path):
    header = json.dumps({"network.x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x00" * 64)
    refused(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"size": "large"},
        {"size": 2**40},
        {"size": 20},
        {"size": True},
        {"stage": 3},
        {"step": "many"},
        {"network": [2]},
        {"settings": None},
        {"data": "all of it"},
        {"data": None},
        {"channels": []},
        {"channels": {}},
        {"channels": [7]},
        {"channels": [{"region": {}}]},
        {"channels": [{"region": "brain", "statistics": None}]},
        {"channels": [{"region": {}, "statistics": {"mean": "a", "std": 1.0}}]},
        {"channels": [{"region": {}, "statistics": {"mean": 0.0, "std": 0.0}}]},
        {"channels": [{"region": {}, "statistics": {"mean": 0.0, "std": float("nan")}}]},
        {"threshold": {"sigma_mm": 1.0}},
        {"threshold": {"sigma_mm": 1.0, "level": 1.0, "side": "beside", "dice": 0.5}},
        {"threshold": {"sigma_mm": 1.0, "level": 1.0, "side": "above", "dice": 0.5, "unit": "<b>"}},
        {"threshold": {"sigma_mm": 1.0, "level": 1.0, "side": "above", "dice": 0.5, "parts": -1}},
        {"validation": [1]},
        {"surprise": 1},
        {"format": "line one\nline two"},
        {"version": [2]},
    ],
    ids=lambda changed: next(iter(changed)) + "=" + ascii(next(iter(changed.values())))[:40],
)
def test_a_record_of_wrong_types_is_refused(tmp_path, changed):
    path = tmp_path / "a.safetensors"
    save_file(weights(), path, metadata={"record": json.dumps(told(**changed))})
    refused(path)


@pytest.mark.parametrize("text", ["", "null", "[]", '"x"', "{", "[" * 100_000, '{"version":' * 50_000, "1" * 10_000])
def test_a_record_that_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "a.safetensors"
    save_file(weights(), path, metadata={"record": text})
    refused(path)


@pytest.mark.parametrize(
    "network",
    [{"width": 10**9}, {"width": 256}, {"width": 2, "in_channels": 10**9}, {"width": 2, "in_channels": 10**30}],
)
def test_a_network_that_the_file_does_not_hold_takes_no_memory(tmp_path, network):
    path = tmp_path / "a.safetensors"
    save_file(weights(), path, metadata={"record": json.dumps(told(network=network))})
    refused(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for count, sentence in ((64, "has shape"), (3000, "in_channels")):  # 5 GB and 83 GB, were they built
        many = [{"region": {}, "statistics": None}] * count
        wide = told(network={"width": 256, "in_channels": count}, channels=many)
        save_file(weights(), path, metadata={"record": json.dumps(wide)})
        assert sentence in refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int32, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type_are_refused(tmp_path, kind):
    path = tmp_path / "a.safetensors"
    changed = {name: tensor.to(kind) if name == "network.head.weight" else tensor for name, tensor in weights().items()}
    save_file(changed, path, metadata={"record": json.dumps(told())})
    assert "head.weight" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    broken = weights()
    broken["network.decoder.up.0.weight"][0, 0, 0, 0, 0] = value
    path = tmp_path / "a.safetensors"
    save_file(broken, path, metadata={"record": json.dumps(told())})
    assert "decoder.up.0.weight" in refused(path)


def test_a_name_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(
        {**weights(), "network.\x1b[2J\nall is well": torch.zeros(1)}, path, metadata={"record": json.dumps(told())}
    )
    assert "\x1b" not in refused(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.safetensors"
    save_checkpoint(path, replace(RECORD, network={"width": 1}), UNet(Network(width=1)))
    assert load_checkpoint(path).network
    return path.read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_refused_in_a_sentence_or_does_not_matter(tmp_path, whole, data):
    path = tmp_path / "a.safetensors"
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        # Mostly in the header, where the structure is.
        at = data.draw(st.one_of(st.integers(0, 12_000), st.integers(0, len(content) - 1)))
        content[min(at, len(content) - 1)] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    said = ""
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        said = str(error)
    assert "\n" not in said


def test_the_command_line_refuses_a_pickle_without_a_traceback(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    result = train("segment", "scan.nii.gz", "--checkpoint", path, "--out", "masks")
    assert result.returncode == 2
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
