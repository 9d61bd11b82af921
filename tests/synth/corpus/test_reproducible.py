"""The same corpus on any machine: the content of one small corpus, known beforehand.

The sources are made by whole-number arithmetic, so that nothing before the synthesis can differ. Were this
hash to change, every recipe shared between labs would rebuild another corpus: raise the corpus's version then.
"""

import numpy as np
import pytest

from scans.catalog.region import Region
from scans.catalog.synthesis import override
from synth.corpus import Corpus
from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.sources.format import open_to_write, write_source
from synth.sources.reader import SourceStore
from tests.made.corpora import OPTIONS
from tests.made.sources import make_scan
from tests.made.ways import mixture

CONTENT = {
    "default": "2e78e706e86c1f379d30a89a7e14c515b58f81224a29a015411012cac0a9fda5 "
    "4783824a545a42fe48dd88b940b6935258bc1017ad6173fbfa4b2364468cc110",
    "every option": "81cde3fa691e42e1cf88d5e39e6dbbacba32c038acf42b38358d48b950503769 "
    "163c4dd9b90a654d395d23cc31fa7941e6c5292326f37572710372c15f1ecf81",
}


def whole_number_scan(seed: int) -> dict:
    z, y, x = np.meshgrid(*[np.arange(32)] * 3, indexing="ij")
    tissue = ((z * 7919 + y * 104729 + x * 1299709 + seed * 15485863) % 251 + 40).astype(np.float32)
    foreground = (z - 16) ** 2 + (y - 16) ** 2 + (x - 16) ** 2 < 15**2
    scan = make_scan(seed)
    scan["arrays"] = {
        "intensity": np.where(foreground, tissue, np.float32(0)),
        "lent": tissue,
        "roi": foreground.astype(np.uint8),
        "foreground": foreground.astype(np.uint8),
    }
    scan["provenance"] |= {
        "spacing_mm": [1.5, 1.25, 1.0],
        "mean": 165.25 + seed,
        "roi_voxels": int(foreground.sum()),
        "statistics": {"mean": 165.25 + seed, "std": 72.5, "low": None, "high": None},
    }
    return scan


@pytest.mark.parametrize("name", CONTENT)
def test_content_is_what_it_was_on_every_machine_before(name, tmp_path):
    region = Region.model_validate({"name": "t", "modality": "t", "synthesis": {"shape": {"volume_mm3": [400, 4000]}}})
    with open_to_write(tmp_path / "s.zarr", region, 32):
        for seed in range(3):
            scan = whole_number_scan(seed)
            write_source(tmp_path / "s.zarr", f"n--{seed}", scan["arrays"], scan["provenance"])
    settings = override(region.synthesis, OPTIONS[name])
    plan = make_manifest(
        SourceStore(tmp_path / "s.zarr"), samples=6, seed=2**63 + 5, mixture=mixture(settings), shard_size=4
    )
    assert not generate(plan, tmp_path / "s.zarr", tmp_path / "c.zarr", workers=0).failed
    contents = [receipt.content for _, receipt in sorted(Corpus(tmp_path / "c.zarr").receipts.items())]
    assert contents == CONTENT[name].split()
