"""ONNX: the same numbers as torch, from a file that any runtime reads and that says what must be done around it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from scans.catalog.region import Region
from scans.errors import CheckpointError
from scans.image.frame import from_frame
from scans.image.normalisation import Statistics, normalise
from scans.image.preparation import prepare
from scans.image.volume import read_mask, read_volume
from tests.made.nnunet_plans import network_of, small
from tests.made.real_scans import head, write_case
from tests.made.tiny_checkpoint import REGION, bright_network, save_bright
from train.inference.model import decompose, find_layers, load_model, prepare_for
from train.network.record import Record
from train.network.symmetry import seen
from train.network.unet import UNet
from train.segmentation.segment import segment
from train.settings import Network, SettingsError
from train.share import onnx_check, onnx_file
from train.share.export import export
from train.share.onnx_file import to_onnx

ROOT = Path(__file__).parents[3]

BRAIN = {"region": {"name": "brain", "modality": "FLAIR"}, "statistics": None}
LIVER = {
    "region": {"name": "liver", "modality": "CT", "normalisation": {"kind": "window", "raw_zero": -1024}},
    "statistics": {"mean": 1124.0, "std": 30.0, "low": 1050.0, "high": 1230.0},
}


def trained(channels, classes):
    """A network with norms of both kinds that has seen a few batches: BatchNorm's statistics are no longer 0 and 1."""
    torch.manual_seed(0)
    network = UNet(Network(width=2, in_channels=channels, classes=classes))
    for level in network.decoder.levels:
        for place in (1, 4):
            level[place] = torch.nn.InstanceNorm3d(level[place].num_features, affine=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(5):
        optimiser.zero_grad()
        torch.cat(network(torch.randn(2, channels, 16, 16, 16)), dim=1).square().mean().backward()
        optimiser.step()
    return network.eval()


def record_of(network, channels, size=32):
    data = {"classes": {f"class {number}": [number + 1] for number in range(network.settings.classes)}}
    return Record("finetune", 1, {}, network.settings.model_dump(mode="json"), channels, size, data)


def session(content):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def torch_layers(network, scan):
    with torch.inference_mode():
        layers = network(torch.from_numpy(scan))
    return layers.normal.numpy(), layers.texture.numpy(), layers.logits.sigmoid().numpy()


def assert_torchs(run, network, inputs, scan, tolerance=1e-4):
    found = run.run(["normal", "texture", "probability"], inputs)
    for ours, theirs in zip(found, torch_layers(network, scan), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1, np.abs(theirs).max()))


def test_outputs_by_name_equal_torchs_for_any_batch_and_sides():
    settings = small("resenc", 8, (1, 3, 1), width=2, in_channels=2)
    short = settings.topology.model_copy(update={"blocks": (1,) * len(settings.topology.blocks)})
    network = network_of(settings.model_copy(update={"topology": short}))  # nnU-Net's, with sides its strides divide
    graph = to_onnx(network, record_of(network, [BRAIN, BRAIN], size=16))
    assert graph.difference < 1e-4
    run = session(graph.content)
    assert [each.name for each in run.get_inputs()] == ["scan"]
    assert "classes" not in run.get_modelmeta().custom_metadata_map
    # The last is large and mostly background, as a scan is: InstanceNorm summed carelessly would show there.
    for shape in ((1, 2, 16, 16, 16), (3, 2, 24, 16, 40), (1, 2, 96, 96, 96)):
        scan = np.random.default_rng(1).normal(1, 0.5, size=shape).astype(np.float32)
        scan[..., 32:] = 0
        assert_torchs(run, network, {"scan": scan}, scan)


def test_a_raw_graph_normalises_as_the_scans_are_normalised_for_any_batch_and_sides():
    channels = [BRAIN, LIVER]
    network = trained(len(channels), classes=3)
    graph = to_onnx(network, record_of(network, channels), raw=True)
    assert graph.difference < 1e-4
    run = session(graph.content)
    assert [each.name for each in run.get_inputs()] == ["intensity", "roi"]
    assert len(json.loads(run.get_modelmeta().custom_metadata_map["classes"])) == 3
    rng = np.random.default_rng(3)
    for count, *sides in ((2, 24, 24, 24), (3, 24, 16, 40), (1, 96, 96, 96)):
        roi = np.ones((count, 1, *sides), bool)
        roi[0, 0, :6] = roi[-1, 0, :, 9:] = False
        volumes = {"FLAIR": rng.normal(300, 60, size=(count, *sides)), "CT": rng.normal(80, 70, size=(count, *sides))}
        volumes["CT"][:, :2, :2] = -2000  # outside the bore
        intensity = np.stack([volumes[c["region"]["modality"]] for c in channels], axis=1).astype(np.float32)
        scan = np.empty_like(intensity)
        for n, c in np.ndindex(count, len(channels)):
            values, inside = intensity[n, c], roi[n, 0]
            if channels[c] is LIVER:
                scan[n, c] = normalise(np.maximum(values + 1024, 0), inside, Statistics(**LIVER["statistics"]))
            else:
                scan[n, c] = normalise(values, inside, Statistics.of(values[inside]))
        assert_torchs(run, network, {"intensity": intensity, "roi": roi.astype(np.float32)}, scan, tolerance=2e-4)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("onnx")
    path = save_bright(root / "best.safetensors", network={"width": 2, "mask_bias": 0.0})
    return path, export(path, root / "shared", name="bright", onnx=True, onnx_raw=True)


def test_what_a_graph_says_of_itself_is_enough_to_segment_a_scan(shared, tmp_path):
    path, exported = shared
    scan = write_case(tmp_path, "a")
    (expected,) = segment(path, [scan], tmp_path / "out", device="cpu", precision="fp32")
    run = session((exported.folder / "bright-raw.onnx").read_bytes())
    told = run.get_modelmeta().custom_metadata_map
    region = Region.model_validate(json.loads(told["record"])["channels"][0]["region"])
    assert told["orientation"] == region.orientation
    assert json.loads(told["field_of_view"]) == region.field_of_view.model_dump(mode="json")
    assert json.loads(told["normalisation"]) == [region.normalisation.model_dump(mode="json")]
    assert json.loads(told["modalities"]) == ["FLAIR"]
    assert (json.loads(told["statistics"]), json.loads(told["normalises"])) == ([None], True)
    prepared = prepare(read_volume(scan), None, None, region, int(told["size"]))
    inputs = {"intensity": prepared.intensity[None, None], "roi": prepared.roi[None, None].astype(np.float32)}
    (probability,) = run.run(["probability"], inputs)
    mask = from_frame(probability[0, 0], prepared.frame).array >= float(told["mask_threshold"])
    assert mask.any()
    np.testing.assert_array_equal(mask, read_mask(expected.mask).array != 0)


def test_the_folder_names_its_graphs_and_the_cards_lines_run(shared, monkeypatch):
    _, exported = shared
    assert {"bright.onnx", "bright-raw.onnx"} <= set(exported.files)
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "- onnx\n" in card.split("---\n")[1]
    monkeypatch.chdir(exported.folder)
    _, *graphs = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(graphs) == 2
    for code in graphs:
        found = {}
        exec(code, found)
        assert found["mask"].shape == (1, 1, 48, 48, 48)


def test_a_graph_holds_nothing_of_this_machine(shared):
    for name in ("bright.onnx", "bright-raw.onnx"):
        content = (shared[1].folder / name).read_bytes()
        for part in (str(ROOT), "site-packages", ".py", str(Path.home()), "stack_trace"):
            assert part.encode() not in content, part
        model = onnx.load_from_string(content)
        assert {entry.version for entry in model.opset_import} == {18}


def test_another_process_writes_the_same_bytes(shared, tmp_path):
    path, exported = shared
    command = [sys.executable, "-m", "train.cli", "export", "--checkpoint", str(path), "--out", str(tmp_path / "again"),
               "--name", "bright", "--onnx-raw"]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    for file in ("bright.safetensors", "bright-raw.onnx"):
        assert (tmp_path / "again" / file).read_bytes() == (exported.folder / file).read_bytes(), file
    assert "bright-raw.onnx: differs from torch by" in result.stdout
    assert "Traceback" not in result.stderr


def test_a_graph_that_differs_is_not_written(shared, tmp_path, monkeypatch):
    graph = onnx.load(shared[1].folder / "bright.onnx")
    monkeypatch.setattr(onnx_file, "_export", lambda *module: graph)  # what torch would trace again, and slowly
    monkeypatch.setattr(onnx_check, "TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match="differs from torch"):
        export(shared[0], tmp_path / "shared", onnx=True)
    assert not list(tmp_path.iterdir())


def test_the_comparison_sees_a_wrong_weight(shared):
    network = bright_network().eval()
    content = (shared[1].folder / "bright.onnx").read_bytes()
    channels = onnx_file.channels_of(record_of(network, [{"region": REGION, "statistics": None}]))
    assert onnx_check.compare(content, network, channels, 48, raw=False) < 1e-4
    with torch.no_grad():
        network.head.weight[0, 0] *= 1.01
    with pytest.raises(CheckpointError, match="normal differs"):
        onnx_check.compare(content, network, channels, 48, raw=False)


def test_a_missing_package_is_named_with_what_to_type(shared, tmp_path, monkeypatch):
    found = onnx_file.importlib.util.find_spec
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None if "onnx" in name else found(name))
    with pytest.raises(SettingsError, match="pip install onnx onnxruntime onnxscript"):
        export(shared[0], tmp_path / "shared", onnx=True)
    assert not list(tmp_path.iterdir())


def test_a_region_without_its_statistics_is_refused():
    network = bright_network()
    with pytest.raises(CheckpointError, match="no statistics"):
        to_onnx(network, record_of(network, [{**LIVER, "statistics": None}]), raw=True)


def test_a_graph_takes_the_mirror_image_and_gives_torchs_numbers(tmp_path):
    lopsided = save_bright(tmp_path / "best.safetensors", network={"width": 2, "mirror": "x"})
    exported = export(lopsided, tmp_path / "shared", name="sides", onnx=True)
    run = session((exported.folder / "sides.onnx").read_bytes())
    assert run.get_modelmeta().custom_metadata_map["mirror"] == "x"
    model = load_model(exported.weights, "cpu", "fp32")
    volume, _, _ = head((3.0, 2.5, 2.0), at_mm=(5, -12, 15))  # a tumour on one side
    scan = torch.from_numpy(decompose(model, prepare_for(model, [volume], None, "a")).scan)[None]
    (probability,) = run.run(["probability"], {"scan": seen(scan, 1, "x").numpy()})
    np.testing.assert_allclose(probability[0], find_layers(model, scan)[0, 2:].numpy(), atol=1e-4)
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "np.flip(scan, axis)" in card
    assert "compares the two sides" in card
    with pytest.raises(SettingsError, match="mirror image"):
        export(lopsided, tmp_path / "raw", name="sides", onnx_raw=True)
    assert not (tmp_path / "raw").exists()
