"""The shard writer: what it writes is what Zarr itself would read and write, and a failure leaves nothing."""

import errno
import hashlib

import numpy as np
import pytest
import zarr

from scans.catalog.synthesis import override
from scans.image.box import clip
from synth.corpus.creation import create
from synth.corpus.layout import sample_arrays
from synth.corpus.receipt import sample_digest
from synth.corpus.shard_writer import ShardWriter
from synth.generate.plan import make_manifest
from synth.generators.layers import LAYERS
from synth.generators.way import Way
from synth.store.opening import open_store
from synth.tumour.blend import lay
from synth.tumour.compose import make_layer, make_sample, make_tumour
from synth.tumour.recipe import Recipe
from synth.tumour.sample import Tumour
from tests.made.ways import mixture


class LaidOut:
    """An empty corpus, and the recipes of its six samples."""

    def __init__(self, sources, path, layout, settings=()):
        self.path, self.store = path, open_store(path)
        self.settings = override(sources.region.synthesis, list(settings))
        self.manifest = make_manifest(sources, 6, 3, mixture(self.settings), shard_size=4, layout=layout)
        self.loaded = [sources.load(name) for name in sources.names]
        create(self.store, self.manifest, lambda position: self.loaded[position].normal)
        self.recipes = [Way(LAYERS, self.settings).draw(self.loaded.__getitem__, 3, 3, i) for i in range(6)]

    def write(self, shard):
        with ShardWriter(self.store, self.manifest, shard) as writer:
            for recipe in self.recipes[shard * 4 : shard * 4 + 4]:
                normal = self.loaded[recipe.normal]
                layer = make_layer(recipe, normal, self.loaded[recipe.donor], self.settings)
                tumour = lay(layer, normal.normal, recipe.alpha)
                writer.add(recipe.row(), normal.normal, layer, tumour)
            return writer.commit()

    def sample(self, recipe):
        return make_sample(recipe, self.loaded[recipe.normal], self.loaded[recipe.donor], self.settings)


@pytest.fixture
def dense(sources, tmp_path):
    return LaidOut(sources, tmp_path / "c.zarr", "dense")


@pytest.fixture
def layered(sources, tmp_path):
    return LaidOut(sources, tmp_path / "c.zarr", "layered")


def test_zarr_reads_a_dense_corpus_as_it_was_written(dense):
    for shard in (0, 1):
        dense.write(shard)
    group = zarr.open_group(dense.path, mode="r")
    for index, recipe in enumerate(dense.recipes):
        sample = dense.sample(recipe)
        for name in ("composite", "normal", "texture", "mask"):
            np.testing.assert_array_equal(group[name][index], getattr(sample, name))
        assert group["alpha"][index] == np.float32(sample.alpha)
        assert Recipe.from_row(group["recipes"][index]) == recipe


@pytest.mark.parametrize(("layout", "settings"), [("dense", []), ("layered", []), ("layered", ["mask.soft_mm=1.5"])])
def test_files_are_those_that_zarr_writes(sources, tmp_path, layout, settings):
    """Decoded by Zarr and written again by Zarr, a shard holds the same encoded chunks."""
    laid_out = LaidOut(sources, tmp_path / "c.zarr", layout, settings)
    laid_out.write(0)
    for array in sample_arrays(laid_out.manifest).values():
        ours = zarr.open_array(laid_out.path / array.name, mode="r")
        theirs = zarr.create_array(tmp_path / "zarr" / array.name, **array_like(ours))
        theirs[:4] = ours[:4]
        files = [(place / array.key(0)).read_bytes() for place in (laid_out.path, tmp_path / "zarr")]
        chunks = [sorted(chunks_of(file, 4 * array.chunks)) if ours.shards else [file] for file in files]
        assert chunks[0] == chunks[1]


def array_like(array) -> dict:
    sharding = array.metadata.codecs[0] if array.shards else None
    codecs = sharding.codecs if sharding else array.metadata.codecs
    return {
        "shape": array.shape, "dtype": array.dtype, "chunks": array.chunks, "shards": array.shards,
        "serializer": codecs[0], "compressors": codecs[1:], "fill_value": 0,
        "chunk_key_encoding": {"name": "default", "separator": "."},
    }  # fmt: skip


def chunks_of(shard: bytes, count: int) -> list[bytes]:
    index = np.frombuffer(shard[-(16 * count + 4) : -4], "<u8").reshape(count, 2)
    there = index[index[:, 1] != np.uint64(2**64 - 1)].astype(int)
    return [shard[start : start + length] for start, length in there]


def test_the_last_shard_may_hold_fewer_samples(dense):
    receipt = dense.write(1)
    assert receipt.samples == 2
    index = (dense.path / "mask" / "c.1.0.0.0").read_bytes()[-(16 * 4 + 4) : -4]
    assert index[32:] == b"\xff" * 32  # two chunks that do not exist


def test_a_receipt_sums_its_files(layered):
    receipt = layered.write(0)
    assert set(receipt.files) == {"form/c.0.0", "layer/c.0.0", "box/c.0.0", "alpha/c.0", "recipes/c.0.0"}
    for key, entry in receipt.files.items():
        content = (layered.path / key).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])


def test_content_is_that_of_the_samples_whatever_the_layout(sources, tmp_path):
    written = [LaidOut(sources, tmp_path / layout, layout).write(0) for layout in ("dense", "layered")]
    assert written[0].content == written[1].content
    assert written[0].identity == written[1].identity


def test_a_failure_leaves_neither_file_nor_receipt(layered, monkeypatch):
    before = sorted(layered.path.rglob("*"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        layered.write(0)
    assert sorted(layered.path.rglob("*")) == before


def test_the_digest_is_that_of_the_content_not_of_the_box(dense):
    recipe = dense.recipes[2]
    normal = dense.loaded[recipe.normal]
    tumour = make_tumour(recipe, normal, dense.loaded[recipe.donor], dense.settings)
    wide = clip(tumour.box, [2, 0, 3], dense.manifest.size)
    inner = tuple(slice(t.start - w.start, t.stop - w.start) for t, w in zip(tumour.box, wide, strict=True))
    composite = normal.normal.voxels[wide].copy()
    texture, mask = np.zeros_like(composite), np.zeros(composite.shape, np.uint8)
    composite[inner], texture[inner], mask[inner] = tumour.composite, tumour.texture, tumour.mask
    same = sample_digest(b"n", normal.normal.voxels[wide], Tumour(wide, composite, texture, mask, tumour.alpha))
    assert same == sample_digest(b"n", normal.normal.voxels[tumour.box], tumour)
    mask[tuple(np.argwhere(mask)[0])] = 0
    assert same != sample_digest(b"n", normal.normal.voxels[wide], Tumour(wide, composite, texture, mask, tumour.alpha))
