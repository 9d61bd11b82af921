"""Which network a checkpoint holds: that of layers, or of the proxy task that it records."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from scans.errors import CheckpointError
from train.network.checkpoint import Checkpoint, read_checkpoint
from train.network.record import Record
from train.network.unet import UNet
from train.network.weights import check_cube, check_network
from train.proxies.registry import proxy_of
from train.proxies.residual import Residual, Restorer
from train.proxies.task import Proxy
from train.settings import FINDS_MASK, LAYERS, Network, Pretrain, SettingsError, recorded


def recorded_proxy(stage: str, settings: dict[str, Any], size: int, where: str) -> Proxy | None:
    """Return the proxy that a checkpoint was trained on; None after layer decomposition, or another stage.

    Raises
    ------
    CheckpointError
        If its settings do not fit this release.
    """
    if stage != "pretrain" or settings.get("proxy", LAYERS) == LAYERS:
        return None
    try:
        return proxy_of(recorded(Pretrain, settings, where), size)
    except SettingsError as error:
        raise CheckpointError(f"{where}: its record is damaged ({error})") from error


def check_finds_layers(record: Record, path: Path, *, as_unet: bool) -> None:
    """Refuse a network that finds no mask, or finds it in another way than layer decomposition does.

    Parameters
    ----------
    record : Record
    path : Path
        Of the checkpoint, for errors.
    as_unet : bool
        Whether it must be a UNet too.

    Raises
    ------
    CheckpointError
    """
    name = record.settings.get("proxy", LAYERS) if record.stage == "pretrain" else LAYERS
    if name == LAYERS:
        return
    if name not in FINDS_MASK:
        raise CheckpointError(
            f"{path}: was pretrained with --proxy {name}, which learns no mask; "
            f"fine-tune it first with train finetune --init {path}"
        )
    if as_unet:
        raise CheckpointError(
            f"{path}: was pretrained with --proxy {name}, whose network is no UNet; "
            "give it to train segment or train evaluate"
        )


def for_scans(network: nn.Module, validation: Mapping[str, Any], where: str) -> nn.Module:
    """Return a network that maps scans to layers: one that restores them with the threshold its validation chose."""
    if not isinstance(network, Restorer):
        return network
    threshold = validation.get("threshold")
    if not isinstance(threshold, int | float):
        raise CheckpointError(f"{where}: records no threshold of a validation; take best.safetensors of its run")
    return Residual(network, float(threshold))


def load_checkpoint(path: Path, *, finite: bool = True) -> Checkpoint:
    """Read a checkpoint, which may come from a stranger; see ``train.network.weights``.

    Parameters
    ----------
    path : Path
    finite : bool
        Refuse weights that are not finite.

    Raises
    ------
    CheckpointError
        If it cannot be read, or does not hold the weights of the network that it records.
    """
    checkpoint = read_checkpoint(path)
    record = checkpoint.record
    check_cube(record.network, record.side, path)
    build = _builder(record, path)
    for tensors in (checkpoint.trained, checkpoint.network):
        check_network(record.network, len(record.channels), tensors, path, finite=finite, build=build)
    return checkpoint


def load_network(path: Path, *, finite: bool = True) -> tuple[Record, nn.Module]:
    """Return what a checkpoint records and its network with its weights, on the CPU; as of `load_checkpoint`."""
    checkpoint = load_checkpoint(path, finite=finite)
    record = checkpoint.record
    network = _builder(record, path)(recorded(Network, record.network, str(path)))
    network.load_state_dict(checkpoint.network)
    return record, network


def load_unet(path: Path) -> tuple[Record, UNet]:
    """Return as `load_network` does the network of layer decomposition, or of what continued it.

    Raises
    ------
    CheckpointError
        Also if the network is another.
    """
    record, network = load_network(path)
    check_finds_layers(record, path, as_unet=True)
    assert isinstance(network, UNet)
    return record, network


def _builder(record: Record, path: Path) -> Callable[[Network], nn.Module]:
    """Return what makes of its settings the network that a checkpoint holds."""
    proxy = recorded_proxy(record.stage, record.settings, record.size, str(path))
    if proxy is None:
        return UNet
    sources = record.data.get("sources")
    if not isinstance(sources, list) or not sources:
        raise CheckpointError(f"{path}: its record is damaged (no sources)")
    if record.network.get("mirror") is not None:
        raise CheckpointError(f"{path}: its record is damaged (a proxy task that sees mirror images)")
    if recorded(Network, record.network, str(path)).architecture != "unet":
        raise CheckpointError(f"{path}: its record is damaged (a proxy task with a network of nnU-Net's)")
    return partial(proxy.network, sources=len(sources))
