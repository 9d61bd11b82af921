"""Fine-tuning on annotated scans: encoder from pretraining, decoder random, soft Dice (Zhang et al., Sec. IV-C)."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
import torch

from scans.catalog.catalog import Catalog, load_catalog
from train.architectures import choice
from train.architectures.planner import planned
from train.cases.modalities import choose_channels
from train.cases.prepared import RealScan, dataset_cases, prepare_cases
from train.cases.tasks import folds_for, foreground_statistics
from train.inference.named_network import origin_of
from train.network import hardware
from train.network.channels import Channel, carry_encoder, recorded_channels
from train.network.data_terms import with_dataset
from train.network.ranks import joined
from train.network.record import Record
from train.network.unet import UNet
from train.network.weights import restore_network
from train.proxies.recorded import load_network
from train.run.folder import check_run_folder
from train.settings import Finetune, Network, SettingsError, recorded, with_modalities
from train.stages import loop
from train.stages.supervised import Supervised


def finetune(
    init: Path | None,
    catalog: Path,
    name: str,
    out: Path,
    settings: Finetune,
    *,
    size: int = 128,
    modalities: Sequence[str] = (),
    folds_file: Path | None = None,
    **course: Unpack[loop.Course],
) -> loop.Outcome:
    """Fine-tune on one fold of a task or a dataset; the checkpoint's record says which cases it saw.

    Parameters
    ----------
    init : Path or None
        A pretrained checkpoint; None: from scratch, with cubes of `size`.
    catalog : Path
    name : str
        Of a task of the catalog; or of a dataset, to find whatever its label files mark.
    out : Path
    settings : Finetune
    size : int
    modalities : sequence of str
        Of a dataset, in the network's order. Empty: those of the checkpoint, or from scratch all of the dataset. A
        task says its own.
    folds_file : Path, optional
        Made by ``train folds``; without it the same folds are drawn from the cases that are here.
    **course
        As of `train.stages.loop.Course`.
    """
    say = course.get("say", loop.silent)
    check_run_folder(out, course.get("resume", False))
    _check_scratch(settings.network, size, init)
    loaded = load_catalog(catalog)
    wanted = loaded.task(name)
    classes = list(wanted.classes.values())
    start, encoder = (None, {}) if init is None else _with_encoder(init)
    known = [] if start is None else recorded_channels(start, str(init))
    channels = _channels(known, loaded, catalog, name, modalities)
    names = [channel.region.modality for channel in channels]
    before = [channel.region.modality for channel in known]
    if known and names != before:
        say(f"the network takes {', '.join(names)}; its encoder was trained on {', '.join(before)}")
    regions = [channel.region for channel in channels]
    dataset, cases = dataset_cases(loaded, wanted.dataset, regions)
    network = None
    if start is not None and init is not None:
        encoder = carry_encoder(encoder, before, names)
        size, network = start.size, _continued(start, init, encoder, len(names), len(classes), settings)
    own = None if name in loaded.tasks or folds_file is not None else settings.folds
    folds = folds_for(catalog, name, folds_file, cases, parts=own, say=say)
    unlabelled = [case for case in cases if case.label is None and folds_file is None]
    for case in unlabelled:
        say(f"left out {case.name}: {case.image} has no label file")
    parts = folds.parts(settings.fold, settings.fraction)
    seen = [case for case in cases if case.name in {*parts.training, *parts.validation}]
    if start is None:
        trained = [case for case in seen if case.name in set(parts.training)]
        found = foreground_statistics(trained, dataset, regions, size)
        channels = [replace(channel, statistics=one) for channel, one in zip(channels, found, strict=True)]
    statistics = [channel.statistics for channel in channels]
    scans = prepare_cases(seen, dataset, regions, size, statistics, annotated=True, classes=classes, say=say)
    if network is None:
        settings, network = _from_scratch(settings, names, len(classes), size, scans)
        if settings.network.architecture != "unet":
            say(f"the network is {choice.described(settings.network)}")
    by_name = {scan.name: scan for scan in scans}
    training, validation = ([n for n in part if n in by_name] for part in (parts.training, parts.validation))
    if not training:
        raise SettingsError(f"none of the {len(parts.training)} training cases of {name} can be used; see above")
    say(
        f"{len(training)} training, {len(validation)} steering, {len(parts.test)} test cases"
        + ("" if validation else "; too few to spare any, so the training cases themselves steer")
    )
    data = {} if start is None else dict(start.data)
    data |= {
        "task": name,
        "classes": {label: None if some is None else list(some) for label, some in wanted.classes.items()},
        "dataset": wanted.dataset,
        "modalities": names,
        "training": training,
        "validation": validation,
        "test": parts.test,
        "init": None if start is None else start.stage,
        "began_from": None if init is None else origin_of(init),
        "datasets": with_dataset(data, wanted.dataset, dataset, "finetune", [*training, *validation]),
    }
    record = Record(
        stage="finetune",
        step=0,
        settings=settings.model_dump(mode="json"),
        network=network.settings.model_dump(mode="json"),
        channels=[channel.to_json() for channel in channels],
        size=size,
        patch=None if start is None else start.patch,
        data=json.loads(json.dumps(data)),
        threshold=start.threshold if start is not None and names[0] == before[0] else None,
    )
    with joined(hardware.of(settings.schedule, size if start is None else start.side)) as (machine, ranks):
        task = Supervised(
            [by_name[n] for n in training],
            [by_name[n] for n in validation],
            settings,
            ranks,
            classes=list(wanted.classes),
            device=machine.device,
            patch=None if start is None else start.patch,
        )
        outcome = loop.train(task, network, record, settings.schedule, machine, out, ranks=ranks, **course)
    return replace(outcome, left_out=len(unlabelled) + len(seen) - len(scans))


def _channels(
    known: Sequence[Channel], loaded: Catalog, catalog: Path, name: str, modalities: Sequence[str]
) -> list[Channel]:
    """Return the network's channels: those of a task, or as `choose_channels`; from scratch without statistics."""
    wanted = loaded.task(name)
    if name in loaded.tasks:
        if modalities and tuple(modalities) != wanted.modalities:
            raise SettingsError(f"--modalities: task {name} takes {', '.join(wanted.modalities)}; leave it out")
        modalities = wanted.modalities
        if len(known) == len(modalities) == 1:  # however each spells it
            return list(known)
    if known:
        return choose_channels(known, catalog, wanted.dataset, modalities)
    return [Channel(region) for region in loaded.in_modalities(wanted.dataset, modalities)[1]]


def _check_scratch(network: Network, size: int, init: Path | None) -> None:
    """Check what a network from scratch is to be; a checkpoint brings its own.

    Raises
    ------
    SettingsError
    """
    if init is not None:
        if network.architecture != "unet":
            raise SettingsError(f"--network, --plans: {init} brings its own network; leave them out")
        return
    choice.check_installed(network)
    if size % (step := choice.side_step(network)):
        raise SettingsError(f"--size {size}: give a multiple of {step}")


def _from_scratch(
    settings: Finetune, modalities: Sequence[str], classes: int, size: int, scans: Sequence[RealScan]
) -> tuple[Finetune, UNet]:
    """Return a network with random weights, and settings that say what was planned for the spacing of the scans."""
    z, y, x = np.median([scan.spacing_mm for scan in scans], axis=0)
    settings = settings.model_copy(update={"network": planned(settings.network, size, (z, y, x))})
    torch.manual_seed(settings.schedule.seed)
    return settings, UNet(with_modalities(settings.network, len(modalities), classes))


def _with_encoder(init: Path) -> tuple[Record, dict[str, torch.Tensor]]:
    """Return what a checkpoint records, and the weights of its encoder."""
    record, network = load_network(init)
    return record, {name: tensor for name, tensor in network.state_dict().items() if name.startswith("encoder.")}


def _continued(
    start: Record, where: Path, encoder: dict[str, torch.Tensor], modalities: int, classes: int, settings: Finetune
) -> UNet:
    """Return a network like that of a checkpoint, with this encoder and a decoder from nothing."""
    torch.manual_seed(settings.schedule.seed)
    network = UNet(with_modalities(recorded(Network, start.network, str(where)), modalities, classes))
    decoder = {n: t for n, t in network.state_dict().items() if not n.startswith("encoder.")}
    restore_network(network, {**decoder, **encoder}, where)
    return network
