"""The settings of a run as a table, with what was changed marked."""

from typing import Any

from scans.catalog.settings import Strict, flat
from train.settings import Adapt, Finetune, Pretrain, modern

MODELS: dict[str, type[Strict]] = {"pretrain": Pretrain, "adapt": Adapt, "finetune": Finetune}


def tabulated(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table, changed ones first.

    Parameters
    ----------
    settings : dict
        As in ``settings.json``: of a stage, with ``stage`` and ``hardware`` beside them.

    Returns
    -------
    list of dict
        ``name`` (dotted), ``value``, ``default`` and ``changed``. A setting that this release does not know has no
        default and counts as changed.
    """
    stage = settings.get("stage")
    model = MODELS.get(stage) if isinstance(stage, str) else None
    defaults = {} if model is None else flat(model().model_dump(mode="json"))
    given = flat(modern({name: value for name, value in settings.items() if name not in ("stage", "hardware")}))
    rows = [
        {
            "name": name,
            "value": told(value),
            "default": told(defaults[name]) if name in defaults else "",
            "changed": model is not None and (name not in defaults or value != defaults[name]),
        }
        for name, value in given.items()
    ]
    return sorted(rows, key=lambda row: not row["changed"])


def told(value: Any) -> str:
    """Return a value as a person writes it."""
    if isinstance(value, list):
        return ", ".join(told(item) for item in value) or "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
