"""The network that comes with the software: small, whole, free to be passed on, and used where none is named."""

import hashlib

import numpy as np
import pytest
from typer.testing import CliRunner

from scans.errors import CheckpointError
from scans.image.volume import read_volume
from tests.made.real_scans import write_case
from train.cli.application import app
from train.inference import named_network
from train.inference.model import load_model
from train.network.checkpoint import load_record
from train.network.dice import dice


def test_it_is_small_and_whole():
    files = {path.name: path for path in named_network.FLAIR.parent.iterdir()}
    assert {"flair.safetensors", "flair.json", "README.md", "SHA256SUMS"} == set(files)
    assert files["flair.safetensors"].stat().st_size <= 6_000_000
    for line in files["SHA256SUMS"].read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256(files[name.lstrip("*")].read_bytes()).hexdigest() == digest


def test_what_it_learned_from_may_be_passed_on():
    sources = load_record(named_network.FLAIR).data["sources"]
    assert len(sources) == 6
    assert all(source["redistribute_derived"] for source in sources)
    assert not any("tumour_voxels" in source for source in sources), "no real tumour was seen"


def test_it_compares_the_hemispheres_and_says_how_it_is_read():
    model = load_model(named_network.FLAIR, device="cpu")
    assert model.network.settings.mirror == "x"
    assert model.modalities == ("FLAIR",)
    assert model.record.reading is not None


def test_a_scan_is_segmented_without_naming_a_network(tmp_path):
    scan = write_case(tmp_path / "in", "a", spacing_mm=(2.0, 2.0, 2.0))
    done = CliRunner().invoke(app, ["segment", str(scan), "--out", str(tmp_path / "masks"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    found = read_volume(tmp_path / "masks" / "a_flair_mask.nii.gz").array > 0
    truth = read_volume(tmp_path / "in" / "a_seg.nii.gz").array > 0
    assert dice(found, truth) > 0.7
    assert np.count_nonzero(found)


def test_an_installation_without_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(named_network, "FLAIR", tmp_path / "flair.safetensors")
    with pytest.raises(CheckpointError, match="is not there; install it again, or give --checkpoint"):
        named_network.checkpoint_or_shipped(None)
    assert named_network.checkpoint_or_shipped(tmp_path / "other") == tmp_path / "other"
