"""Checkpoints: safetensors plus plain JSON, never pickle.

``NAME.safetensors`` is complete in itself: the record (settings, region, scores) travels in its header, so that
weights and record cannot come from two different moments. ``NAME.json`` beside it repeats the record for people
and other programs; it is never read back.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from scans.durable import write_atomically
from scans.errors import CheckpointError
from train.network.record import Record, parse_record

_RECORD_KEY = "record"
_NETWORK_PREFIX = "network."
_OPTIMISER_PREFIX = "optimiser."
_AVERAGE_PREFIX = "average."


@dataclass(frozen=True)
class Checkpoint:
    """A record with its tensors, on the CPU.

    Attributes
    ----------
    record : Record
    network : dict of Tensor
        The network to use: the moving average of weights where the training kept one.
    trained : dict of Tensor
        The weights that a training goes on from; those of `network` where there is no average.
    optimiser : dict of Tensor
        Empty in ``best.safetensors``.
    """

    record: Record
    network: dict[str, torch.Tensor]
    trained: dict[str, torch.Tensor]
    optimiser: dict[str, torch.Tensor]


def network_sha256(record: Record, network: nn.Module) -> str:
    """Return the SHA-256 of all that decides what a network finds, as hexadecimal digits."""
    decides = {"network": record.network, "channels": record.channels, "size": record.size}
    if record.patch is not None:
        decides["patch"] = record.patch
    if record.network.get("classes", 1) > 1:  # in their order, as which labels they are written
        decides["classes"] = [*record.data.get("classes", {}).items()]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(
    path: Path,
    record: Record,
    network: nn.Module,
    optimiser: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
) -> None:
    """Write a checkpoint so that `path` holds either the old or the new one, whatever happens meanwhile.

    Parameters
    ----------
    path : Path
    record : Record
    network : Module
    optimiser : Optimizer, optional
        Of `network`, for a training that is to go on.
    average : Module, optional
        The network that readers are to take in place of `network`.
    """
    tensors = {_NETWORK_PREFIX + name: tensor for name, tensor in network.state_dict().items()}
    if optimiser is not None:
        names: dict[object, str] = {parameter: name for name, parameter in network.named_parameters()}
        for parameter, state in optimiser.state.items():
            for key, value in state.items():
                tensors[f"{_OPTIMISER_PREFIX}{key}.{names[parameter]}"] = value
    if average is not None:
        tensors |= {_AVERAGE_PREFIX + name: tensor for name, tensor in average.state_dict().items()}
    _write(path, record, {name: t.detach().cpu().contiguous() for name, t in tensors.items()})


def _write(path: Path, record: Record, plain: dict[str, torch.Tensor]) -> None:
    text = json.dumps(asdict(record), allow_nan=False)
    write_atomically(path, to_bytes(plain, metadata={_RECORD_KEY: text}))
    readable = json.dumps(asdict(record), allow_nan=False, indent=2) + "\n"
    write_atomically(path.with_suffix(".json"), readable.encode())


def record_again(path: Path, record: Record) -> None:
    """Write a checkpoint once more, with another record and the tensors it has.

    Raises
    ------
    CheckpointError
        If it cannot be read or written; the old one is still there then.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _write(path, record, tensors)


def load_record(path: Path) -> Record:
    """Read what a checkpoint records, without its tensors: a few kilobytes of a file of many megabytes.

    Raises
    ------
    CheckpointError
        As of `read_checkpoint`, but for what only the tensors show.
    """
    with _opened(path) as file:
        text = (file.metadata() or {}).get(_RECORD_KEY)
    return parse_record(path, text)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; whether its tensors are those of the network it records is for the reader to check.

    Raises
    ------
    CheckpointError
        If `path` is missing, is not a safetensors file, is damaged, or was made by something else.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: only .safetensors checkpoints made by train are read, never pickles")
    with _opened(path) as file:
        text = (file.metadata() or {}).get(_RECORD_KEY)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    trained = _named(tensors, _NETWORK_PREFIX)
    network = _named(tensors, _AVERAGE_PREFIX) or trained
    return Checkpoint(parse_record(path, text), network, trained, _named(tensors, _OPTIMISER_PREFIX))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint here; make one with train pretrain --out {path.parent}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error})") from error


def _named(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
