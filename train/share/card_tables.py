"""The tables and sentences of a model card, each from one part of the record."""

import json
from collections.abc import Sequence
from typing import Any

from scans.catalog.region import REFERENCE_SIZE
from scans.catalog.settings import flat
from scans.catalog.terms import Terms
from scans.markdown import Markdown, clean, plain, table
from train.architectures.choice import described
from train.cases.classes import Classes
from train.evaluation.metrics import METRICS, ml
from train.evaluation.scores_file import Mean, RecordedEvaluation
from train.inference.reading import recorded_readings
from train.network.data_terms import annotated_lenders, lent_tumours, real_datasets, scans_of, sources_of
from train.network.record import Record
from train.settings import Network, recorded
from train.share.onnx_graph import Channel

_MOST_SCANS = 500  # rows of a table
_ANSWERS = {True: Markdown("yes"), False: Markdown("**no**"), None: Markdown("not recorded")}


def inputs(channels: Sequence[Channel]) -> Markdown:
    """Say how each modality becomes the network's input."""
    rows = []
    for number, channel in enumerate(channels):
        rows.append((number, channel.region.modality, channel.region.name, _zero(channel), _units(channel)))
    return table(("channel", "modality", "region", "raw zero", "network's units"), rows)


def classes(found: Classes) -> Markdown | None:
    """Say what each of several masks finds, and as which labels; None for a single one."""
    if len(found) == 1:
        return None
    rows = []
    for number, (name, labels) in enumerate(found.items()):
        rows.append((number, name, "any but 0" if labels is None else ", ".join(map(str, labels))))
    return table(("mask", "class", "labels"), rows)


def _zero(channel: Channel) -> str:
    zero = channel.region.normalisation.raw_zero
    if zero is None:
        return "0; of scans with negative tissue their lowest value"
    return f"{zero:g}, which is subtracted; what is below becomes 0"


def _units(channel: Channel) -> str:
    shared = channel.statistics
    if shared is None:
        return "(intensity - mean) / standard deviation, both over the scan's own ROI; 0 outside the ROI"
    clipped = "" if shared.low is None else f"clipped to {shared.low:g} to {shared.high:g}, then "
    return f"{clipped}(intensity - {shared.mean:g}) / {shared.std:g}; 0 outside the ROI"


def field_of_view(channel: Channel, size: int) -> str:
    """Say where the cube lies in a scan."""
    spacing = channel.region.field_of_view.spacing_mm
    if spacing is None:
        return "the bounding box of the ROI, stretched to the cube"
    return f"voxels of {spacing * REFERENCE_SIZE / size:g} mm around the centre of the ROI, cropped or padded with 0"


def roi(channel: Channel) -> str:
    """Say what the region of interest is."""
    if channel.region.roi.kind == "label":
        return "a mask of the organ, which is needed (--roi)"
    return "what skull stripping left, or a mask (--roi)"


def validation(record: Record) -> Markdown:
    """Return the scores of the validation at the step that is shared."""
    what = "steering cases" if record.stage == "finetune" else "artificial tumours in held-out scans"
    shown = {key: value for key, value in record.validation.items() if "." not in key}  # `score.CASE`: of one case
    if not shown:
        return Markdown("The record holds no validation.")
    rows = [(key, "undefined" if value is None else _short(value)) for key, value in shown.items()]
    return Markdown(f"Validation at step {record.step:,}, on {what}:\n\n{table(('score', 'value'), rows)}")


def reading(record: Record) -> Markdown | None:
    """Say how `train segment` makes a mask of what the network finds, where it does not do so plainly."""
    readings = recorded_readings(record.reading, "the checkpoint")
    return None if readings is None or readings.chosen == "plain" else Markdown(plain(readings.words()))


def scores(evaluation: RecordedEvaluation) -> Markdown:
    """Return mean scores on real scans, a row for the network and one for the threshold."""
    heads = ("row", *METRICS.values(), "nothing found", "no tumour: cases", "clean", "false (ml)")
    rows = []
    for name, row in evaluation.mean.items():
        free = row.tumour_free
        false_ml = "" if free.false_ml is None else ml(free.false_ml)
        rows.append((name, *map(_mean, row.means()), row.nothing_found, free.cases, free.nothing_found, false_ml))
    return table(heads, rows)


def _mean(score: Mean) -> str:
    if score.mean is None:
        return "undefined"
    spread = "" if score.std is None else f" ± {score.std:.3f}"
    return f"{score.mean:.3f}{spread} ({score.cases})"


def network(record: Record) -> Markdown:
    """Return the network's settings."""
    kind = "3D UNet: four levels, two 3³ convolutions each, 2³ max-pooling, skip connections"
    if (found := recorded(Network, record.network, "the checkpoint")).architecture != "unet":
        kind = described(found)
    return table(("network", kind), _shown(record.network))


def settings(record: Record) -> Markdown:
    """Return the stage, its steps and every setting."""
    rows = [("stage", record.stage), ("step of these weights", f"{record.step:,}")]
    own = {key: value for key, value in record.settings.items() if key != "network"}
    return table(("setting", "value"), [*rows, *_shown(own)])


def data(record: Record) -> Markdown:
    """Return which corpus and which real scans it was trained on, and what was held out."""
    known, rows = record.data, []
    lent, annotated = len(lent_tumours(known)), annotated_lenders(known)
    if known.get("corpus"):
        rows += [
            ("corpus (content hash)", known["corpus"]),
            ("corpus: seed", known.get("corpus_seed", "")),
            ("corpus: samples", known.get("corpus_samples", "")),
            ("corpus: healthy scans", len(sources_of(known)) - lent),
            *([("corpus: annotated scans that lent their tumours", annotated)] if annotated else []),
            *([("corpus: scans that lent what a network marked", lent - annotated)] if lent > annotated else []),
            ("held out", _listed(known.get("held_out")) or "no scan"),
            ("how samples were parted", known.get("split", "")),
        ]
        if isinstance(other := known.get("validation_corpus"), dict):
            rows += [("steered by another corpus (content hash)", other.get("corpus", ""))]
            rows += [("of which were used", other.get("note", ""))]
    if known.get("began_from"):
        rows += [("network that it began from", clean(known["began_from"]))]
    for each in real_datasets(known):
        annotated = each.get("stage", record.stage) == "finetune"
        use = "annotated, trained on or steered by" if annotated else "without their annotations"
        rows.append((f"real scans of {clean(each.get('dataset', ''))}", f"{len(scans_of(each))}, {use}"))
    if record.stage == "finetune":
        kept = known.get("test")
        rows += [
            ("annotated scans kept for evaluation", len(kept) if isinstance(kept, list) else "not recorded"),
            ("began from", known.get("init") or "random weights"),
        ]
    return table(("data", ""), rows) if rows else Markdown("The record says nothing of the data.")


def terms(entries: Sequence[Terms]) -> Markdown:
    """Return the terms of each dataset."""
    heads = ("dataset", "scans", "licence", "terms", "may derived data be passed on?", "citation")
    unknown = "not recorded"
    rows = [
        (
            entry.dataset,
            len(entry.sources),
            entry.licence or unknown,
            entry.terms or unknown,
            _ANSWERS[entry.passes_on],
            entry.citation or unknown,
        )
        for entry in entries
    ]
    return table(heads, rows) if rows else Markdown("The record names no scans.")


def scans(record: Record) -> Markdown | None:
    """Return the corpus's scans by name, or None where there are none."""
    sources, held_out = sources_of(record.data), record.data.get("held_out")
    kept = set(map(str, held_out)) if isinstance(held_out, list) else set()
    lent = lent_tumours(record.data)
    if not sources:
        return None
    rows = [
        (
            source.get("name", ""),
            source.get("dataset", ""),
            "lent its tumour" if source in lent else "held out" if str(source.get("name")) in kept else "trained on",
        )
        for source in sources[:_MOST_SCANS]
    ]
    more = len(sources) - len(rows)
    return Markdown(
        table(("scan" if lent else "healthy scan", "dataset", "use"), rows)
        + (f"\n\nAnd {more:,} more, which the record names." if more else "")
    )


def _shown(settings: dict[str, Any]) -> list[tuple[str, Markdown]]:
    values = flat(settings).items()
    return [(key, plain(value if isinstance(value, str) else json.dumps(value))) for key, value in values]


def _listed(names: Any) -> str:
    return ", ".join(clean(name) for name in names) if isinstance(names, list) else ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
