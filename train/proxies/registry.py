"""The proxy tasks by name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scans.errors import CheckpointError
from synth.corpus import Corpus
from train.data.corpora import Corpora
from train.data.split import Split
from train.network.ranks import ALONE, Ranks
from train.proxies.asc_net import Selection, SelectionTask
from train.proxies.genesis import Genesis
from train.proxies.implicit_field import ImplicitField
from train.proxies.jigsaw import Jigsaw
from train.proxies.patch_location import PatchLocation
from train.proxies.residual import ResidualTask
from train.proxies.rotation import Rotation
from train.proxies.task import Proxy, ProxyTask
from train.settings import LAYERS, Loss, Pretrain, SettingsError

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
        (settings.variation != "none", "--variation"),
        (settings.network.mirror is not None, "--symmetry on"),
        (settings.network.architecture != "unet", f"--network {settings.network.architecture}"),
        (settings.loss != Loss(), "--loss-weights"),
    ):
        if given:
            raise SettingsError(f"{name}: belongs to --proxy {LAYERS}, not to --proxy {settings.proxy}")
    return PROXIES[settings.proxy](settings, size)


def proxy_task(
    proxy: Proxy, corpus: Corpus | Corpora, split: Split, settings: Pretrain, ranks: Ranks = ALONE
) -> ProxyTask:
    """Return the task of a proxy, for ``train.stages.loop``."""
    return _TASKS.get(type(proxy), ProxyTask)(proxy, corpus, split, settings, ranks)


def told(settings: Pretrain) -> dict[str, Any]:
    """Return settings as a record keeps them, without those of proxies that are not asked for.

    Of layer decomposition nothing tells that there are others, so that a run from before there were goes on.
    """
    others = {name for name in PROXIES if name != settings.proxy}
    layers = {"proxy"} if settings.proxy == LAYERS else set()
    return settings.model_dump(mode="json", exclude=(others & set(Pretrain.model_fields)) | layers)


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
