"""Small sources and a small corpus that many tests share.

The scans are made here: smooth noise in an ellipsoid, of three sizes. Tests that need real anatomy read the
folder named by DEV_DATA, where there is one.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from scipy import ndimage

from scans.normalisation import Statistics
from scans.region import Region
from synth.source_store import open_to_write, write_source
from synth.sources import SourceStore

settings.register_profile("untimed", deadline=None)  # machines are noisy, and no test here is of speed
settings.load_profile("untimed")

# Files that take longest, longest first: with one of them begun last, all but one core would wait for it.
LONGEST = (
    "test_onnx", "test_pretrain", "test_faults", "test_object_stores", "test_ranks", "test_imports", "test_adapt",
    "test_stats", "test_tables", "test_rehydrate", "test_proxies", "test_synth_cli", "test_hostile", "test_append",
    "test_tasks", "test_segmentation_tasks", "test_real", "test_norm_statistics", "test_recombine",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


SIZE = 32
REGION = Region.model_validate(
    {"name": "test", "modality": "noise", "synthesis": {"shape": {"volume_mm3": [600, 6000]}}}
)


def make_scan(seed: int, size: int = SIZE) -> dict:
    """Make a scan of smooth noise in an ellipsoid, with a lesion in it."""
    rng = np.random.default_rng(seed)
    spacing = (1.6, 1.1 + 0.1 * seed, 1.3)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij"))
    foreground = (grid**2).sum(axis=0) < 0.9
    tissue = 80 + 20 * seed + 300 * ndimage.gaussian_filter(rng.normal(size=foreground.shape), 1.5)
    tissue = np.maximum(tissue, 1).astype(np.float32)
    lesion = ((grid - 0.3) ** 2).sum(axis=0) < 0.02
    roi = foreground & ~lesion
    intensity = np.where(foreground, tissue, 0).astype(np.float32)
    intensity[lesion] = 5000  # unmistakable wherever it should not be
    return {
        "arrays": {
            "intensity": intensity,
            "lent": tissue,
            "roi": roi.astype(np.uint8),
            "foreground": foreground.astype(np.uint8),
        },
        "provenance": {
            "case": f"case{seed}",
            "dataset": "made",
            "licence": "none",
            "terms": "made for a test",
            "redistribute_derived": True,
            "citation": "",
            "files": [],
            "frame": {},
            "spacing_mm": list(spacing),
            "mean": float(np.mean(intensity[roi], dtype=np.float64)),
            "roi_voxels": int(roi.sum()),
            "settings_sha256": hashlib.sha256(b"").hexdigest(),
            "statistics": Statistics.of(intensity[roi]).to_json(),
        },
    }


def make_store(path: Path, count: int, size: int = SIZE, region: Region = REGION) -> Path:
    """Write a store of `count` made scans."""
    with open_to_write(path, region, size):
        for seed in range(count):
            scan = make_scan(seed, size)
            write_source(path, f"made--case{seed}", scan["arrays"], scan["provenance"])
    return path


@pytest.fixture(scope="session")
def sources_path(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("sources") / "sources.zarr", 3)


@pytest.fixture(scope="session")
def sources(sources_path) -> SourceStore:
    return SourceStore(sources_path)


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory, sources, sources_path) -> Path:
    from synth.generate import generate, make_manifest

    out = tmp_path_factory.mktemp("corpus") / "corpus.zarr"
    outcome = generate(make_manifest(sources, samples=22, seed=7, shard_size=8), sources_path, out, workers=0)
    assert not outcome.failed
    return out


@pytest.fixture(scope="session")
def dense_path(tmp_path_factory, sources, sources_path) -> Path:
    """Return the corpus of `corpus_path` in the other layout."""
    from synth.generate import generate, make_manifest

    out = tmp_path_factory.mktemp("dense") / "corpus.zarr"
    manifest = make_manifest(sources, samples=22, seed=7, shard_size=8, layout="dense")
    assert not generate(manifest, sources_path, out, workers=0).failed
    return out


@contextlib.contextmanager
def without_pictures() -> Iterator[None]:
    """Leave out the page and the pictures of trainings, which take longer than a few steps of a tiny network.

    For tests of weights and records alone; what a training shows is tested where it is drawn.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.run_report.leave_report", lambda path, say: None)
        patch.setattr("train.pictures.validation_picture", lambda rows, path: np.zeros((8, 8, 3), np.uint8))
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    """Leave out what trainings draw."""
    with without_pictures():
        yield


@pytest.fixture(scope="session")
def dev_data() -> Path:
    """Return the folder of real development scans, or skip."""
    root = os.environ.get("DEV_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("DEV_DATA names no folder of real scans")
    return Path(root)
