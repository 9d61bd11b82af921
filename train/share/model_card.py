"""The model card: what a lab must know of a network that it is handed, with the YAML in front that model hubs read.

Everything follows from the record and from what was measured, without a date or a version of the software, so that the
same network has the same card. Names, terms and citations come from outside: they are shown as text, whatever markup
they hold.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from scans.markdown import Markdown, clean, plain
from train.architectures.choice import side_step
from train.architectures.nnunet import PACKAGE
from train.cases.classes import recorded_classes
from train.evaluation.metrics import METRICS
from train.evaluation.scores_file import RecordedEvaluation
from train.network.channels import Channel
from train.network.data_terms import (
    annotated_lenders,
    lenders_in_words,
    lent_tumours,
    real_datasets,
    scans_of,
    sources_of,
    trained_on,
    unclear,
)
from train.network.record import Record
from train.settings import Network, recorded
from train.share import card_tables as tables
from train.share.onnx_check import TOLERANCE
from train.share.onnx_graph import channels_of

_SIDES = "It compares the two sides of a scan: what is alike on both, or lies across the middle, is harder to find."


@dataclass(frozen=True)
class Graph:
    """An ONNX file beside the card: its name, and whether it normalises.

    How far it is from torch depends on the threads of whoever compares: the card says what was asked for, so that the
    same checkpoint has the same card.
    """

    file: Markdown
    raw: bool


def model_card(
    record: Record,
    name: str,
    evaluations: Sequence[RecordedEvaluation],
    graphs: Sequence[Graph],
    licence: str = "",
    nnunet: Sequence[str] = (),
) -> str:
    """Return the card of an exported network.

    Parameters
    ----------
    record : Record
        As it is shared.
    name : str
        Of the files: letters, digits, dots, hyphens and underscores.
    evaluations : sequence of RecordedEvaluation
        Scores on real scans.
    graphs : sequence of Graph
        ONNX files that come with it.
    licence : str
        That the weights are given under; empty: none was chosen.
    nnunet : sequence of str
        What nnU-Net does not take over; empty: there are no weights for it.

    Returns
    -------
    str
        Markdown.
    """
    environment = Environment(
        loader=PackageLoader("train"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=plain,  # Markdown of our own passes
    )
    channels, terms = channels_of(record), trained_on(record.data)
    classes = recorded_classes(record.network, record.data, "the checkpoint")
    first, network = channels[0].region, recorded(Network, record.network, "the checkpoint")
    return environment.get_template("model_card.md").render(
        front=Markdown(_front(record, channels, name, evaluations, graphs, licence)),
        title=f"{_title(channels)}, layer decomposition",
        unclear=Markdown(" ".join(map(plain, unclear(terms)))),
        name=Markdown(name),
        scan=Markdown(_scan(channels)),
        region=first.name or "without a name",
        modalities=", ".join(channel.region.modality for channel in channels),
        learned=_learned(record),
        stage=record.stage,
        size=record.side,
        cube=record.size,
        step=side_step(network),
        package=PACKAGE.replace("_", "-") if network.architecture != "unet" else "",
        channels=len(channels),
        mirror=record.network.get("mirror"),
        classes=tables.classes(classes),
        masks=len(classes),
        orientation=first.orientation,
        field_of_view=tables.field_of_view(channels[0], record.size),
        roi=tables.roi(channels[0]),
        inputs=tables.inputs(channels),
        reading=tables.reading(record),
        graphs=graphs,
        nnunet=nnunet,
        tolerance=TOLERANCE,
        validation=tables.validation(record),
        evaluations=evaluations,
        scores=tables.scores,
        rule=record.rule,
        network=tables.network(record),
        settings=tables.settings(record),
        data=tables.data(record),
        terms=tables.terms(terms),
        scans=tables.scans(record),
        limits=_limits(record, evaluations),
    )


def _front(
    record: Record,
    channels: Sequence[Channel],
    name: str,
    evaluations: Sequence[RecordedEvaluation],
    graphs: Sequence[Graph],
    licence: str,
) -> str:
    """Return the YAML that model hubs read."""
    words = ["medical", "3d", "tumor-segmentation", "layered-tumors", record.stage]
    words += [word for channel in channels for word in (channel.region.modality, channel.region.name)]
    tags = [_slug(word) for word in words]
    front: dict[str, Any] = {
        **({"license": licence.lower()} if licence else {"license": "other", "license_name": "terms-of-the-sources"}),
        "library_name": "layered-tumors",
        "pipeline_tag": "image-segmentation",
        "tags": [*dict.fromkeys(tag for tag in tags if tag), "safetensors", *(["onnx"] if graphs else [])],
    }
    results = [_result(evaluation) for evaluation in evaluations if evaluation.mean]
    if results:
        front["model-index"] = [{"name": name, "results": results}]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)


def _result(evaluation: RecordedEvaluation) -> dict[str, Any]:
    dataset = clean(evaluation.dataset)
    rows = [(name, row.means()) for name, row in evaluation.mean.items() if name.startswith("network")]
    return {
        "task": {"type": "image-segmentation", "name": "tumour segmentation"},
        "dataset": {"type": _slug(dataset) or "scans", "name": dataset, "args": clean(evaluation.cases_scored)},
        "metrics": [
            {"type": key, "name": heading + clean(row.removeprefix("network")), "value": round(mean.mean, 4)}
            for row, means in rows
            for (key, heading), mean in zip(METRICS.items(), means, strict=True)
            if mean.mean is not None
        ],
    }


def _title(channels: Sequence[Channel]) -> str:
    modalities = " and ".join(channel.region.modality for channel in channels)
    return f"Tumours in {channels[0].region.name or 'scans'} ({modalities})"


def _scan(channels: Sequence[Channel]) -> str:
    """Name the files of a scan as `train segment` takes them: one a modality, joined by commas."""
    names = [_slug(channel.region.modality) or "scan" for channel in channels] if len(channels) > 1 else ["scan"]
    return ",".join(f"{name}.nii.gz" for name in names)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", clean(text).lower()).strip("-")


def _learned(record: Record) -> str:
    """Say what a network has learned from."""
    data, sentences = record.data, []
    lent = len(lent_tumours(data))
    samples = f"{data['corpus_samples']:,} " if isinstance(data.get("corpus_samples"), int) else ""
    if data.get("corpus"):
        healthy = len(sources_of(data)) - lent
        kind = f"tumours, real ones cut from {lenders_in_words(data)} among them," if lent else "artificial tumours"
        sentences.append(f"It learned from {samples}{kind} in {healthy} healthy scans.")
    for each in real_datasets(data):
        name, count = each.get("dataset", ""), len(scans_of(each))
        if each.get("stage", record.stage) == "adapt":
            sentences.append(f"It then went on with {count} real scans of {name}, without their annotations.")
        else:
            how = "was then fine-tuned" if sentences else "was trained from scratch"
            sentences.append(f"It {how} on {count} annotated scans of {name}.")
    if record.stage == "pretrain" and not annotated_lenders(data):
        sentences.append("It was shown no annotation of a real tumour.")
    return " ".join(sentences)


def _limits(record: Record, evaluations: Sequence[RecordedEvaluation]) -> list[str]:
    norm = record.network.get("norm", "batch")
    return [
        "What it finds is an opinion about voxels. It can be sure and wrong, most where scans or tumours differ from "
        "those it learned from: test it on annotated scans of your own.",
        "BatchNorm by the mean statistics of 16 training batches: scans unlike those are normalised as if they were "
        "like them."
        if norm == "batch"
        else "InstanceNorm: each scan is normalised by itself inside the network, so a part of a scan gives other "
        "values than the whole.",
        *([_SIDES] if record.network.get("mirror") else []),
        "It learned at one scale, that of the cube above: finer voxels or parts of the cube are another task.",
        *([] if evaluations else ["How well it does on real scans was not measured, or is not told here."]),
        "Healthy scans may have held what nobody marked; the network may take its like for normal.",
    ]
