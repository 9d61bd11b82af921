"""Made scans: smooth noise in an ellipsoid, and stores of them."""

import hashlib
from pathlib import Path

import numpy as np
from scipy import ndimage

from scans.catalog.region import Region
from scans.image.normalisation import Statistics
from synth.sources.format import open_to_write, write_source

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
