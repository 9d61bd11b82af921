"""Small corpora, how they grow, and what two of them have in common."""

from scans.catalog.synthesis import override
from scans.durable import sha256
from synth.corpus.manifest import load_manifest
from synth.generate.plan import grown, make_manifest
from synth.generate.run import generate
from synth.sources.format import finalise, open_to_write, write_source
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from tests.made.sources import REGION, make_scan
from tests.made.ways import mixture


def append(path, sources_path, samples, seed=None, settings=()):
    """Let a corpus grow as the command does."""
    there, sources = load_manifest(open_store(path)), SourceStore(sources_path)
    drawn = override(sources.region.synthesis, list(settings)) if settings else None
    outcome = generate(grown(there, sources, samples, seed, mixture(drawn)), sources_path, path, workers=0)
    assert not outcome.failed
    return outcome


LAYERS = ("composite", "normal", "texture", "mask")


def bits(sample):
    return [getattr(sample, name).tobytes() for name in LAYERS], sample.alpha


def make_corpus(path, sources_path, *settings, samples=22, seed=7, shard_size=8, layout="layered"):
    sources = SourceStore(sources_path)
    drawn = override(sources.region.synthesis, list(settings))
    outcome = generate(
        make_manifest(sources, samples, seed, mixture(drawn), shard_size, layout), sources_path, path, workers=0
    )
    assert not outcome.failed
    return path


def pick_store(path, seeds, region=REGION, **changes):
    """Write a store of the made scans of these seeds, described otherwise."""
    with open_to_write(path, region, 32):
        for seed in seeds:
            scan = make_scan(seed)
            write_source(path, f"made--case{seed}", scan["arrays"], {**scan["provenance"], **changes})
    finalise(path)
    return path


def assert_same(one, i, other, j):
    """Two samples are the same in every bit, and of the same sources."""
    a, b = one[i], other[j]
    for name in ("composite", "normal", "texture", "mask"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), (name, i, j)
    assert a.alpha == b.alpha
    recipes = one.recipe(i), other.recipe(j)
    for recipe, corpus in zip(recipes, (one, other), strict=True):
        for key in ("normal", "donor"):
            recipe[key] = corpus.sources[int(recipe[key])]["content_sha256"]
    assert recipes[0] == recipes[1]
    assert one.settings(i) == other.settings(j)


def files_of(path):
    """Return the checksum of every file of a corpus."""
    skipped = {".lock"}
    return {str(f.relative_to(path)): sha256(f) for f in path.rglob("*") if f.is_file() and f.name not in skipped}


OPTIONS = {
    "default": [],
    "every option": [
        "elastic.mask=true", "mask.soft_mm=1.5", "linear.reference=mask", "donor.shift=2", "donor.outside=zero",
        "shape.volume_law=log-uniform", "linear.ratio=[[0.5,0.8],[1.2,2.5]]",
    ],
}  # fmt: skip
