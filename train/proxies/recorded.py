"""Which network a checkpoint holds: that of layers, or of the proxy task that it records."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from scans.errors import CheckpointError
from train.network.checkpoint import NETWORK_PREFIX, OPTIMISER_PREFIX, RECORD_KEY, Checkpoint
from train.network.record import Record, parse_record
from train.network.unet import UNet
from train.network.weights import check_network
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


def network_builder(proxy: Proxy | None, data: Mapping[str, Any], where: str) -> Callable[[Network], nn.Module]:
    """Return what makes of a record's network settings the network that its checkpoint holds.

    Parameters
    ----------
    proxy : Proxy or None
    data : mapping
        Of the record.
    where : str
        The checkpoint, for errors.
    """
    if proxy is None:
        return UNet
    sources = data.get("sources")
    if not isinstance(sources, list) or not sources:
        raise CheckpointError(f"{where}: its record is damaged (no sources)")
    return partial(proxy.network, sources=len(sources))


def check_finds_layers(stage: str, settings: Mapping[str, Any], where: str, *, as_unet: bool = True) -> None:
    """Refuse a network that finds no mask, or finds it in another way than layer decomposition does.

    Parameters
    ----------
    stage, settings
        Of the record.
    where : str
        The checkpoint, for errors.
    as_unet : bool
        Whether it must be a UNet too.

    Raises
    ------
    CheckpointError
    """
    name = settings.get("proxy", LAYERS) if stage == "pretrain" else LAYERS
    if name == LAYERS:
        return
    if name not in FINDS_MASK:
        raise CheckpointError(
            f"{where}: was pretrained with --proxy {name}, which learns no mask; "
            f"fine-tune it first with train finetune --init {where}"
        )
    if as_unet:
        raise CheckpointError(
            f"{where}: was pretrained with --proxy {name}, whose network is no UNet; "
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
        If `path` is missing, is not a safetensors file, is damaged, or was made by something else.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: only .safetensors checkpoints made by train are read, never pickles")
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint here; make one with train pretrain --out {path.parent}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(RECORD_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error})") from error
    record = parse_record(path, text)
    network = {n.removeprefix(NETWORK_PREFIX): t for n, t in tensors.items() if n.startswith(NETWORK_PREFIX)}
    optimiser = {n.removeprefix(OPTIMISER_PREFIX): t for n, t in tensors.items() if n.startswith(OPTIMISER_PREFIX)}
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
