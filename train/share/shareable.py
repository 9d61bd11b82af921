"""A record fit to leave the house: without folders of this machine, and without names where they are not to travel."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from train.network.data_terms import real_datasets, scans_of, sources_of
from train.network.record import Record

_NAMES = ("held_out", "scans", "training", "validation", "test")  # lists of them in a record's data
_FOLDER = re.compile(r"[/~]|[A-Za-z]:[\\/]|\\\\|(?!https?:|doi:)[a-z][a-z0-9+]*:/")


def shareable(record: Record, *, anonymous: bool = False) -> Record:
    """Return a record without what only its own training needs, and with the last part of each path alone.

    Parameters
    ----------
    record : Record
    anonymous : bool
        Number sources and cases instead of naming them. ``train evaluate`` then cannot tell which cases of a dataset
        a fine-tuned network was trained on, and refuses that dataset.
    """
    parts = {"settings": record.settings, "data": record.data, "validation": record.validation}
    kept = {name: _changed(value, _pathless) for name, value in parts.items()}
    record = replace(record, progress={}, **kept)
    return _numbered(record) if anonymous else record


def _pathless(text: str) -> str:
    if not _FOLDER.match(text):
        return text
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1]


def _numbered(record: Record) -> Record:
    """Put numbers for sources and cases wherever a record names them."""
    data, sources = dict(record.data), sources_of(record.data)
    lists = {key: data[key] for key in _NAMES if isinstance(data.get(key), list)}
    scans = dict.fromkeys(str(source.get("name")) for source in sources)
    datasets = real_datasets(data) if "datasets" in data else []
    real = [*lists.values(), *map(scans_of, datasets)]
    cases = sorted({str(name) for names in real for name in names} - set(scans))
    numbers = {name: f"scan {number}" for number, name in enumerate(scans, 1)}
    numbers |= {name: f"case {number}" for number, name in enumerate(cases, 1)}
    data |= {key: [numbers[str(name)] for name in names] for key, names in lists.items()}
    if "datasets" in data:
        data["datasets"] = [{**each, "scans": [numbers[name] for name in scans_of(each)]} for each in datasets]
    if sources:
        data["sources"] = [{**source, "name": numbers[str(source.get("name"))]} for source in sources]
    if isinstance(data.get("split"), str):  # a sentence that names held-out sources, one of which may begin another
        found = re.compile("|".join(map(re.escape, sorted(numbers, key=len, reverse=True))) or "(?!)")
        data["split"] = found.sub(lambda match: numbers[match[0]], data["split"])
    settings = dict(record.settings)
    if isinstance(chosen := settings.get("validation_sources"), list | tuple):
        settings["validation_sources"] = [numbers.get(str(name), "a scan") for name in chosen]
    means = {key: value for key, value in record.validation.items() if "." not in key}  # `score.CASE`: of one case
    return replace(record, data=data, settings=settings, validation=means)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """Return a copy of JSON values with every text changed, keys excepted."""
    if isinstance(value, dict):
        return {key: _changed(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(each, change) for each in value]
    return change(value) if isinstance(value, str) else value
