"""The page on the format is true: a reader that follows it, with Zarr alone, reads what ours reads."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from scans.catalog.synthesis import override
from synth.corpus import Corpus
from synth.corpus.layout import metadata
from synth.corpus.manifest import VERSION
from synth.generate.plan import grown, make_manifest
from synth.generate.run import generate
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from synth.tumour.recipe import COLUMNS
from tests.made.plain_reader import read
from tests.made.ways import mixture

PAGE = (Path(__file__).parents[3] / "docs" / "corpus-format.md").read_text(encoding="utf-8")
SETTINGS = {
    "default": [],
    "soft": ["mask.soft_mm=1.5"],
    "composite": ["texture_target=composite"],
    "soft composite": ["mask.soft_mm=1.5", "texture_target=composite", "elastic.mask=true"],
}


def same(path):
    corpus = Corpus(path)
    for index in range(len(corpus)):
        sample = corpus[index]
        composite, normal, texture, mask, alpha = read(path, index)
        for name, values in (("composite", composite), ("normal", normal), ("texture", texture), ("mask", mask)):
            np.testing.assert_array_equal(getattr(sample, name), values, err_msg=f"{name} of {index}")
            assert values.dtype == (np.uint8 if name == "mask" else np.float16)
        assert sample.alpha == alpha


@pytest.mark.parametrize("layout", ["layered", "dense"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_reader_of_forty_lines_and_zarr_alone_reads_the_same(sources, sources_path, tmp_path, layout, name):
    manifest = make_manifest(sources, 5, 3, mixture(override(sources.region.synthesis, SETTINGS[name])), 4, layout)
    assert not generate(manifest, sources_path, tmp_path / "c.zarr", workers=0).failed
    same(tmp_path / "c.zarr")


def test_it_reads_a_corpus_that_has_grown(sources, sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    generate(make_manifest(sources, 5, 3, shard_size=4), sources_path, out, workers=0)
    for total, changed in ((7, ["mask.soft_mm=1.0"]), (10, ["texture_target=composite"])):
        settings = override(sources.region.synthesis, changed)
        manifest = grown(Corpus(out).manifest, SourceStore(sources_path), total, seed=total, mixture=mixture(settings))
        assert not generate(manifest, sources_path, out, workers=0).failed
    assert len(Corpus(out)) == 10
    same(out)


def test_the_reader_is_as_short_as_the_page_says():
    source = (Path(__file__).parents[2] / "made" / "plain_reader.py").read_text(encoding="utf-8")
    body = source[source.index("def read(") : source.index("def drawn(")].strip().splitlines()[2:]
    assert len([line for line in body if line.strip()]) <= 40
    assert {line for line in source.splitlines() if line.startswith(("import", "from"))} == {
        "import numpy as np",
        "import zarr",
    }


@pytest.mark.parametrize("layout", ["layered", "dense"])
def test_zarr_understands_every_array_as_the_page_lists_it(sources, sources_path, tmp_path, layout):
    manifest = make_manifest(sources, 5, 3, mixture(override(sources.region.synthesis, ["mask.soft_mm=1"])), 4, layout)
    generate(manifest, sources_path, tmp_path / "c.zarr", workers=0)
    group = zarr.open_group(tmp_path / "c.zarr", mode="r")
    for key in metadata(manifest):
        name = key.removesuffix("/zarr.json")
        if name == "sources":
            continue
        array = group[name]
        assert isinstance(array, zarr.Array)
        assert array.metadata.dimension_names[0] == ("source" if name.startswith("sources/") else "sample")
        assert name.removeprefix("sources/") in PAGE
        codecs = json.dumps(json.loads((tmp_path / "c.zarr" / key).read_bytes())["codecs"])
        assert "crc32c" in codecs


def test_the_page_names_version_attributes_and_columns(corpus_path):
    manifest = json.loads(open_store(corpus_path).read("manifest.json"))
    assert f"format {VERSION}" in PAGE
    for name in manifest:
        assert f"`{name}`" in PAGE, name
    for name in COLUMNS:
        stem = name.rsplit("_", 1)[0] if name.split("_")[-1] in ("y", "x", "low", "z") else name
        assert stem in PAGE, name
