"""The curves of a run's report."""

import hashlib
import pickle
from collections.abc import Sequence
from typing import Any

from train.network.losses import MEANINGS
from train.run.curves import HELD_OUT, REAL, SHIFTED, TRAINING, Curve, chart
from train.run.history import Entry, Run, number

_OTHERS = {
    "gradient_norm": "Norm of the gradient",
    "samples_per_second": "samples a second",
}
_last: tuple[bytes, list[dict[str, Any]]] = (b"", [])  # what was drawn last, after the digest of what it is of


def charts(run: Run) -> list[dict[str, Any]]:
    """Return the charts with their titles, those that matter most first; what was never measured has none.

    A training that has ended is reported twice, and only how its masks are read has changed: its charts are kept.
    """
    global _last
    rule = None if run.record is None else run.record.rule
    level = None if rule is None or run.settings.get("stage") == "finetune" else ("threshold row", rule.dice)
    of = hashlib.sha256(pickle.dumps((run.entries, run.settings.get("stage"), level))).digest()
    if _last[0] != of:
        _last = of, _draw(run, level)
    return _last[1]


def _draw(run: Run, level: tuple[str, float] | None) -> list[dict[str, Any]]:
    dice = "Dice of the mask (1: the same voxels, 0: none)"
    large = [
        (dice, chart(_dice(run), dice, level, whole=True, large=True)),
        _loss("Loss", run, "total", "loss", large=True),
    ]
    small = [
        *(_loss(f"Loss: {MEANINGS.get(name, name)}", run, name, name) for name in run.terms()),
        *(
            (title, chart([_of(run.trained, name, "", TRAINING)], title))
            for title, name in (
                ("Learning rate", "learning_rate"),
                ("Seconds a step", "seconds_per_step"),
                *((_OTHERS.get(name, name), name) for name in run.others()),
            )
        ),
    ]
    made = [(*drawn, True) for drawn in large] + [(*drawn, False) for drawn in small]
    return [{"title": title, "svg": svg, "large": is_large} for title, svg, is_large in made if svg]


def _loss(title: str, run: Run, name: str, held_out: str, *, large: bool = False) -> tuple[str, str]:
    """Draw a loss in training and on what is held out."""
    curves = [
        _of(run.trained, name, "training", TRAINING, noisy=True),
        _of(run.validated, held_out, "held out", HELD_OUT),
        _of(run.validated, f"shifted_{held_out}", "another generator", SHIFTED),
    ]
    return title, chart(curves, title, large=large)


def _dice(run: Run) -> list[Curve]:
    validated = run.validated
    steered = "steering cases" if run.settings.get("stage") == "finetune" else "held-out artificial tumours"
    each = [_of(validated, f"real_dice.{case}", "", REAL, faint=True) for case in run.real_cases()]
    return [
        *each,
        _of(validated, "real_dice", "real cases, mean", REAL),
        _of(validated, "dice", steered, HELD_OUT),
        _of(validated, "shifted_dice", "tumours of another generator", SHIFTED),
    ]


def _of(
    entries: Sequence[Entry], name: str, label: str, colour: str, *, noisy: bool = False, faint: bool = False
) -> Curve:
    known = [entry for entry in entries if name in entry]
    return Curve(label, [e["step"] for e in known], [number(e[name]) for e in known], colour, noisy, faint)
