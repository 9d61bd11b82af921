"""The data card of a corpus as Markdown, with the YAML in front that dataset hubs read.

Names, terms and citations come from outside: they are shown as text, whatever markup they hold.
"""

import json
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from scans.catalog.region import LATER
from scans.catalog.settings import flat
from scans.catalog.terms import Terms, terms_of
from scans.markdown import bullets, clean, plain, table
from scans.page.render import render
from synth.corpus.manifest import VERSION, Block
from synth.generators.way import Way
from synth.report import caveats
from synth.report.permissions import common_licence, united
from synth.tumour.source import lends_tumour

if TYPE_CHECKING:
    from synth.corpus import Corpus
    from synth.report.distributions import Distribution


_MOST_SCANS = 500  # rows of the table of scans
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")


def readme(corpus: "Corpus", generations: Sequence[tuple[int, Way]], shown: Sequence["Distribution"]) -> str:
    """Return the card.

    Parameters
    ----------
    corpus : Corpus
        Finished.
    generations : sequence of (int, Way)
        Seed and way of each of its generations.
    shown : sequence of Distribution
        What its recipes drew.
    """
    terms, region = terms_of(corpus.sources), corpus.region
    ways = [way for _, way in generations]
    summaries = [(each.label, *each.summary) for each in shown if not each.ordinal]
    preparation = {key: value for key, value in region.items() if key not in LATER}
    page = render(
        "synth",
        "card.md",
        front=front_matter(corpus.region, len(corpus), terms),
        title=f"Artificial tumours, {plain(region['name']) or 'region without a name'}",
        count=f"{len(corpus):,}",
        region=plain(region["name"]) or "without a name",
        modality=plain(region["modality"]),
        method=" ".join(caveats.method(ways)),
        plain_reading=_plain_reading(corpus),
        numbers=table(("", ""), _numbers(corpus, generations)),
        quantities=table(("drawn or found", "median", "5 %", "95 %"), summaries, numbers=(1, 2, 3)),
        settings=_settings(ways),
        preparation=table(("setting", "value"), _flat(preparation).items()),
        datasets=_datasets(corpus, terms),
        scans=_scans(corpus),
        answers=answers(terms),
        uses=bullets(caveats.USES),
        not_for=bullets(caveats.NOT_FOR),
        limits=bullets(caveats.limitations(ways)),
        biases=bullets(caveats.biases(corpus)),
        privacy=plain(" ".join(caveats.PRIVACY)),
        impact=plain(caveats.SOCIAL_IMPACT),
        again=_again(corpus, generations),
        paper=caveats.PAPER,
    )
    return f"{page}\n"


def front_matter(region: dict[str, Any], samples: int, terms: list[Terms]) -> str:
    """Return the YAML that dataset hubs read: name, licence, size and tags of a corpus.

    Parameters
    ----------
    region : dict
        As of a manifest.
    samples : int
    terms : list of Terms
        Of its sources.
    """
    licence = common_licence(terms)
    words = ["medical", "3d", "synthetic", "tumor-segmentation", "layered-tumors"]
    words += [re.sub(r"[^a-z0-9]+", "-", clean(region[key]).lower()).strip("-") for key in ("modality", "name")]
    front: dict[str, Any] = {
        "pretty_name": f"Artificial tumours, {clean(region['name'])}",
        **({"license": licence.lower()} if licence else {"license": "other", "license_name": "terms-of-the-sources"}),
        "task_categories": ["image-segmentation"],
        "size_categories": [_SIZES[min(max(len(str(samples)) - 3, 0), len(_SIZES) - 1)]],
        "tags": list(dict.fromkeys(word for word in words if word)),
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)


def answers(terms: list[Terms]) -> str:
    """Return the table of what may be done with a corpus whose sources have these terms."""
    rows = [(each.question, each.answer, "; ".join(each.because)) for each in united(terms)]
    return table(("question", "answer", "because of"), rows)


def _numbers(corpus: "Corpus", generations: Sequence[tuple[int, Way]]) -> list[tuple[str, str]]:
    sides = np.array([source["spacing_mm"] for source in corpus.sources], np.float64)
    spans = [f"{axis} {low:.3g} to {high:.3g}" if low != high else f"{axis} {low:.3g}"
             for axis, low, high in zip("zyx", sides.min(axis=0), sides.max(axis=0), strict=True)]  # fmt: skip
    return [
        ("samples", f"{len(corpus):,}"),
        ("voxels of a sample (z, y, x)", f"{corpus.size} × {corpus.size} × {corpus.size}"),
        ("sides of a voxel in mm", ", ".join(spans)),
        ("scans", f"{len(corpus.sources):,}"),
        ("seed" if len(generations) == 1 else "seeds", ", ".join(str(seed) for seed, _ in generations)),
        ("layout, format version", f"{corpus.layout}, {VERSION}"),
        ("identity", corpus.identity),
        ("content", corpus.content_hash),
    ]


def _settings(ways: Sequence[Way]) -> str:
    """Return the settings of each generator: what differs from its defaults, then everything."""
    names = list(dict.fromkeys(way.name for way in ways))
    if len(names) == 1:
        return _settings_of(ways, range(1, len(ways) + 1))
    numbers = {name: [number for number, way in enumerate(ways, start=1) if way.name == name] for name in names}
    return "\n\n".join(
        f"Generator {name}. {_settings_of([ways[n - 1] for n in numbers[name]], numbers[name])}" for name in names
    )


def _settings_of(ways: Sequence[Way], numbers: Sequence[int]) -> str:
    """Return a column for all generations of the same settings; they are of one generator."""
    columns: dict[str, list[int]] = {}
    for number, way in zip(numbers, ways, strict=True):
        columns.setdefault(way.settings.model_dump_json(), []).append(number)
    values = [_flat(json.loads(text)) for text in columns]
    names = ["value"] if len(columns) == 1 else [f"generation {', '.join(map(str, each))}" for each in columns.values()]
    default = _flat(ways[0].generator.settings().model_dump(mode="json"))
    lines = [(key, *(value[key] for value in values), default[key]) for key in default]
    changed = [line for line in lines if set(line[1:]) != {line[-1]}]
    heads = ("setting", *names, "default")
    first = (
        f"Changed from the defaults:\n\n{table(heads, changed)}" if changed else "Nothing differs from the defaults."
    )
    return f"{first}\n\nAll settings:\n\n{table(heads, lines)}"


def _datasets(corpus: "Corpus", terms: list[Terms]) -> str:
    heads = (
        "dataset",
        "licence",
        "terms",
        "may derived data be passed on?",
        "citation",
        "scans",
        "samples: normal",
        "donor",
    )
    normal, donor = _counts(corpus)
    rows = []
    for each in terms:
        positions = list(each.sources)
        rows.append((
            each.dataset, each.licence, each.terms, "yes" if each.derived else "no", each.citation,
            f"{len(positions):,}", f"{normal[positions].sum():,}", f"{donor[positions].sum():,}",
        ))  # fmt: skip
    return table(heads, rows, numbers=(5, 6, 7))


def _scans(corpus: "Corpus") -> str:
    sources, (normal, donor) = corpus.sources, _counts(corpus)
    rows = [
        (row + 1, source["name"], _dataset(source), " × ".join(f"{side:.3g}" for side in source["spacing_mm"]),
         f"{normal[row]:,}", f"{donor[row]:,}", source["content_sha256"])
        for row, source in enumerate(sources[:_MOST_SCANS])
    ]  # fmt: skip
    heads = ("row", "scan", "dataset", "voxel (z, y, x) mm", "samples: normal", "donor", "content (SHA-256)")
    left = len(sources) - len(rows)
    more = f"\n\nAnd {left:,} more; all stand in zarr.json." if left else ""
    return table(heads, rows, numbers=(0, 4, 5)) + more


def _dataset(source: dict[str, Any]) -> str:
    """Name a source's dataset, and who marked the tumour that it lends."""
    if "pseudo_label" in source:
        return f"{source['dataset']}; its tumour as network {source['pseudo_label']['network'][:12]} marked it"
    return f"{source['dataset']}; its tumour as annotated" if lends_tumour(source) else str(source["dataset"])


def _counts(corpus: "Corpus") -> tuple[np.ndarray, np.ndarray]:
    """Return how many samples have each source as normal, and as donor."""
    count = len(corpus.sources)
    return np.bincount(corpus.normal, minlength=count), np.bincount(corpus.donor, minlength=count)


def _plain_reading(corpus: "Corpus") -> str:
    reading = "Any reader of Zarr v3 opens the arrays"
    if corpus.layout == "dense":
        reading += ', `zarr.open_group("corpus.zarr")["composite"][0]`'
    return f"{reading}; zarr.json holds what is told here, for programs, and croissant.json for catalogues of datasets."


def _again(corpus: "Corpus", generations: Sequence[tuple[int, Way]]) -> str:
    """Say how the corpus is made again; as commands where one run made it."""
    said = (
        "Every random choice is a function of seed and sample, and the arithmetic is fixed: the same scans, settings "
        "and seed give the same bytes, on any machine and with any number of workers. The scans are needed; zarr.json "
        "names each input file with its SHA-256."
    )
    if len(generations) > 1 or corpus.manifest.blocks != (Block(((0, 0, len(corpus)),)),):
        return (
            f"{said} This corpus was not made in one go. `synth pack --recipes` writes what is needed to make it "
            "again, without a voxel of a scan, and `synth rehydrate` does so wherever the scans are."
        )
    seed, way = generations[0]
    layers = way.name == "layers"
    region = corpus.region["synthesis"] if layers else corpus.region.get("generators", {}).get(way.name, {})
    own = {} if layers else _flat(way.generator.settings().model_dump(mode="json"))
    own, mine = own | _flat(region), _flat(way.settings.model_dump(mode="json"))
    changes = [f"--set {shlex.quote(f'{key}={value}')}" for key, value in mine.items() if value != own.get(key)]
    datasets = dict.fromkeys(
        (clean(source["dataset"]), "--tumours" if lends_tumour(source) else "--dataset") for source in corpus.sources
    )
    prepare = [
        "synth prepare",
        *(f"{option} {shlex.quote(name)}" for name, option in datasets),
        *(["--pseudo-labels pseudo"] if any("pseudo_label" in source for source in corpus.sources) else []),
        f"--out sources.zarr --size {corpus.size}",
    ]
    named = [] if way.name == corpus.region.get("generator", "layers") else [f"--generator {way.name}"]
    generate = [f"synth generate --sources sources.zarr --out corpus.zarr -n {len(corpus)} --seed {seed}",
                f"--shard-size {corpus.shard_size} --layout {corpus.layout}",
                *named, *changes]  # fmt: skip
    commands = [" ".join(prepare), " ".join(generate), "synth info corpus.zarr  # the same identity and content"]
    return f"{said} With a catalog that has the region and the datasets above:\n\n```\n" + "\n".join(commands) + "\n```"


def _flat(settings: dict[str, Any]) -> dict[str, str]:
    """Return settings by dotted name, each as `--set` takes it."""
    values = flat(settings).items()
    return {key: value if isinstance(value, str) else json.dumps(_short(value)) for key, value in values}


def _short(value: Any) -> Any:
    """Write whole floats as whole numbers, also within lists."""
    if isinstance(value, list):
        return [_short(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
