"""The report of a run: one self-contained ``report.html``, of a training that runs, has ended or was stopped."""

import base64
import shlex
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from scans.durations import duration
from scans.errors import UserError
from scans.page.render import write_page
from scans.page.viewer import viewer
from train.architectures.choice import described
from train.network.batch_norm import NORMS
from train.network.data_terms import lenders_in_words, real_datasets, scans_of
from train.network.losses import mask_is_trained
from train.run.history import Entry, Run, is_number, number, read_run
from train.run.scenes import read_scenes
from train.run.settings_table import tabulated
from train.settings import Network

STAGES = {
    "pretrain": ("Pretraining", "artificial tumours in healthy scans, nothing annotated by hand"),
    "adapt": ("Adaptation", "artificial tumours and real scans without their annotations"),
    "finetune": ("Fine-tuning", "annotated real scans"),
}
_KINDS = {"validation": "held-out samples", "shifted": "samples of another generator", "real": "real cases"}
_NEWEST = 12  # validations shown before the rest is folded away
_ROWS = 400  # validations listed at most
_ACROSS = 4  # pictures across the training, beside the newest
_PNG = b"\x89PNG\r\n\x1a\n"


def write_run_report(folder: Path) -> Path:
    """Write ``report.html`` into a run folder, from what lies in it.

    Parameters
    ----------
    folder : Path
        Of ``train pretrain``, ``adapt`` or ``finetune``; the training may be running.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    CheckpointError
        If `folder` is no run folder, or the page cannot be written.
    """
    page = folder / "report.html"
    run = read_run(folder)
    write_page("run.html", page, content(run), viewer(read_scenes(folder / "scenes", list(_KINDS))))
    return page


def leave_report(folder: Path, say: Callable[[str], None]) -> None:
    """Write the report if it can be written; a training never fails for want of it.

    Without matplotlib or jinja2, or with a full disk, `say` is told why there is none.
    """
    try:
        write_run_report(folder)
    except ImportError as error:
        say(f"no report.html: {error.name} is not installed; pip install 'layered-tumors[train]', then train report")
    except (OSError, UserError) as error:
        say(f"no report.html: {error}")


def content(run: Run) -> dict[str, Any]:
    """Return everything the page says."""
    from train.run.charts import charts

    stage = str(run.settings.get("stage", ""))
    title, learns = STAGES.get(stage, (stage or "Training", ""))
    record = run.record
    if record and stage == "pretrain" and (lent := lenders_in_words(record.data)):
        learns = f"tumours in healthy scans, real ones cut from {lent} among them"
    network = record.network if record else run.settings.get("network", {})
    return {
        "name": run.folder.resolve().name,
        "stage": stage,
        "title": title,
        "learns": learns,
        "state": run.state.kind,
        "standing": standing(run),
        "verdict": verdict(run),
        "problems": run.problems,
        "charts": charts(run),
        "pictures": pictures(run),
        "validations": validations(run),
        "record": record,
        "data": data(run),
        "network": _described(network),
        "norm": NORMS.get(network.get("norm", Network().norm)),
        "machine": machine(run),
        "settings": tabulated(run.settings),
        "folder": shlex.quote(str(run.folder)),
        "rule": record.rule if record else None,
        "reading": reading(run),
    }


def standing(run: Run) -> str:
    """Say in a sentence how the run stands."""
    state = run.state
    at = f"step {state.step:,} of {run.steps:,}"
    seconds = pace(run)
    left = f", about {duration((run.steps - state.step) * seconds)} of steps left" if seconds else ""
    return {
        "running": f"Running: {at}{left}.",
        "finished": f"Finished: all {state.step:,} steps are done.",
        "stopped": f"Stopped by {state.reason or 'a signal'} at {at}; it can be continued.",
        "failed": f"Failed at {at}: {state.reason.rstrip('.')}.",
        "unfinished": f"Not finished: {at}, and no training is writing here now, as far as this machine can see.",
    }[state.kind]


def verdict(run: Run) -> str:
    """Say in a sentence or two what the network to use, as it is so far, is worth."""
    best = run.chosen
    if best is None:
        every = run.settings.get("schedule", {}).get("checkpoint_every")
        return f"No validation yet; one follows every {every} steps." if every else "No validation yet."
    so_far = ("Last" if run.uses_last else "Best") + (" so far" if run.state.kind == "running" else "")
    overlap = number(best.get("dice"))
    if overlap is None or not _mask_is_trained(run):
        return f"{so_far}: step {best['step']:,}, with a validation loss of {_shown(best.get('loss'))}."
    finetuned = run.settings.get("stage") == "finetune"
    truth = "the annotated cases that steer the training" if finetuned else "the held-out artificial tumours"
    said = f"{so_far}: step {best['step']:,}. Its masks overlap those of {truth} with a mean Dice of {overlap:.3f}"
    rule = None if run.record is None else run.record.rule
    if rule is not None and not finetuned:
        level = rule.dice
        word = "above" if overlap > level else "below" if overlap < level else "equal to"
        said += f", {word} the {level:.3f} of the threshold row on training samples, what one would try first"
    if (shifted := number(best.get("shifted_dice"))) is not None:
        said += f". On tumours of another generator, which chose it: {shifted:.3f}"
    real = number(best.get("real_dice"))
    if real is None:
        real = next((number(e.get("real_dice")) for e in run.validated if e["step"] == best["step"]), None)
    if real is not None:
        count = len(run.real_cases())
        cases = f"the {count} real cases" if count > 1 else "the one real case"
        said += f". On {cases} shown beside it, which choose nothing: {real:.3f}"
    return said + "."


def reading(run: Run) -> str:
    """Say how a mask is made of what the best network finds; empty until a training on a corpus has ended."""
    if run.best is None or run.best.reading is None:
        return ""
    chosen = str(run.best.reading.get("chosen"))
    values = {"by": chosen, **(run.best.reading.get(chosen) or {})}
    return ", ".join(f"{name} {_shown(value) if name == 'dice' else value}" for name, value in values.items())


def _mask_is_trained(run: Run) -> bool:
    weights = run.settings.get("loss")
    return weights is None or mask_is_trained(weights)


def validations(run: Run) -> dict[str, Any]:
    """Return the table of validations, newest first; of very many a few hundred, spread evenly."""
    rates = {entry["step"]: entry.get("learning_rate") for entry in run.trained}
    used = None if run.chosen is None else run.chosen["step"]
    rows = [
        {
            "step": f"{entry['step']:,}",
            "loss": _shown(entry.get("loss")),
            "dice": _shown(entry.get("dice")),
            "shifted": _shown(entry.get("shifted_dice")),
            "real": _shown(entry.get("real_dice")),
            "rate": f"{rates[entry['step']]:.3g}" if is_number(rates.get(entry["step"])) else "",
            "used": entry["step"] == used,
        }
        for entry in reversed(run.validated)
    ]
    newest, older = rows[:_NEWEST], rows[_NEWEST:]
    if len(older) > _ROWS:
        older = [older[i] for i in np.linspace(0, len(older) - 1, _ROWS).astype(int)]
    shifted = any("shifted_dice" in entry for entry in run.validated)
    return {
        "newest": newest,
        "older": older,
        "count": len(rows),
        "real": bool(run.real_cases()),
        "shifted": shifted,
        "said": "last" if run.uses_last else "best",
    }


def pictures(run: Run) -> list[dict[str, Any]]:
    """Return the newest picture of each kind, then a few of before, ready to embed."""
    shown, before = [], []
    for kind, drawn in run.pictures().items():
        title = _KINDS.get(kind, kind)
        earlier = drawn[:-1]
        kept = sorted({int(i) for i in np.linspace(0, len(earlier) - 1, _ACROSS)}) if earlier else []
        shown += [(title, *drawn[-1])]
        before += [(title, *earlier[i]) for i in kept]
    return [
        {"title": f"{title}, step {step:,}", "png": base64.b64encode(png).decode(), "newest": position < len(shown)}
        for position, (title, step, path) in enumerate(shown + before)
        if (png := _png(path))
    ]


def _png(path: Path) -> bytes:
    try:
        read = path.read_bytes()
    except OSError:
        return b""
    return read if read.startswith(_PNG) else b""


def data(run: Run) -> dict[str, Any]:
    """Return what the network was trained on, its sources grouped by the terms they come under."""
    known = run.record.data if run.record else {}
    held_out = set(known.get("held_out") or ())
    groups: dict[tuple[str, ...], list[str]] = {}
    for source in known.get("sources") or ():
        terms = tuple(str(source.get(key) or "") for key in ("dataset", "licence", "terms", "citation"))
        groups.setdefault(terms, []).append(str(source.get("name")))
    real = [
        ([str(each.get(key) or "") for key in ("dataset", "licence", "terms", "citation")], len(scans_of(each)))
        for each in real_datasets(known)
    ]
    split = known.get("split") or next((e["split"] for e in run.entries if e.get("split")), None)
    return {
        "corpus": known.get("corpus"),
        "samples": known.get("corpus_samples"),
        "seed": known.get("corpus_seed"),
        "shifted": known.get("validation_corpus"),
        "split": split,
        "dataset": known.get("dataset"),
        "cases": {name: known[name] for name in ("scans", "training", "validation", "test") if known.get(name)},
        "real": real,
        "groups": [
            {"terms": terms, "names": [(name, name in held_out) for name in names]} for terms, names in groups.items()
        ],
    }


def machine(run: Run) -> dict[str, Any]:
    """Return where the training ran and how fast."""
    starts = {entry["step"]: str(entry["started_on"]) for entry in run.entries if entry.get("started_on")}
    places: list[tuple[int, str]] = []
    for step, place in starts.items():
        if not places or places[-1][1] != place:
            places.append((step, place))
    seconds = pace(run)
    return {
        "places": places or [(0, run.settings.get("hardware", "unknown"))],
        "continued": [f"{step:,}" for step in list(starts)[1:]],
        "seconds": f"{seconds:.3g}" if seconds else None,
        "samples": f"{run.batch / seconds:.3g}" if seconds else None,
        "spent": duration(_spent(run.trained)) if run.trained else None,
    }


def _described(network: dict[str, Any]) -> str:
    """Say which network it is; empty where nothing tells."""
    try:
        return described(Network.model_validate(network)) if "width" in network else ""
    except ValidationError:  # of another release
        return ""


def pace(run: Run) -> float | None:
    """Return seconds a step, the median of the newest hundred that were logged; None if there is none."""
    newest = [number(entry.get("seconds_per_step")) for entry in run.trained[-100:]]
    known = [value for value in newest if value]
    return statistics.median(known) if known else None


def _spent(trained: list[Entry]) -> float:
    """Sum seconds over all steps that were logged."""
    total, before = 0.0, 0
    for entry in trained:
        total += (number(entry.get("seconds_per_step")) or 0.0) * max(0, entry["step"] - before)
        before = entry["step"]
    return total


def _shown(value: Any) -> str:
    return f"{value:.3f}" if is_number(value) else "undefined" if value is None else str(value)
