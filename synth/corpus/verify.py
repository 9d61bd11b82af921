"""Verify that a corpus holds what it says it holds.

Checks structure, checksums, recipes against the settings, and every promise of a sample, Eq. 5 among them.
Needs the corpus alone, no sources.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scans.errors import StoreError
from synth.corpus.layout import metadata, sample_arrays, source_arrays
from synth.corpus.manifest import COPY, ROOT, Manifest, load_manifest
from synth.corpus.reader import Corpus
from synth.corpus.receipt import CARD, SOURCES, Receipt, is_own, read_receipts, receipt_key, sample_digest, source_sums
from synth.generators.facts import Facts
from synth.generators.registry import recorded_way
from synth.generators.way import Way
from synth.store.base import Readable
from synth.store.opening import open_store
from synth.store.sealed_json import MOST_BYTES, check_seal, parse
from synth.tumour.blend import blend
from synth.tumour.sample import Sample, Tumour, empty_sample

_MOST_LACKING = 10_000  # shards that are named one by one: a manifest may announce any number


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in a sentence, and what would have to be made again to mend it.

    Attributes
    ----------
    text : str
    shard, source : int or None
        A shard to make again, a source to write again.
    key : str or None
        A file that the manifest alone decides.
    foreign : str or None
        A file that is no part of the corpus.
    """

    text: str
    shard: int | None = None
    source: int | None = None
    key: str | None = None
    foreign: str | None = None

    def __str__(self) -> str:
        return self.text


def verify(
    where: str | Path, samples: int | None = None, progress: Callable[[int], None] = lambda index: None
) -> list[Finding]:
    """Check a corpus.

    Parameters
    ----------
    where : str or Path
        A folder or a URL.
    samples : int, optional
        How many samples to decode and recompute, spread over the corpus; all if not given. Checksums cover
        every file in any case.
    progress : callable
        Called with the index of each sample that was looked at.

    Returns
    -------
    list of Finding
        What is wrong; empty if nothing is.

    Raises
    ------
    StoreError
        If there is no corpus, or neither copy of its manifest can be read.
    """
    store = open_store(where)
    manifest, findings = read_manifest(store)
    findings += list(check_files(store, manifest))
    wrong = {finding.shard for finding in findings}
    sound = sorted(set(read_receipts(store, range(manifest.shard_count))) - wrong)
    if any(finding.key == ROOT or finding.source is not None for finding in findings):
        return findings  # what follows would stumble over the same
    corpus = Corpus(where, partial=True)
    ways = [recorded_way(g, f"{store}/{ROOT}") for g in manifest.generations]
    every = max(1, len(corpus) // samples) if samples else 1
    out = empty_sample(corpus.size, np.float16)
    for shard in sound:
        content = hashlib.sha256() if every == 1 else None
        indices = manifest.indices(shard)
        for index in indices:
            if index % every == 0:
                said = _check_sample(corpus, ways, index, out, content)
                findings += [Finding(f"sample {index}: {what}", shard=shard) for what in said]
                progress(index)
        if content is not None:
            rows = slice(indices.start, indices.stop)
            content.update(corpus.alpha[rows].tobytes())
            content.update(corpus.recipes[rows].tobytes())
            if content.hexdigest() != corpus.receipts[shard].content:
                findings.append(Finding(f"shard {shard}: its content is not the receipt's", shard=shard))
    return findings


def read_manifest(store: Readable) -> tuple[Manifest, list[Finding]]:
    """Read the manifest from whichever of its two places is sound.

    Raises
    ------
    StoreError
        If neither is.
    """
    found, findings = {}, []
    for key in (ROOT, COPY):
        try:
            found[key] = load_manifest(store, key)
        except StoreError as error:
            findings.append(Finding(str(error), key=key))
            continue
        if parse(store.read(key, MOST_BYTES), key) != json.loads(
            found[key].files()[key]
        ):  # Zarr would believe the rest
            findings.append(Finding(f"{store}/{key} holds more than a manifest; synth repair writes it again", key=key))
    if not found:
        raise StoreError(findings[0].text)
    if len(found) == 2 and found[ROOT].to_json() != found[COPY].to_json():
        findings.append(
            Finding(f"{store}/{COPY} is not the manifest in {ROOT}; synth repair writes it again", key=COPY)
        )
    return next(iter(found.values())), findings


def check_files(store: Readable, manifest: Manifest) -> Iterator[Finding]:
    """Check every file of a corpus but the manifest: what is missing, damaged, or no part of it."""
    sizes = store.sizes()
    expected = {ROOT, COPY, SOURCES, CARD, ".lock"}
    for key, content in metadata(manifest).items():
        expected.add(key)
        if not _is_json(store, key, sizes, content):
            yield Finding(f"{key} is missing, or not what the manifest asks for; synth repair writes it again", key=key)
    yield from _sources(store, manifest, sizes, expected)
    receipts = read_receipts(store, range(manifest.shard_count))
    lacking = manifest.shard_count - len(receipts)
    if lacking > _MOST_LACKING:
        yield Finding(
            f"{lacking} of {manifest.shard_count} shards are missing; run the command that was making it again"
        )
    for shard in range(manifest.shard_count) if lacking <= _MOST_LACKING else sorted(receipts):
        keys = [array.key(shard) for array in sample_arrays(manifest, shard).values()]
        expected |= {receipt_key(shard), *keys}
        yield from _shard(store, manifest, shard, receipts.get(shard), sizes)
    yield from _card(store, sizes, expected)
    for key in sorted(set(sizes) - expected):
        yield Finding(f"{key}: no part of this corpus; remove it, if it is not yours", foreign=key)


def _is_json(store: Readable, key: str, sizes: dict[str, int], wanted: bytes) -> bool:
    if sizes.get(key, -1) < 0:
        return False
    try:
        return parse(store.read(key, MOST_BYTES), key) == json.loads(wanted)
    except StoreError:
        return False


def _sources(store: Readable, manifest: Manifest, sizes: dict[str, int], expected: set[str]) -> Iterator[Finding]:
    for position in range(len(manifest.sources)):
        expected |= {array.key(position) for array in source_arrays(manifest.size).values()}
    try:
        sums = source_sums(store, manifest)
    except StoreError as error:
        for position in range(len(manifest.sources)):
            yield Finding(str(error), source=position)
        return
    for position, source in enumerate(manifest.sources):
        keys = {array.key(position) for array in source_arrays(manifest.size).values()}
        files = sums.get(str(position), {})
        if set(files) != keys:
            yield Finding(f"source {source['name']}: {SOURCES} does not name its files", source=position)
        for key in sorted(keys & set(files)):
            if said := _differs(store, key, files[key], sizes):
                yield Finding(f"source {source['name']}: {said}", source=position)


def _shard(
    store: Readable, manifest: Manifest, shard: int, receipt: Receipt | None, sizes: dict[str, int]
) -> Iterator[Finding]:
    """Check one shard's files against its receipt."""
    if receipt is None:
        key = receipt_key(shard)
        what = "is damaged" if sizes.get(key, -1) >= 0 else "is not there"
        yield Finding(f"shard {shard}: missing, its receipt {key} {what}; synth repair makes it again", shard=shard)
        return
    if not is_own(manifest, receipt):
        yield Finding(f"shard {shard}: belongs to another corpus; synth repair makes the right one", shard=shard)
        return
    for key, entry in receipt.files.items():
        if said := _differs(store, key, entry, sizes):
            yield Finding(f"shard {shard}: {said}", shard=shard)


def _differs(store: Readable, key: str, entry: dict[str, int | str], sizes: dict[str, int]) -> str | None:
    """Say how a file differs from what a receipt says of it, if it does."""
    size = sizes.get(key)
    if size is None:
        return f"{key} is missing"
    if size < 0:
        return f"{key} is a link, not a file"
    if size != entry["bytes"]:
        return f"{key} has {size} bytes instead of {entry['bytes']}"
    if store.sha256(key) != entry["sha256"]:
        return f"{key} is damaged (its SHA-256 differs from the receipt)"
    return None


def _card(store: Readable, sizes: dict[str, int], expected: set[str]) -> Iterator[Finding]:
    """Check the files that describe the corpus to people and to search engines, if there are any."""
    if CARD not in sizes:
        return
    where = f"{store}/{CARD}"
    try:
        files = check_seal(parse(store.read(CARD, MOST_BYTES), where), where)["files"]
        for key, entry in files.items():
            expected.add(key)
            if said := _differs(store, key, entry, sizes):
                yield Finding(f"{said}; synth card writes it again")
    except (StoreError, KeyError, TypeError, AttributeError):
        yield Finding(f"{CARD} is damaged; synth card writes it again")


def _check_sample(
    corpus: Corpus, ways: list[Way], index: int, out: Sample, content: "hashlib._Hash | None"
) -> list[str]:
    """Check one sample: ranges, layers, Eq. 5, and its recipe; its digest is added to `content`, if given."""
    generation, drawn = corpus.manifest.draw(index)
    try:
        recipe = ways[generation].recipe(corpus.recipes[index, corpus.manifest.own_columns[generation]])
        sample = corpus.read(index, out)
    except ValueError as error:
        return [f"recipe: {error}"]
    except StoreError as error:
        return [str(error)]
    if content is not None:
        content.update(_digest(sample))
    way, drawn_from = ways[generation], corpus.manifest.generations[generation].sources
    wrong = _layers(sample, way.facts) + way.check(recipe, drawn_from, corpus.size)
    if recipe.index != drawn:
        wrong.append(f"its recipe is that of index {recipe.index}, not {drawn}")
    if np.float32(recipe.alpha) != np.float32(sample.alpha):
        wrong.append("its alpha is not the recipe's")
    return wrong


def _digest(sample: Sample) -> bytes:
    z, y, x = (slice(0, side) for side in sample.normal.shape)
    tumour = Tumour((z, y, x), sample.composite, sample.texture, sample.mask, sample.alpha)
    return sample_digest(hashlib.sha256(sample.normal.tobytes()).digest(), sample.normal, tumour)


def _layers(sample: Sample, facts: Facts) -> list[str]:
    """Check what holds for every sample; its layers are float16."""
    inside = sample.mask > 0
    wrong = [
        f"{name} holds NaN or infinity"
        for name in ("composite", "normal", "texture")
        if not np.isfinite(getattr(sample, name)).all()
    ]
    if not (facts.empty or inside.any()):
        wrong.append("the mask is empty")
    if sample.mask.max() > 1:
        wrong.append("the mask is not binary")
    if sample.texture[~inside].any():
        wrong.append("the texture is not 0 outside the mask")
    if facts.target == "composite":
        if (sample.texture != np.where(inside, sample.composite, 0)).any():
            wrong.append("the texture is not the composite inside the mask (texture_target=composite)")
    elif not facts.soft:
        expected = blend(sample.normal[inside], sample.texture[inside], np.float32(sample.alpha))
        if (sample.composite[inside] != expected).any():
            wrong.append("Eq. 5 does not hold inside the mask")
    if not facts.soft and (sample.composite != sample.normal)[~inside].any():
        wrong.append("the composite differs from the normal outside the mask")
    return wrong
