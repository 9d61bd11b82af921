"""What of a validation can be looked into: the newest of each kind, packed, in the folder ``scenes`` of a run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scans.durable import write_atomically
from scans.page.greys import grey_window
from scans.page.scene import Areas, Grey, Scene, oriented_grid, pack
from train.run.pictures import Views

MOST_SCENES = 2  # of a kind: a validation is not to wait for more than a picture takes
MISSED, FALSE = "#f0a202", "#25c5f5"  # distinct for colour-blind readers, on grey
FOUND = "#bb22ff"  # 40 in Lab from both and from greys, as all kinds of colour-blind readers see them
_KEYS = {"name", "layers", "window", "affine", "shape"}  # without which a page could show nothing


def outcome_areas(truth: np.ndarray, mask: np.ndarray) -> Areas:
    """Return what is found, missed and false, of a true and a predicted mask: both bool, shape (z, y, x)."""
    labels = np.zeros(truth.shape, np.uint8)
    for number, area in enumerate((truth & mask, truth & ~mask, mask & ~truth), start=1):
        labels[area] = number
    return Areas("reference and network", labels, (("found", FOUND), ("missed", MISSED), ("false", FALSE)))


def validation_scene(views: Views, name: str, orientation: str) -> Scene:
    """Return what a validation shows of a scan, whole; `orientation` says where its axes x, y, z point."""
    assert views.spacing_mm is not None
    greys = [Grey("input", views.scan, shown=True)]
    greys += [
        Grey(title, voxels)
        for title, voxels in (("predicted normal", views.normal), ("predicted tumour", views.texture))
        if voxels is not None
    ]
    areas = Areas("predicted mask", views.mask.astype(np.uint8), (("found", FOUND),)) if views.mask.any() else None
    return Scene(
        name=name,
        grid=oriented_grid(views.scan.shape, views.spacing_mm, orientation),
        greys=tuple(greys),
        window=grey_window(views.scan),
        unit="the network's units",
        areas=areas if views.truth is None else outcome_areas(views.truth, views.mask),
        focus=views.truth,
    )


def write_scenes(folder: Path, kind: str, step: int, rows: Sequence[Views], orientation: str) -> None:
    """Write the first rows of a validation over those of the one before, as ``KIND.json``.

    Rows that do not say how large their voxels are cannot be shown as they are, and are left out.

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    known = [views for views in rows if views.spacing_mm is not None][:MOST_SCENES]
    if not known:
        return
    packed = [pack(validation_scene(views, f"{kind} {views.name}, step {step:,}", orientation)) for views in known]
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{kind}.json", json.dumps(packed).encode())


def read_scenes(folder: Path, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the scenes of these kinds, those that are there and whole."""
    scenes: list[dict[str, Any]] = []
    for kind in kinds:
        try:
            read = json.loads((folder / f"{kind}.json").read_bytes())
        except (OSError, ValueError):
            continue
        rows = read if isinstance(read, list) else []
        scenes += [each for each in rows if isinstance(each, dict) and each.keys() >= _KEYS]
    return scenes
