"""Stats: what recipes and their tumours look like in numbers, beside the laws they were drawn from."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scans.errors import StoreError
from scans.image.box import tight_box
from synth.cluster import open_cluster
from synth.generators.way import Way
from synth.sources.reader import SourceStore
from synth.tasks import Failure, run_tasks
from synth.tumour.source import Source

if TYPE_CHECKING:
    from distributed import Client


MEASURED = ("form_mm3", "kept_mm3", "sphericity", "texture_ratio", "contrast")
PLACED = ("along_z", "along_y", "along_x", "depth_mm")
ENOUGH_VOXELS = 200  # below, the surface of a digital ball is off by more than 2 %
_CHUNK = 10  # samples a task
_DEPTH_STEP_MM = 0.1

_open = functools.lru_cache(maxsize=1)(SourceStore)  # once for each store

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Roi:
    """Where in one source a tumour may be centred.

    Attributes
    ----------
    along : dict of str to ndarray of float64, shape (2, n)
        By name of :data:`PLACED`: values over the ROI's voxels, and how many voxels have each. The first three say how
        far along the ROI's bounding box a voxel lies, 0 to 1; the last its distance from the ROI's surface in mm.
    """

    along: dict[str, np.ndarray]


@dataclass(frozen=True)
class Measurement:
    """Samples 0 to n - 1 of a corpus, measured.

    Attributes
    ----------
    sources : list of str
    way : Way
        How they are made.
    seed : int
    values : dict of str to ndarray of float64, shape (n,)
        By name of the recipe's columns, :data:`MEASURED` and :data:`PLACED`; what is measured wins where a column has
        its name. ``form_mm3``: volume of the whole form's voxels; ``kept_mm3``: of those that the ROI left;
        ``sphericity`` of the latter, NaN where there are too few; ``texture_ratio``: mean of the texture inside the
        mask, in raw units, over the normal's mean; ``contrast``: mean of composite minus normal inside the mask,
        in standard deviations of the normal's ROI; then where the centre lies, as in :class:`Roi`.
    masks : list of bytes
        SHA-256 of each mask, cut to its bounding box.
    rois : list of Roi
        Of each source.
    outshone : dict of str to ndarray of float64, shape (n,)
        Columns of the recipe whose name something measured has.
    """

    sources: list[str]
    way: Way
    seed: int
    values: dict[str, np.ndarray]
    masks: list[bytes]
    rois: list[Roi]
    outshone: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def recipes(self) -> dict[str, np.ndarray]:
        """What was drawn, by name of the recipe's columns."""
        return {name: self.outshone.get(name, self.values[name]) for name in self.way.columns}

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.masks)

    def duplicates(self) -> dict[str, list[tuple[int, int]]]:
        """Return pairs (first, later) of samples with the same recipe, the same noise seed or the same mask."""
        recipes = self.recipes
        recipe = [numbers for name, numbers in recipes.items() if name != "index"]
        masks: list[Any] = [  # a scan without a tumour is no duplicate
            mask if volume else number
            for number, (mask, volume) in enumerate(zip(self.masks, self.values["kept_mm3"], strict=True))
        ]
        kinds: dict[str, Sequence[Any]] = {"recipes": list(zip(*recipe, strict=True)), "masks": masks}
        if {"noise_high", "noise_low"} <= recipes.keys():
            kinds["noise seeds"] = list(zip(recipes["noise_high"], recipes["noise_low"], strict=True))
        found = {}
        for name, keys in kinds.items():
            first: dict[Any, int] = {}
            found[name] = [(first[key], i) for i, key in enumerate(keys) if first.setdefault(key, i) != i]
        return found


def measure(
    sources: Path,
    way: Way,
    seed: int,
    count: int,
    cluster: str = "local",
    workers: int | None = 0,
    progress: Callable[[int], None] = lambda samples: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Measurement:
    """Draw samples 0 to `count` - 1, make their tumours, and measure them; the same whatever `workers` is.

    Parameters
    ----------
    sources : Path
        A store with at least one source.
    way : Way
    seed : int
        Of the corpus, 0 to 2**64 - 1.
    count : int
        At least 1.
    cluster : str
        Where to work; see :func:`synth.cluster.open_cluster`.
    workers : int, optional
        Worker processes of ``local``; all cores if not given, none (this process works) if 0.
    progress : callable
        Called with the number of samples measured since the last call.
    say : callable
        Called with a sentence about the cluster.

    Raises
    ------
    CatalogError
        If there is no such cluster, or its scheduler goes away.
    StoreError
        If the store is missing or damaged, or workers are killed.
    """
    sources = sources.resolve()
    if way.tumours:
        raise StoreError("donor.tumours: synth stats measures forms that are drawn; real tumours follow no law")
    names = SourceStore(sources).drawn_from()
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    rows, masks = np.empty((count, len(way.columns) + len(MEASURED))), [b""] * count
    placed, rois = np.empty((count, len(PLACED))), [Roi({})] * len(names)
    with open_cluster(cluster, workers, len(chunks), say) as client:
        for chunk, (some, hashes) in _run(client, functools.partial(_measure, sources, way, seed), chunks):
            rows[chunk.start : chunk.stop], masks[chunk.start : chunk.stop] = some, hashes
            progress(len(chunk))
        values = {name: rows[:, column] for column, name in enumerate((*way.columns, *MEASURED))}
        outshone = {name: rows[:, column] for column, name in enumerate(way.columns) if name in (*MEASURED, *PLACED)}
        centres = np.stack([values["centre_z"], values["centre_y"], values["centre_x"]], axis=1).astype(int)
        within = [np.flatnonzero(values["normal"] == position) for position in range(len(names))]
        todo = [(position, centres[where]) for position, where in enumerate(within)]
        for (position, _), (roi, found) in _run(client, functools.partial(_examine, sources), todo):
            rois[position], placed[within[position]] = roi, found
    values |= {name: placed[:, column] for column, name in enumerate(PLACED)}
    return Measurement(names, way, seed, values, masks, rois, outshone)


def sphericity(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Return the surface of a ball of the mask's volume over the mask's own; 1 for a ball, less for all else.

    Parameters
    ----------
    mask : ndarray of uint8, shape (z, y, x)
    spacing_mm : tuple of float
        Voxel sides (z, y, x).

    Returns
    -------
    float
        NaN for a mask of fewer than :data:`ENOUGH_VOXELS` voxels.

    Notes
    -----
    ITK's estimate of the surface (``LabelShapeStatisticsImageFilter``, roundness): Crofton's formula, intersections
    with lines of 13 directions (Lehmann and Legland 2012). Within 2 % of smooth balls and ellipsoids while a voxel's
    sides differ by at most 1.4 times, as they do in a brain's box; 5 % for an ellipsoid of voxels 2.5 times as thick.
    """
    import SimpleITK as sitk

    if np.count_nonzero(mask) < ENOUGH_VOXELS:
        return float("nan")
    image = sitk.GetImageFromArray(np.pad(mask, 1))  # padded: the surface at the box's faces counts
    image.SetSpacing(spacing_mm[::-1])
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.SetNumberOfThreads(1)
    shape.ComputePerimeterOn()
    shape.Execute(image)
    return float(shape.GetRoundness(1))


def _measure(store: Path, way: Way, seed: int, indices: range) -> tuple[np.ndarray, list[bytes]]:
    """Return a row of numbers and a hash of the mask for each sample."""
    opened = _open(store)
    names = opened.drawn_from()

    def lend(position: int) -> Source:
        return opened.load(names[position])

    rows, hashes = [], []
    for index in indices:
        recipe = way.draw(lend, len(names), seed, index)
        normal, donor = lend(recipe.normal), lend(recipe.donor)
        tumour = way.tumour(recipe, normal, donor)
        mask, inside = tumour.mask, tumour.mask.astype(bool)
        voxel_mm3, voxels = float(np.prod(normal.spacing_mm)), int(np.count_nonzero(mask))
        texture = tumour.texture[inside].astype(np.float64) * normal.statistics.std + normal.statistics.mean
        added = tumour.composite.astype(np.float32) - normal.normal.voxels[tumour.box].astype(np.float32)
        measured = [
            round(voxels / recipe.kept) * voxel_mm3 if voxels else 0.0,
            voxels * voxel_mm3,
            sphericity(mask, normal.spacing_mm),
            texture.mean() / normal.mean if voxels else np.nan,
            added[inside].mean(dtype=np.float64) / _deviation(store, normal.name) if voxels else np.nan,
        ]
        rows.append(np.concatenate([recipe.row(), measured]))
        hashes.append(_digest(mask))
    return np.stack(rows), hashes


def _examine(store: Path, task: tuple[int, np.ndarray]) -> tuple[Roi, np.ndarray]:
    """Return where the ROI's voxels lie in one source, and where the given centres (k, 3) do: float64 (k, 4)."""
    from scipy.ndimage import distance_transform_edt

    position, centres = task
    source = _open(store).load(_open(store).drawn_from()[position])
    depth = distance_transform_edt(np.pad(source.roi, 1), sampling=source.spacing_mm)[1:-1, 1:-1, 1:-1]
    depth = np.round(depth / _DEPTH_STEP_MM) * _DEPTH_STEP_MM
    along, found = {}, []
    for axis, name in enumerate(PLACED[:3]):
        voxels = source.roi.sum(axis=tuple({0, 1, 2} - {axis}))
        first, last = np.flatnonzero(voxels)[[0, -1]]
        fractions = (np.arange(len(voxels)) - first + 0.5) / (last - first + 1)
        along[name] = np.stack([fractions[first : last + 1], voxels[first : last + 1].astype(np.float64)])
        found.append(fractions[centres[:, axis]])
    along[PLACED[3]] = np.stack([part.astype(np.float64) for part in np.unique(depth[source.roi], return_counts=True)])
    found.append(depth[tuple(centres.T)])
    return Roi(along), np.stack(found, axis=1)


def _digest(mask: np.ndarray) -> bytes:
    tight = mask[tight_box(mask)] if mask.any() else mask[:0]
    return hashlib.sha256(repr(tight.shape).encode() + np.packbits(tight).tobytes()).digest()


@functools.cache
def _deviation(store: Path, name: str) -> float:
    source = _open(store).load(name)
    return float(source.normal.voxels[source.roi].std(dtype=np.float64))


def _run(
    client: "Client | None", function: Callable[[Task], Result], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Result]]:
    """Yield each task and its result, as they are done."""
    with contextlib.closing(run_tasks(client, function, tasks, "measure")) as results:
        for task, result in results:
            if isinstance(result, Failure):
                raise StoreError(result.reason)
            yield task, result
