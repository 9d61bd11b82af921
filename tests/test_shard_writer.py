"""The shard writer: what it writes is what Zarr itself would read and write, and a failure leaves nothing."""

import errno
import hashlib

import numpy as np
import pytest
import zarr

from synth.compose import make_sample, make_tumour
from synth.generate import make_plan
from synth.place import clip
from synth.recipe import Recipe, draw_recipe
from synth.sample import Tumour
from synth.shard_writer import ShardWriter, sample_digest
from synth.shards import create


@pytest.fixture
def laid_out(sources, tmp_path):
    plan = make_plan(sources, samples=6, seed=3, shard_size=4)
    create(tmp_path / "c.zarr", plan)
    loaded = [sources.load(name) for name in sources.names]
    recipes = [draw_recipe(loaded.__getitem__, len(loaded), plan.settings, plan.seed, i) for i in range(6)]
    return tmp_path / "c.zarr", plan, loaded, recipes


def write(path, plan, loaded, recipes, shard):
    with ShardWriter(path, shard, 4, plan.size, plan.identity) as writer:
        for recipe in recipes[shard * 4 : shard * 4 + 4]:
            normal = loaded[recipe.normal]
            writer.add(recipe, normal, make_tumour(recipe, normal, loaded[recipe.donor], plan.settings))
        return writer.commit()


def test_zarr_reads_what_was_written(laid_out):
    path, plan, loaded, recipes = laid_out
    for shard in (0, 1):
        write(path, plan, loaded, recipes, shard)
    group = zarr.open_group(path, mode="r")
    for index, recipe in enumerate(recipes):
        sample = make_sample(recipe, loaded[recipe.normal], loaded[recipe.donor], plan.settings)
        for name in ("composite", "normal", "texture", "mask"):
            np.testing.assert_array_equal(group[name][index], getattr(sample, name))
        assert group["alpha"][index] == np.float32(sample.alpha)
        assert Recipe.from_row(group["recipes"][index]) == recipe


def test_chunks_are_those_that_zarr_writes(laid_out, tmp_path):
    """Decoded by Zarr and written again by Zarr, a shard holds the same encoded chunks."""
    path, plan, loaded, recipes = laid_out
    write(path, plan, loaded, recipes, 0)
    for name in ("composite", "normal", "texture", "mask", "alpha", "recipes"):
        ours = zarr.open_array(path / name, mode="r")
        theirs = zarr.create_array(tmp_path / name, **array_like(ours))
        theirs[:4] = ours[:4]
        key = "c.0" + ".0" * (ours.ndim - 1)
        files = [(place / key).read_bytes() for place in (path / name, tmp_path / name)]
        chunks = [sorted(chunks_of(file, 4)) if ours.shards else [file] for file in files]
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
    index = np.frombuffer(shard[-(16 * count + 4) : -4], "<u8").reshape(count, 2).astype(int)
    return [shard[start : start + length] for start, length in index]


def test_the_last_shard_may_hold_fewer_samples(laid_out):
    path, plan, loaded, recipes = laid_out
    receipt = write(path, plan, loaded, recipes, 1)
    assert receipt.samples == 2
    index = (path / "mask" / "c.1.0.0.0").read_bytes()[-(16 * 4 + 4) : -4]
    assert index[32:] == b"\xff" * 32  # two chunks that do not exist


def test_a_receipt_sums_its_files(laid_out):
    path, plan, loaded, recipes = laid_out
    receipt = write(path, plan, loaded, recipes, 0)
    assert len(receipt.files) == 6
    for key, entry in receipt.files.items():
        content = (path / key).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])


def test_a_failure_leaves_neither_file_nor_receipt(laid_out, monkeypatch):
    path, plan, loaded, recipes = laid_out
    before = sorted(path.rglob("*"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, plan, loaded, recipes, 0)
    assert sorted(path.rglob("*")) == before


def test_the_digest_is_that_of_the_content_not_of_the_box(laid_out):
    _, plan, loaded, recipes = laid_out
    recipe = recipes[2]
    normal = loaded[recipe.normal]
    tumour = make_tumour(recipe, normal, loaded[recipe.donor], plan.settings)
    wide = clip(tumour.box, [2, 0, 3], plan.size)
    inner = tuple(slice(t.start - w.start, t.stop - w.start) for t, w in zip(tumour.box, wide, strict=True))
    composite = normal.normal[wide].copy()
    texture, mask = np.zeros_like(composite), np.zeros(composite.shape, np.uint8)
    composite[inner], texture[inner], mask[inner] = tumour.composite, tumour.texture, tumour.mask
    same = sample_digest(b"n", normal.normal[wide], Tumour(wide, composite, texture, mask, tumour.alpha))
    assert same == sample_digest(b"n", normal.normal[tumour.box], tumour)
    mask[tuple(np.argwhere(mask)[0])] = 0
    assert same != sample_digest(b"n", normal.normal[wide], Tumour(wide, composite, texture, mask, tumour.alpha))
