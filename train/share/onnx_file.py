"""ONNX: a network as one graph that other runtimes execute, compared with torch before anyone gets it.

Two forms. In one the graph takes what ``scans.image.normalisation`` gives, the network's own units. In the other,
``raw``, it takes intensities and the region of interest and normalises them itself, so that of the preparation only the
geometry is left to do. Either takes any number of scans at once, with sides of any multiple, from 2 on, of 8 voxels, or
of what the strides of a network need.

To find the plane of a mirror image is beyond the operators that runtimes know: a network that sees mirror images takes
them, in the first form, as further channels beside the scan.
"""

import importlib.util
import json
import logging
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from train.architectures.choice import side_step
from train.cases.classes import recorded_classes
from train.network.record import Record
from train.network.symmetry import seen
from train.network.unet import UNet
from train.settings import Network, SettingsError
from train.share.onnx_check import compare, noise
from train.share.onnx_graph import OUTPUTS, Named, Normalising, channels_of, summed_by_axis

if TYPE_CHECKING:
    from onnx import ModelProto


PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_OPSET = 18  # of 2022: what torch's exporter writes without a conversion, and runtimes have long known
_MOST_BYTES = 1_900_000_000  # a protobuf message ends at 2 GiB


@dataclass(frozen=True)
class OnnxFile:
    """A graph that was compared with torch.

    Attributes
    ----------
    content : bytes
    difference : float
        Largest absolute difference from torch that was seen, in any output.
    """

    content: bytes
    difference: float


def check_packages() -> None:
    """Stop where a package for ONNX is missing.

    Raises
    ------
    SettingsError
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise SettingsError(f"ONNX needs what is not installed here; type: pip install {' '.join(missing)}")


def to_onnx(network: UNet, record: Record, *, raw: bool = False) -> OnnxFile:
    """Turn a network into an ONNX graph, in float32 and evaluation mode.

    Parameters
    ----------
    network : UNet
        On the CPU.
    record : Record
        Travels in the graph's ``metadata_props``.
    raw : bool
        Whether the graph normalises.

    Raises
    ------
    SettingsError
        If a package is missing, or the network is too large for one file.
    CheckpointError
        If the graph does not give what torch gives, or the record has no statistics to normalise by.
    """
    check_packages()
    if sum(4 * tensor.numel() for tensor in network.state_dict().values()) > _MOST_BYTES:
        raise SettingsError("the network has more weights than one ONNX file can hold (2 GB); export without ONNX")
    import onnx

    channels, network = channels_of(record), network.eval()
    if raw and network.settings.mirror is not None:
        raise SettingsError(
            "the network sees each scan's mirror image, which a graph that takes raw intensities cannot make; "
            "export with --onnx alone"
        )
    within = summed_by_axis(network)
    model = _export(Normalising(within, channels) if raw else Named(within), network.settings, raw)
    onnx.helper.set_model_props(model, metadata(record, raw))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    return OnnxFile(content, compare(content, network, channels, record.side, raw))


def metadata(record: Record, raw: bool) -> dict[str, str]:
    """Return what a graph says of itself: the record, and by name what is needed before and after the network."""
    regions = [channel.region for channel in channels_of(record)]
    classes = recorded_classes(record.network, record.data, "the checkpoint")
    return {
        "record": json.dumps(asdict(record), allow_nan=False),
        "modalities": json.dumps([region.modality for region in regions]),
        "size": str(record.size),
        **({"patch": str(record.patch)} if record.patch is not None else {}),
        "orientation": regions[0].orientation,
        "field_of_view": regions[0].field_of_view.model_dump_json(),
        "normalisation": json.dumps([region.normalisation.model_dump(mode="json") for region in regions]),
        "statistics": json.dumps([channel["statistics"] for channel in record.channels]),
        "normalises": json.dumps(raw),
        "mask_threshold": "0.5",
        **({"mirror": record.network["mirror"]} if record.network.get("mirror") else {}),
        **({"classes": json.dumps(classes)} if len(classes) > 1 else {}),
    }


def _export(module: nn.Module, settings: Network, raw: bool) -> "ModelProto":
    """Trace a module, with sides that may be any multiple of what its strides divide."""
    batch = torch.export.Dim("batch", min=1)
    step = side_step(settings)
    sides = [step * torch.export.Dim(f"{axis}_steps", min=2) for axis in "zyx"]
    names = ("intensity", "roi") if raw else ("scan",)
    scan, roi = (torch.from_numpy(array) for array in noise(settings.in_channels, step))
    inputs = (scan, roi) if raw else (seen(scan, settings.in_channels, settings.mirror),)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells of packages that are not needed here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                inputs,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=OUTPUTS,
                dynamic_shapes={name: {0: batch, **dict(enumerate(sides, start=2))} for name in names},
                opset_version=_OPSET,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    return _without_origin(program.model_proto)


def _without_origin(model: "ModelProto") -> "ModelProto":
    """Take out what the exporter notes of source files: their paths are of this machine."""
    model.graph.name = "layered-tumors"
    parts: list[Any] = [model, model.graph, *model.functions]
    for graph in (model.graph, *model.functions):
        parts += [*graph.node, *graph.value_info]
    parts += [*model.graph.input, *model.graph.output, *model.graph.initializer]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model
