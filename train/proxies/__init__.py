"""Proxy tasks of other papers, on the same corpus, with the same network and the same loop.

Each is a module: what is shown, what must be answered, the loss. ``train pretrain --proxy NAME`` trains one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from scans.errors import CheckpointError
from synth.corpus import Corpus
from train.corpora import Corpora
from train.proxies.asc_net import Selection, SelectionTask
from train.proxies.genesis import Genesis
from train.proxies.implicit_field import ImplicitField
from train.proxies.jigsaw import Jigsaw
from train.proxies.patch_location import PatchLocation
from train.proxies.residual import Residual, ResidualTask, Restorer
from train.proxies.rotation import Rotation
from train.proxies.task import Pairs, Proxy, ProxyTask
from train.ranks import ALONE, Ranks
from train.settings import FINDS_MASK, LAYERS, Loss, Network, Pretrain, SettingsError, recorded
from train.split import Split
from train.unet import UNet

__all__ = [
    "PROXIES",
    "Pairs",
    "Proxy",
    "check_finds_layers",
    "check_same_proxy",
    "network_builder",
    "proxy_of",
    "proxy_task",
]

PROXIES: dict[str, Callable[[Pretrain, int], Proxy]] = {  # each is made of settings and the side of a corpus's cubes
    "genesis": lambda settings, size: Genesis(settings.genesis),
    "patch_location": lambda settings, size: PatchLocation(size),
    "jigsaw": lambda settings, size: Jigsaw(settings.jigsaw, size),
    "rotation": lambda settings, size: Rotation(),
    "implicit_field": lambda settings, size: ImplicitField(settings.implicit_field),
    "asc_net": lambda settings, size: Selection(),
}
_TASKS = {ImplicitField: ResidualTask, Selection: SelectionTask}  # of all others: ProxyTask


def proxy_of(settings: Pretrain, size: int) -> Proxy | None:
    """Return the proxy task that settings ask for, None for layer decomposition itself.

    Raises
    ------
    SettingsError
        If they also ask for what only layer decomposition has, or the corpus's cubes are too small.
    """
    if settings.proxy == LAYERS:
        return None
    for given, name in (
        (settings.recombine, "--recombine"),
        (settings.standardise, "--standardise"),
        (settings.vary, "--vary"),
        (settings.loss != Loss(), "--loss-weights"),
    ):
        if given:
            raise SettingsError(f"{name}: belongs to --proxy {LAYERS}, not to --proxy {settings.proxy}")
    return PROXIES[settings.proxy](settings, size)


def proxy_task(
    proxy: Proxy, corpus: Corpus | Corpora, split: Split, settings: Pretrain, ranks: Ranks = ALONE
) -> ProxyTask:
    """Return the task of a proxy, for ``train.loop``."""
    return _TASKS.get(type(proxy), ProxyTask)(proxy, corpus, split, settings, ranks)


def told(settings: Pretrain) -> dict[str, Any]:
    """Return settings as a record keeps them, without those of proxies that are not asked for.

    Of layer decomposition nothing tells that there are others, so that a run from before there were goes on.
    """
    others = {name for name in PROXIES if name != settings.proxy}
    layers = {"proxy"} if settings.proxy == LAYERS else set()
    return settings.model_dump(mode="json", exclude=(others & set(Pretrain.model_fields)) | layers)


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


def check_same_proxy(before: Mapping[str, Any], now: Pretrain, where: Path) -> None:
    """Refuse to go on from a checkpoint with the proxy task of another.

    Raises
    ------
    CheckpointError
    """
    if (name := before.get("proxy", LAYERS)) != now.proxy:
        raise CheckpointError(
            f"{where}: was trained with --proxy {name}, not {now.proxy}; give the same, or choose another --out"
        )


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
