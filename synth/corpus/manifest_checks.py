"""The checks of a manifest: what a stranger wrote is looked at before anything is made of it, or allocated for it."""

import math
import re
from typing import Any

from synth.generators.facts import COMMON, Facts

LAYOUTS = ("layered", "dense")
# Bounds of what is believed, so that nothing a stranger wrote decides how much memory is taken.
MOST_SIDE, MOST_IN_SHARD, MOST_SAMPLES, MOST_SOURCES, MOST_PARTS = 1024, 2**16, 2**40, 2**20, 2**20
MOST_DRAWS, MOST_COLUMNS = 2**24, 1000
STEERING = r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # what a terminal would obey, if it were printed
_NAME = re.compile(rf"[^/\t\n{STEERING}]{{1,500}}")
_TEXT = re.compile(rf"[^{STEERING}]*")
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check(content: dict[str, Any]) -> None:
    """Check the JSON of a manifest.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError, OverflowError
        At the first thing that is not as ``docs/corpus-format.md`` says.
    """
    _need(content["layout"] in LAYOUTS, f"layout is none of {', '.join(LAYOUTS)}")
    _whole(content["size"], 1, MOST_SIDE, "size")
    _whole(content["shard_size"], 1, MOST_IN_SHARD, "shard_size")
    region = content["region"]
    named = isinstance(region, dict) and all(_is_text(region[k]) for k in ("name", "modality"))
    _need(named, "region has no name")
    statistics = content["statistics"]
    _need(statistics is None or _is_statistics(statistics), "statistics are no normalisation")
    sources = _list(content["sources"], "sources", MOST_SOURCES)
    for source in sources:
        _source(source)
        _need(bool(source["statistics"] or statistics), f"source {source['name']} has no statistics")
    _need(len({source["name"] for source in sources}) == len(sources), "two sources share a name")
    generations = _list(content["generations"], "generations", MOST_PARTS)
    for entry in generations:
        _generation(entry, len(sources))
    samples = sum(_block(entry, len(generations)) for entry in _list(content["blocks"], "blocks", MOST_PARTS))
    _need(samples <= MOST_SAMPLES, "there are too many samples")


def _source(entry: Any) -> None:
    _need(isinstance(entry, dict), "a source is no object")
    name = entry["name"]
    _need(isinstance(name, str) and _NAME.fullmatch(name) is not None, "a source's name is no name")
    for key in ("dataset", "case", "licence", "terms", "citation"):
        _need(_is_text(entry[key]), f"source {name}: {key} is no text")
    _need(isinstance(entry["redistribute_derived"], bool), f"source {name}: redistribute_derived is not true or false")
    _need(
        isinstance(entry["content_sha256"], str) and _SHA256.fullmatch(entry["content_sha256"]) is not None,
        f"source {name}: content_sha256 is no SHA-256",
    )
    spacing = _list(entry["spacing_mm"], f"source {name}: spacing_mm", 3)
    _need(len(spacing) == 3 and all(_is_number(side) and 1e-3 <= side <= 1e3 for side in spacing),
          f"source {name}: spacing_mm is no spacing")  # fmt: skip
    _need(_is_number(entry["mean"]) and 0 < entry["mean"] < 1e9, f"source {name}: mean is no positive number")
    if "tumour_voxels" in entry:
        _whole(entry["tumour_voxels"], 1, MOST_SIDE**3, f"source {name}: tumour_voxels")
    if "pseudo_label" in entry:
        drawn = entry["pseudo_label"]
        _need(isinstance(drawn, dict) and _is_text(drawn["reading"]) and _is_text(drawn["rule"]),
              f"source {name}: pseudo_label is none")  # fmt: skip
        _need(isinstance(drawn["network"], str) and _SHA256.fullmatch(drawn["network"]) is not None,
              f"source {name}: its mask's network is no SHA-256")  # fmt: skip
    _need(entry["statistics"] is None or _is_statistics(entry["statistics"]), f"source {name}: no normalisation")


def _generation(entry: dict[str, Any], sources: int) -> None:
    settings, software = entry["settings"], entry["software"]
    _need(isinstance(settings, dict), "settings are no object")
    if "generator" in entry:
        _generator(entry["generator"])
    if entry.get("generator", {"name": "layers"})["name"] == "layers":
        _layers(settings)
    positions = _list(entry["sources"], "sources", MOST_SOURCES)
    for position in positions:
        _whole(position, 0, sources - 1, "a generation's source")
    _need(len(set(positions)) == len(positions), "a generation names a source twice")
    _need(all(_is_text(part) for pair in software.items() for part in pair), "software")
    _whole(entry["seed"], 0, 2**64 - 1, "seed")


def _generator(said: Any) -> None:
    _need(
        isinstance(said, dict) and set(said) == {"name", "version", "columns", "facts"}, "a generator is no generator"
    )
    _need(isinstance(said["name"], str) and _WORD.fullmatch(said["name"]) is not None, "a generator has no name")
    _whole(said["version"], 1, 2**31, f"version of generator {said['name']}")
    columns = _list(said["columns"], "columns", MOST_COLUMNS)
    _need(all(isinstance(name, str) and _WORD.fullmatch(name) for name in columns), "a column has no name")
    _need(len(set(columns)) == len(columns) and set(COMMON) <= set(columns) and columns[0] == "index", "columns")
    facts = said["facts"]
    _need(isinstance(facts, dict) and set(facts) == set(Facts().to_json()), "a generator's facts")
    _need(isinstance(facts["soft"], bool) and isinstance(facts["empty"], bool), "soft, empty")
    _need(facts["target"] in ("texture", "composite"), "target")
    _need(facts["tissue"] in ("scaled", "raw", "network"), "tissue")
    _need(_is_number(facts["least_kept"]) and 0 <= facts["least_kept"] <= 1, "least_kept")
    if facts["alpha"] is not None:
        _alpha(facts["alpha"])
    _need(isinstance(facts["ratio"], list) and len(facts["ratio"]) <= 1000, "ratio")
    for pair in facts["ratio"]:
        _need(len(pair) == 2 and all(map(_is_number, pair)) and pair[0] <= pair[1], "ratio")


def _alpha(interval: Any) -> None:
    low, high = interval
    _need(_is_number(low) and _is_number(high) and 0 <= low <= high <= 1, "alpha is no interval of [0, 1]")


def _layers(settings: dict[str, Any]) -> None:
    _alpha(settings["alpha"])
    _need(_is_number(settings["mask"]["soft_mm"]) and 0 <= settings["mask"]["soft_mm"] <= 1e3, "mask.soft_mm")
    _need(_is_number(settings["mask"]["least_kept"]) and 0 < settings["mask"]["least_kept"] <= 1, "mask.least_kept")
    _need(settings["texture_target"] in ("texture", "composite"), "texture_target")
    _need(isinstance(settings["linear"]["enabled"], bool), "linear.enabled")
    for pair in _list(settings["linear"]["ratio"], "linear.ratio", 1000):
        _need(len(pair) == 2 and all(map(_is_number, pair)) and pair[0] <= pair[1], "linear.ratio")


def _block(entry: dict[str, Any], generations: int) -> int:
    """Return the samples of a block."""
    samples = 0
    for generation, first, count in _list(entry["draws"], "draws", MOST_DRAWS):
        _whole(generation, 0, generations - 1, "a draw's generation")
        _whole(first, 0, 2**63, "a draw's index")
        samples += _whole(count, 1, MOST_SAMPLES, "a draw's count")
    _need(samples == entry["samples"], "a block's samples are not those it draws")
    return samples


def _is_statistics(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"mean", "std", "low", "high"}:
        return False
    ends = [value[key] for key in ("low", "high") if value[key] is not None]
    return all(_is_number(v) and abs(v) < 1e9 for v in (value["mean"], value["std"], *ends)) and value["std"] > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any, low: int, high: int, what: str) -> int:
    _need(isinstance(value, int) and not isinstance(value, bool) and low <= value <= high, f"{what} is {value!r:.40}")
    return int(value)


def _list(value: Any, what: str, most: int) -> list[Any]:
    _need(isinstance(value, list) and 1 <= len(value) <= most, f"{what} is no list of 1 to {most}")
    return list(value)


def _need(right: bool, what: str) -> None:
    if not right:
        raise ValueError(what)
