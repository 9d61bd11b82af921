"""Verify that a corpus holds what it says it holds.

Checks structure, checksums, recipes against the settings, and every promise of a sample, Eq. 5 among them.
Needs the corpus alone, no sources.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scans.durable import sha256
from scans.errors import StoreError
from scans.region import Synthesis
from synth.compose import blend
from synth.corpus import ARRAYS, Corpus, Receipt, Sample, attributes, read_receipts
from synth.recipe import Recipe
from synth.sample import Tumour
from synth.shard_writer import sample_digest
from synth.shards import Plan, load_plan

_LEAST_VOLUME = 1e-3  # mm3; a form shrinks until a centre fits, at the latest to one voxel


def verify(path: Path, samples: int | None = None, checked: Callable[[int], None] = lambda index: None) -> list[str]:
    """Check a corpus.

    Parameters
    ----------
    path : Path
    samples : int, optional
        How many samples to decode and recompute, spread over the corpus; all if not given. Checksums cover
        every shard in any case.
    checked : callable
        Called with the index of each sample that was looked at.

    Returns
    -------
    list of str
        What is wrong, a sentence each; empty if nothing is.

    Raises
    ------
    StoreError
        If there is no corpus at `path`.
    """
    plan = load_plan(path)
    corpus: Corpus | None = None
    findings = check_identity(path, plan)
    try:
        corpus = Corpus(path, partial=True)
    except (StoreError, ValueError, OSError, KeyError, RuntimeError) as error:  # whatever a damaged store raises
        findings.append(str(error))
    sound = set()
    receipts = read_receipts(path)
    for shard in range(plan.shard_count):
        wrong = check_shard(path, plan, shard, receipts.get(shard))
        findings += wrong
        if not wrong:
            sound.add(shard)
    findings += _foreign_files(path, plan)
    if corpus is None:
        return findings
    every = max(1, len(corpus) // samples) if samples else 1
    for shard in sorted(sound):
        content = hashlib.sha256() if every == 1 else None
        for index in plan.indices(shard):
            if index % every == 0:
                findings += check_sample(corpus, plan.settings, index, content)
                checked(index)
        if content is not None:
            findings += _content(corpus, shard, plan.indices(shard), content, receipts[shard])
    return findings


def check_identity(path: Path, plan: Plan) -> list[str]:
    """Check that the corpus's identity is the hash of its own description."""
    if attributes(path)["identity"] != plan.identity:
        return [f"{path}/zarr.json: its identity does not match its settings; the file was changed after it was made"]
    return []


def check_shard(path: Path, plan: Plan, shard: int, receipt: Receipt | None) -> list[str]:
    """Check one shard's files against its receipt."""
    if receipt is None:
        return [f"shard {shard}: missing (no valid receipt); run the same synth generate command again"]
    if receipt.identity != plan.identity:
        return [f"shard {shard}: belongs to another corpus; delete receipts/{shard:06d}.json and generate again"]
    findings = []
    expected = {f"{name}/" for name in ARRAYS}
    if {key.split("/")[0] + "/" for key in receipt.files} != expected:
        findings.append(f"shard {shard}: its receipt does not name one file of each array")
    for key, entry in receipt.files.items():
        file = path / key
        if not file.is_file():
            findings.append(f"shard {shard}: {key} is missing")
        elif file.stat().st_size != entry["bytes"]:
            findings.append(f"shard {shard}: {key} has {file.stat().st_size} bytes instead of {entry['bytes']}")
        elif sha256(file) != entry["sha256"]:
            findings.append(f"shard {shard}: {key} is damaged (its SHA-256 differs from the receipt)")
    return findings


def check_sample(corpus: Corpus, settings: Synthesis, index: int, content: "hashlib._Hash | None" = None) -> list[str]:
    """Check one sample: ranges, layers, Eq. 5, and its recipe; its digest is added to `content`, if given."""
    try:
        sample = corpus[index]
    except StoreError as error:
        return [str(error)]
    if content is not None:
        content.update(_digest(sample))
    recipe = Recipe.from_row(corpus.recipes[index])
    wrong = _layers(sample, settings) + _recipe(recipe, settings, len(corpus.sources), corpus.size)
    if recipe.index != index:
        wrong.append(f"its recipe is that of sample {recipe.index}")
    if np.float32(recipe.alpha) != np.float32(sample.alpha):
        wrong.append("its alpha is not the recipe's")
    return [f"sample {index}: {what}" for what in wrong]


def _digest(sample: Sample) -> bytes:
    composite, normal, texture = (v.astype(np.float16) for v in (sample.composite, sample.normal, sample.texture))
    z, y, x = (slice(0, side) for side in normal.shape)
    tumour = Tumour((z, y, x), composite, texture, sample.mask, sample.alpha)
    return sample_digest(hashlib.sha256(normal.tobytes()).digest(), normal, tumour)


def _content(corpus: Corpus, shard: int, indices: range, content: "hashlib._Hash", receipt: Receipt) -> list[str]:
    rows = slice(indices.start, indices.stop)
    content.update(corpus.alpha[rows].tobytes())
    content.update(corpus.recipes[rows].tobytes())
    return [] if content.hexdigest() == receipt.content else [f"shard {shard}: its content is not the receipt's"]


def _layers(sample: Sample, settings: Synthesis) -> list[str]:
    inside = sample.mask > 0
    wrong = [
        f"{name} holds NaN or infinity"
        for name in ("composite", "normal", "texture")
        if not np.isfinite(getattr(sample, name)).all()
    ]
    if not inside.any():
        wrong.append("the mask is empty")
    if sample.mask.max() > 1:
        wrong.append("the mask is not binary")
    if sample.texture[~inside].any():
        wrong.append("the texture is not 0 outside the mask")
    if settings.texture_target == "composite":
        if (sample.texture != np.where(inside, sample.composite, 0)).any():
            wrong.append("the texture is not the composite inside the mask (texture_target=composite)")
    elif not settings.mask.soft_mm:
        normal, texture = (layer[inside].astype(np.float16) for layer in (sample.normal, sample.texture))
        expected = blend(normal, texture, np.float32(sample.alpha))
        if (sample.composite[inside] != expected).any():
            wrong.append("Eq. 5 does not hold inside the mask")
    if not settings.mask.soft_mm and (sample.composite != sample.normal)[~inside].any():
        wrong.append("the composite differs from the normal outside the mask")
    return wrong


def _recipe(recipe: Recipe, settings: Synthesis, sources: int, size: int) -> list[str]:
    ratios = settings.linear.ratio
    within = {
        "alpha": settings.alpha[0] <= recipe.alpha <= settings.alpha[1],
        "drawn_volume_mm3": settings.shape.volume_mm3[0] <= recipe.drawn_volume_mm3 <= settings.shape.volume_mm3[1],
        "volume_mm3": _LEAST_VOLUME < recipe.volume_mm3 <= recipe.drawn_volume_mm3,
        "axis_ratio": settings.shape.axis_ratio[0] <= recipe.axis_ratio <= settings.shape.axis_ratio[1],
        "octaves": settings.shape.octaves[0] <= recipe.octaves <= settings.shape.octaves[1],
        "ratio": any(low <= recipe.ratio <= high for low, high in ratios),
        "sigma_mm": settings.blur.sigma_mm[0] <= recipe.sigma_mm <= settings.blur.sigma_mm[1],
        "kept": recipe.kept >= settings.mask.least_kept,
        "centre": all(0 <= c < size for c in recipe.centre),
        "shift": all(abs(s) <= settings.donor.shift for s in recipe.shift),
        "normal": 0 <= recipe.normal < sources,
        "donor": 0 <= recipe.donor < sources and (recipe.donor != recipe.normal or sources == 1),
    }
    return [f"recipe: {name} is out of range" for name, right in within.items() if not right]


def _foreign_files(path: Path, plan: Plan) -> list[str]:
    """Name files inside the arrays that no shard of this corpus owns."""
    dots = dict.fromkeys(ARRAYS, ".0.0.0") | {"alpha": "", "recipes": ".0"}
    own = {f"{name}/c.{shard}{dots[name]}" for name in ARRAYS for shard in range(plan.shard_count)}
    own |= {f"{name}/zarr.json" for name in ARRAYS}
    found = {str(file.relative_to(path)) for name in ARRAYS for file in (path / name).rglob("*") if file.is_file()}
    return [f"{key}: no shard of this corpus owns this file" for key in sorted(found - own)]
