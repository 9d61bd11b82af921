"""Presets: named sets of settings that belong together. What a user gives beside one wins over it.

``robust``, the default, is for tumours that are to be found: a training that does not fall once it has risen, so that
its last checkpoint is the one to use (measured, ``docs/presets.md``). Its variation is light: full lost 0.05 on real
scans with six normals (measured, same page). ``paper`` is Zhang et al. 2021, for comparison.
``none`` is what ``train.settings`` has, as of trainings from before there were presets.

What ``paper`` keeps of ours, since the paper does not say, or says two things: layers are weighed once more inside the
mask (``loss.form``, as the authors' code does), BatchNorm's statistics are taken anew before a validation
(``train.network.batch_norm``), and the best checkpoint follows artificial tumours in held-out normals, where the
authors' code looks at test scans. Numbers that the paper does not print are those of ``train.settings``.
"""

from collections.abc import Mapping
from typing import Any

from train.settings import LAYERS, Adapt, PresetName, S, validated

Values = dict[str, Any]

MOST_WARMUP = 100  # steps; a tenth of a training that is shorter than ten times as long
_HOLDS: Values = {
    "averaging": 0.99,  # a step; Izmailov et al. 2018 average weights, measured
    "rate_rule": "cosine",  # Loshchilov and Hutter 2017
    "chosen": "last",
}
_ZHANG: Values = {  # Sec. IV-C
    "betas": (0.9, 0.999),
    "epsilon": 1e-8,
    "warmup_steps": 0,
    "rate_rule": "plateau",
    "averaging": 0.0,
    "chosen": "score",
}
_ZHANG_LOSS: Values = {"l0": 1.0, "l1": 1.0, "l2": 1.0, "l3": 1.0, "cross_entropy": 0.0}  # Eq. 10
_AS_STORED: Values = {"variation": "none", "standardise": False, "recombine": False}

PRETRAIN: dict[PresetName, Values] = {
    "robust": {"network": {"norm": "instance"}, "schedule": _HOLDS, "variation": "light"},
    "paper": {
        "network": {"norm": "batch", "mask_bias": 0.0},
        "loss": _ZHANG_LOSS,
        "schedule": {"learning_rate": 1e-3, **_ZHANG},
        **_AS_STORED,
    },
    "none": {},
}
ADAPT: dict[PresetName, Values] = {  # the norm is the network's own
    "robust": {"schedule": _HOLDS, "variation": "light"},
    "paper": {"loss": _ZHANG_LOSS, "schedule": _ZHANG, **_AS_STORED},
    "none": {},
}


def settings_of(model: type[S], preset: str, given: Mapping[str, Any], where: str) -> S:
    """Build the settings of a stage: its defaults, changed by a preset, changed by what was given.

    Parameters
    ----------
    model : type
        `train.settings.Pretrain` or `train.settings.Adapt`.
    preset : str
        A name of `train.settings.PresetName`.
    given : mapping
        Settings by name, nested; only what is to win over the preset.
    where : str
        The command, for errors.

    Returns
    -------
    Pretrain or Adapt
        They record the preset's name.

    Raises
    ------
    SettingsError
        Naming in one line what is not allowed, an unknown preset included.
    """
    proxy = str(given.get("proxy", LAYERS))
    presets = ADAPT if model is Adapt else PRETRAIN
    values = _for_proxy(next((of for name, of in presets.items() if name == preset), {}), proxy)
    whole = _laid_over({"preset": preset, **model().model_dump(exclude={"preset"})}, values)
    whole = _laid_over(whole, given)
    schedule = whole["schedule"]
    if schedule["rate_rule"] == "cosine" and "warmup_steps" not in given.get("schedule", {}):
        steps = schedule["steps"]
        schedule["warmup_steps"] = min(MOST_WARMUP, steps // 10) if isinstance(steps, int) else 0
    return validated(model, whole, where)


def _for_proxy(values: Values, proxy: str) -> Values:
    """Return a preset without what only layer decomposition has, for another paper's task."""
    if proxy == LAYERS:
        return values
    return {name: value for name, value in values.items() if name in ("network", "schedule")}


def _laid_over(below: Values, above: Mapping[str, Any]) -> Values:
    """Return nested settings with others in their place."""
    both = dict(below)
    for name, value in above.items():
        inner = both.get(name)
        both[name] = _laid_over(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return both
