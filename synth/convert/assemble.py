"""Gather: a corpus whose every sample stands in another already, copied shard by shard; nothing is drawn again.

What to copy is any manifest of such samples: one in the other layout, or that of `synth.convert.merge` or
`synth.convert.subset`. A worker needs to know no more than which corpora to read: `synth.convert.locate` finds the
samples in them.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from scans.errors import StoreError
from synth.cluster import check_workers
from synth.convert.locate import Whereabouts, drawn_by
from synth.corpus import Corpus
from synth.corpus.codec import SLACK, decode
from synth.corpus.creation import create
from synth.corpus.layout import source_arrays
from synth.corpus.manifest import Manifest
from synth.corpus.receipt import bytes_of, read_receipt
from synth.corpus.shard_writer import ShardWriter
from synth.generate.shards import Filled, ShardDone, fill, writing
from synth.generate.worker import Lender, make_shard, opened
from synth.store.opening import address, open_store
from synth.tumour.blend import lay, layer_of
from synth.tumour.sample import Layer, Normal, Tumour
from synth.tumour.source import MOST_NORMALS

Given = tuple[str, str]  # a corpus to read: where it is, and its identity, so that none changes unnoticed

_MOST_READ = 4  # corpora that a worker keeps open


def gather(
    manifest: Manifest,
    corpora: Sequence[Corpus],
    out: str | Path,
    sources: Path | None = None,
    cluster: str = "local",
    workers: int | None = None,
    progress: Callable[[ShardDone], None] = lambda step: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Filled:
    """Make a corpus out of others, or finish one that an earlier run began.

    Parameters
    ----------
    manifest : Manifest
        What it is to hold, all of it in `corpora`: from `synth.generate.plan.arranged`,
        `synth.convert.merge.merged` or `synth.convert.subset.subset`.
    corpora : sequence of Corpus
        Finished ones; they stay as they are.
    out : str or Path
        The corpus to make: a folder or a URL.
    sources : Path, optional
        A store of all its sources: samples are drawn again from there, which brings back what a dense corpus has
        lost, the parts of tumours outside their normals' ROI. They must come out as the receipts say.
    cluster, workers
        See :func:`synth.cluster.open_cluster`.
    progress, say : callable
        See :func:`synth.generate.shards.fill`.

    Raises
    ------
    CatalogError
        If there is no such cluster, or its scheduler goes away.
    StoreError
        If `out` is one of `corpora`, lies in one, or holds something else; if another run is writing it; if a dense
        corpus does not tell its tumours from their normals, and `manifest` asks for that.
    """
    check_workers(cluster, workers)
    given = tuple((address(corpus.store.where), corpus.identity) for corpus in corpora)
    for where, _ in given:
        if f"{address(out)}/".startswith(f"{where}/"):
            raise StoreError(f"{out} is {where}, or lies in it; choose another --out")
    if sources is None:
        _check_layers(manifest, corpora)
        work = functools.partial(copy_shard, given, address(out), manifest.identity)
    else:
        Lender(sources.resolve(), manifest)  # refuses what is no store of sources
        work = functools.partial(_make_again, sources.resolve(), given, address(out), manifest.identity)
    store = open_store(out)
    create(store, manifest, functools.partial(_normal_of, manifest, corpora))
    with writing(store):
        return fill(store, manifest, work, range(manifest.shard_count), cluster, workers, progress, say)


def _check_layers(manifest: Manifest, corpora: Sequence[Corpus]) -> None:
    """Raise StoreError if the layout wanted needs layers that a dense corpus does not know."""
    for corpus in corpora:
        hard = all(not g.facts.soft and g.facts.target == "texture" for g in corpus.manifest.generations)
        if manifest.layout == "layered" and corpus.layout == "dense" and not hard:
            raise StoreError(
                f"{corpus.store} is dense, and was made with soft edges or texture_target=composite: its tumours "
                "cannot be told from their normals; stay with --layout dense, or use synth convert with --sources"
            )


def _normal_of(manifest: Manifest, corpora: Sequence[Corpus], position: int) -> Normal:
    wanted = manifest.sources[position]["content_sha256"]
    for corpus in corpora:
        for number, source in enumerate(corpus.manifest.sources):
            if source["content_sha256"] == wanted:
                return corpus.source(number)
    raise StoreError(f"no corpus given holds source {manifest.sources[position]['name']}")


# Workers.


def copy_shard(given: tuple[Given, ...], out: str, identity: str, shard: int) -> int:
    """Copy the samples of one shard from the corpora that hold them, and commit it.

    Parameters
    ----------
    given : tuple of (str, str)
        Where the corpora are, and their identities.
    out : str
        The corpus to make, which says what it holds.
    identity : str
        Of it.
    shard : int

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    StoreError
        If a sample cannot be read, or what is copied is not what it was.
    """
    store, manifest = opened(out, identity)
    names, positions = _named(out, identity)
    try:
        with ShardWriter(store, manifest, shard) as writer:
            for generation, first, count in manifest.draws(manifest.indices(shard)):
                for start, stop, run in _whereabouts(given).find(names[generation], first, first + count):
                    if run is None:
                        raise StoreError(f"{out}: no corpus given holds sample {start} of generation {generation}")
                    corpus = _corpus(*given[run.corpus])
                    for index in range(run.at, run.at + stop - start):
                        recipe = corpus.recipe(index)
                        for name in ("normal", "donor"):
                            recipe[name] = positions[corpus.manifest.sources[int(recipe[name])]["content_sha256"]]
                        normal = _normal(out, identity, int(recipe["normal"]))
                        row = np.array([recipe.get(name, np.nan) for name in manifest.columns])
                        writer.add(row, normal, *_copied(corpus, index, normal, manifest.layout))
            receipt = writer.commit(_content(given, identity, shard))
    except StoreError:
        _corpus.cache_clear()  # it may be mended before a worker that lives on tries again
        raise
    return bytes_of(receipt)


def _make_again(sources: Path, given: tuple[Given, ...], out: str, identity: str, shard: int) -> int:
    return make_shard(sources, out, identity, shard, _content(given, identity, shard))


def _copied(corpus: Corpus, index: int, normal: Normal, layout: str) -> tuple[Layer | None, Tumour]:
    if corpus.layout == "layered":
        layer = corpus.layer(index)
        return layer, lay(layer, normal, float(corpus.alpha[index]), corpus.generation(index).facts.target)
    tumour = corpus.tumour(index)
    return layer_of(tumour) if layout == "layered" else None, tumour


def _content(given: tuple[Given, ...], identity: str, shard: int) -> str | None:
    """Return what a shard must hold, if a corpus given has the same shards."""
    for where, own in given:
        if own == identity:
            receipt = read_receipt(*opened(where, own), shard)
            if receipt is None:
                raise StoreError(f"{where}: shard {shard} has lost its receipt; run synth verify")
            return receipt.content
    return None


@functools.lru_cache(maxsize=1)
def _named(out: str, identity: str) -> tuple[list[str], dict[str, int]]:
    """Return the names of a corpus's generations, and the position of each source by its content."""
    _, manifest = opened(out, identity)
    return drawn_by(manifest), {source["content_sha256"]: p for p, source in enumerate(manifest.sources)}


@functools.lru_cache(maxsize=1)
def _whereabouts(given: tuple[Given, ...]) -> Whereabouts:
    known = Whereabouts()
    for where, identity in given:
        _, manifest = opened(where, identity)
        for _ in known.add(manifest):
            pass
    return known


@functools.lru_cache(maxsize=_MOST_READ)
def _corpus(where: str, identity: str) -> Corpus:
    corpus = Corpus(where)
    if corpus.identity != identity:
        raise StoreError(f"{where} became another corpus meanwhile; run the command again")
    return corpus


@functools.lru_cache(maxsize=MOST_NORMALS)
def _normal(out: str, identity: str, position: int) -> Normal:
    """Read a source of the corpus that is made: it has each but once, in how many others it may stand."""
    store, manifest = opened(out, identity)
    voxels, roi = (
        decode(array, store.read(array.key(position), 2 * array.chunk_bytes + SLACK)).reshape(array.row)
        for array in source_arrays(manifest.size).values()
    )
    return Normal(voxels, roi.view(bool))
