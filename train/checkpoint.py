"""Checkpoints: safetensors plus plain JSON, never pickle.

``NAME.safetensors`` is complete in itself: the record (settings, region, scores) travels in its header, so that
weights and record cannot come from two different moments. ``NAME.json`` beside it repeats the record for people
and other programs; it is never read back.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from scans.durable import write_bytes
from scans.errors import CheckpointError
from scans.region import one_line
from scans.writing import writing
from train.checkpoint_checks import check_details, check_network, check_weights
from train.proxies import network_builder, recorded_proxy
from train.settings import Network

FORMAT = "layered-tumors-checkpoint"
VERSION = 2
_KEY = "record"
_NETWORK = "network."
_OPTIMISER = "optimiser."


@dataclass(frozen=True)
class Record:
    """What must be known to use or to continue a network; plain JSON values only.

    Attributes
    ----------
    stage : str
        ``pretrain``, ``adapt`` or ``finetune``.
    step : int
        Steps taken in this stage.
    settings : dict
        Of the stage, ``train.settings``.
    network : dict
        ``train.settings.Network``.
    channels : list of dict
        One for each modality of the network's input, in their order: ``region`` (``scans.region.Region``, prepares
        scans as the network expects them) and ``statistics`` (``scans.normalisation.Statistics`` shared by all
        scans, None where each has its own).
    size : int
        Side of the network's cube in voxels.
    data : dict
        What it was trained on: hashes, source names, terms, held-out sources or cases.
    threshold : dict or None
        ``train.baseline.Threshold``.
    validation : dict
        Scores of the last validation.
    progress : dict
        State of the plateau rule and the best score, for ``--resume``.
    """

    stage: str
    step: int
    settings: dict[str, Any]
    network: dict[str, Any]
    channels: list[dict[str, Any]]
    size: int
    data: dict[str, Any]
    threshold: dict[str, Any] | None = None
    validation: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    format: str = FORMAT
    version: int = VERSION

    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def region(self) -> dict[str, Any]:
        """Region of the first modality, which has the frame and the ROI of all of them."""
        region: dict[str, Any] = self.channels[0]["region"]
        return region

    @property
    def statistics(self) -> dict[str, Any] | None:
        """Shared normalisation of the first modality, or None where each scan has its own."""
        statistics: dict[str, Any] | None = self.channels[0]["statistics"]
        return statistics


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class Checkpoint:
    """A record with its tensors, on the CPU; ``optimiser`` is empty in ``best.safetensors``."""

    record: Record
    network: dict[str, torch.Tensor]
    optimiser: dict[str, torch.Tensor]

    def sha256(self) -> str:
        """Return the SHA-256 of all that decides what the network finds, as hexadecimal digits."""
        decides = {"network": self.record.network, "channels": self.record.channels, "size": self.record.size}
        if self.record.network.get("classes", 1) > 1:  # in their order, as which labels they are written
            decides["classes"] = [*self.record.data.get("classes", {}).items()]
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
        for name, tensor in sorted(self.network.items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def save_checkpoint(
    path: Path, record: Record, network: nn.Module, optimiser: torch.optim.Optimizer | None = None
) -> None:
    """Write a checkpoint so that `path` holds either the old or the new one, whatever happens meanwhile."""
    tensors = {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    if optimiser is not None:
        names: dict[object, str] = {parameter: name for name, parameter in network.named_parameters()}
        for parameter, state in optimiser.state.items():
            for key, value in state.items():
                tensors[f"{_OPTIMISER}{key}.{names[parameter]}"] = value
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = json.dumps(asdict(record), allow_nan=False)
    write_atomically(path, to_bytes(plain, metadata={_KEY: text}))
    readable = json.dumps(asdict(record), allow_nan=False, indent=2) + "\n"
    write_atomically(path.with_suffix(".json"), readable.encode())


def load_checkpoint(path: Path, *, finite: bool = True) -> Checkpoint:
    """Read a checkpoint, which may come from a stranger; see ``train.checkpoint_checks``.

    Parameters
    ----------
    path : Path
    finite : bool
        Refuse weights that are not finite.

    Raises
    ------
    CheckpointError
        If `path` is missing, is not a safetensors file, is damaged, or was made by something else.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: only .safetensors checkpoints made by train are read, never pickles")
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint here; make one with train pretrain --out {path.parent}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error})") from error
    record = _record(path, text)
    network = {n.removeprefix(_NETWORK): t for n, t in tensors.items() if n.startswith(_NETWORK)}
    optimiser = {n.removeprefix(_OPTIMISER): t for n, t in tensors.items() if n.startswith(_OPTIMISER)}
    build = built_as(record, path)
    check_network(record.network, len(record.channels), network, path, finite=finite, build=build)
    return Checkpoint(record, network, optimiser)


def built_as(record: Record, path: Path) -> Callable[[Network], nn.Module]:
    """Return what makes of its settings the network that a checkpoint holds.

    Raises
    ------
    CheckpointError
        If it is of a proxy task that does not fit this release.
    """
    proxy = recorded_proxy(record.stage, record.settings, record.size, str(path))
    return network_builder(proxy, record.data, str(path))


def load_record(path: Path) -> Record:
    """Read what a checkpoint records, without its tensors: a few kilobytes of a file of many megabytes.

    Raises
    ------
    CheckpointError
        As of `load_checkpoint`, but for what only the tensors show.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint here; make one with train pretrain --out {path.parent}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error})") from error
    return _record(path, text)


def _record(path: Path, text: str | None) -> Record:
    if text is None:
        raise CheckpointError(f"{path}: safetensors, but not a checkpoint made by train")
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
        version = values["version"]
        if values["format"] != FORMAT:
            raise CheckpointError(f"{path}: a {str(values['format'])[:80]!a}, not a checkpoint made by train")
        if version == 1:  # one modality, without a list
            values |= {"version": VERSION, "channels": [{key: values.pop(key) for key in ("region", "statistics")}]}
        elif version != VERSION:
            raise CheckpointError(
                f"{path}: checkpoint version {version}, this program reads {VERSION}; "
                "use the release of layered-tumors that wrote it"
            )
        record = _RECORD.validate_python(values)
        check_details(record.channels, record.size, record.threshold)
        return record
    except ValidationError as error:
        raise CheckpointError(f"{path}: its record is damaged ({one_line(error)})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its record is damaged ({error})") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def restore_network(network: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copy weights into `network`; every tensor must be there, in its shape, and no other.

    Raises
    ------
    CheckpointError
        Naming the first tensor that does not fit.
    """
    check_weights(network.state_dict(), tensors, path, finite=False)  # who loaded it has looked
    network.load_state_dict(tensors)


def restore_optimiser(optimiser: torch.optim.Optimizer, network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put the moments and step counts of Adam back, each in its parameter's own memory layout."""
    for name, parameter in network.named_parameters():
        state: dict[str, torch.Tensor] = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (value := tensors.get(f"{key}.{name}")) is not None:
                # Fused Adam keeps the count of steps beside the weights.
                like = value.to(parameter.device) if key == "step" else torch.empty_like(parameter).copy_(value)
                state[key] = like
        if state:
            optimiser.state[parameter] = state


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new.

    Raises
    ------
    CheckpointError
        If it cannot be written; the old one is still there.
    """
    with writing(path, CheckpointError):
        write_bytes(path, content)


def plain(number: float) -> float | None:
    """Return a JSON number; infinities and NaN become None."""
    return float(number) if math.isfinite(number) else None
