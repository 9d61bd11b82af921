"""Sources: prepared scans in one Zarr v3 store, each committed by attributes written last.

A source is a group ``DATASET--CASE`` of four arrays (z, y, x), one chunk each. Zarr reads a missing chunk as
zeros, so nothing counts without its attributes, and every load is checked against the hash among them.
"""

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from scans.errors import StoreError
from scans.preparation import Statistics, scale
from scans.region import Region
from synth.durable import only_writer, sync, write_text

FORMAT = "layered-tumors-sources"
VERSION = 1
ARRAYS = {"intensity": "float32", "lent": "float32", "roi": "uint8", "foreground": "uint8"}
_MOST_VALUES = 2**26  # ROI voxels that common statistics are taken over


@dataclass(frozen=True)
class Source:
    """A prepared normal scan.

    Attributes
    ----------
    name : str
    intensity : ndarray of float32, shape (z, y, x)
        Raw, non-negative, 0 outside the foreground.
    lent : ndarray of float32, same shape
        What the source lends as a donor: its healthy tissue, mirrored at the tissue's edge into lesions and
        past the foreground, so that there is tissue everywhere.
    roi : ndarray of bool, same shape
        Where a tumour may be centred and visible: the foreground without lesions.
    foreground : ndarray of bool, same shape
        The region of interest, lesions included.
    spacing_mm : tuple of float
        Voxel sides (z, y, x) in mm.
    mean : float
        Mean raw intensity over `roi` (Eq. 4).
    statistics : Statistics
        To the network's units.
    provenance : dict
        Where the scan comes from, and under which terms.
    """

    name: str
    intensity: np.ndarray
    lent: np.ndarray
    roi: np.ndarray
    foreground: np.ndarray
    spacing_mm: tuple[float, float, float]
    mean: float
    statistics: Statistics
    provenance: dict[str, Any]

    def to_network(self, raw: np.ndarray) -> np.ndarray:
        """Bring raw intensities to the network's units by this source's statistics.

        Parameters
        ----------
        raw : ndarray of float32

        Returns
        -------
        ndarray of float32, same shape
            Every number is exact in float16.
        """
        return scale(raw, self.statistics).astype(np.float16).astype(np.float32)

    @functools.cached_property
    def normal(self) -> np.ndarray:
        """The scan in the network's units, float16, shape (z, y, x); 0 outside the foreground."""
        return np.where(self.foreground, self.to_network(self.intensity), np.float32(0)).astype(np.float16)

    @functools.cached_property
    def _roi_voxels(self) -> np.ndarray:
        return np.flatnonzero(self.roi).astype(np.int32)

    @property
    def roi_count(self) -> int:
        """Voxels of `roi`."""
        return int(self._roi_voxels.size)

    def roi_voxel(self, position: int) -> tuple[int, int, int]:
        """Return the index (z, y, x) of voxel number `position` of `roi`, in C order."""
        z, y, x = np.unravel_index(int(self._roi_voxels[position]), self.roi.shape)
        return int(z), int(y), int(x)


class SourceStore:
    """Read a store of sources.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    StoreError
        If there is no such store at `path`, or the statistics its sources share are not there yet.

    Attributes
    ----------
    names : list of str
        Finished sources, sorted.
    region : Region
    size : int
        Voxels along each side.
    statistics : dict or None
        Normalisation that all sources share (``window``), or None where each has its own.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        attributes = _store_attributes(self.path)
        try:
            self.region = Region.model_validate(attributes["region"])
        except ValidationError as error:
            raise StoreError(f"{self.path} was made with settings that this program does not know") from error
        self.size = int(attributes["size"])
        self.statistics: dict[str, Any] | None = attributes["statistics"]
        self._provenance = finished_sources(self.path)
        self.names = sorted(self._provenance)
        if self.names and self.region.normalisation.kind == "window" and self.statistics is None:
            raise StoreError(
                f"{self.path} lacks the statistics its sources share; run synth prepare again to finish it"
            )

    @property
    def content_hash(self) -> str:
        """SHA-256 over the content of every finished source and the statistics they share."""
        content = [[name, self._provenance[name]["content_sha256"]] for name in self.names]
        return hashlib.sha256(json.dumps([content, self.statistics], sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        """Finished sources."""
        return len(self.names)

    def provenance(self, name: str) -> dict[str, Any]:
        """Return the attributes of source `name`: dataset, terms, files and their hashes, frame, statistics."""
        if name not in self._provenance:
            raise StoreError(f"{self.path} has no source {name}; there are {', '.join(self.names) or 'none'}")
        return {"name": name, **self._provenance[name]}

    def load(self, name: str) -> Source:
        """Read source `name`, checked against its hash.

        Raises
        ------
        StoreError
            If it is not there or damaged.
        """
        provenance = self.provenance(name)
        arrays = read_arrays(self.path, name)
        if content_sha256(arrays, provenance) != provenance["content_sha256"]:
            raise StoreError(f"{self.path}: source {name} is damaged; run synth prepare again to mend it")
        statistics = self.statistics if self.region.normalisation.kind == "window" else provenance["statistics"]
        z, y, x = provenance["spacing_mm"]
        return Source(
            name=name,
            intensity=arrays["intensity"],
            lent=arrays["lent"],
            roi=arrays["roi"].astype(bool),
            foreground=arrays["foreground"].astype(bool),
            spacing_mm=(z, y, x),
            mean=provenance["mean"],
            statistics=Statistics.from_json(statistics or {}),
            provenance=provenance,
        )


def source_name(dataset: str, case: str) -> str:
    """Return the name of a source, safe as the name of a folder."""
    return f"{quote(dataset, safe='')}--{quote(case, safe='')}"


@contextlib.contextmanager
def open_to_write(path: Path, region: Region, size: int) -> Iterator[None]:
    """Create a store, or check that the one at `path` is of the same kind, and hold it against other writers.

    Raises
    ------
    StoreError
        If something else is at `path`, it was prepared otherwise, or another run is writing it.
    """
    if (path / "zarr.json").exists():
        there = _store_attributes(path)
        differing = [
            key
            for key, value in _preparation(region).items()
            if there["region"].get(key) != value
        ] + (["size"] if there["size"] != size else [])  # fmt: skip
        if differing:
            raise StoreError(
                f"{path} was prepared with another {', '.join(differing)}; choose another --out, or delete it"
            )
    elif path.exists() and (not path.is_dir() or any(entry.name != ".lock" for entry in path.iterdir())):
        raise StoreError(f"{path} exists and is not a store of sources; choose another --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be made ({error.strerror}); choose another --out") from error
    with only_writer(path):
        attributes = {
            "format": FORMAT,
            "version": VERSION,
            "region": region.model_dump(mode="json"),
            "size": size,
            "statistics": _store_attributes(path)["statistics"] if (path / "zarr.json").exists() else None,
        }
        _write_group(path, attributes)
        yield


def write_source(path: Path, name: str, arrays: dict[str, np.ndarray], provenance: dict[str, Any]) -> None:
    """Write a source and commit it; an older one of that name goes first, as do common statistics.

    Parameters
    ----------
    path : Path
        A store opened with `open_to_write`.
    name : str
    arrays : dict of str to ndarray, shape (z, y, x)
        Those of :data:`ARRAYS`.
    provenance : dict
        Holds ``spacing_mm``, ``mean`` and ``statistics``; the content hash is added.

    Raises
    ------
    OSError
        E.g. when the disk is full; the source then does not exist.
    """
    remove_source(path, name)
    folder = path / name
    group = zarr.open_group(path, mode="r+").create_group(name)
    for key, dtype in ARRAYS.items():
        array = group.create_array(
            key,
            shape=arrays[key].shape,
            dtype=dtype,
            chunks=arrays[key].shape,
            serializer=BytesCodec(),
            compressors=(ZstdCodec(level=1, checksum=True), Crc32cCodec()),
            dimension_names=("z", "y", "x"),
            fill_value=0,
        )
        array[:] = arrays[key]
    for written in folder.rglob("*"):
        sync(written)
    stored = {key: arrays[key].astype(dtype, copy=False) for key, dtype in ARRAYS.items()}
    _write_group(folder, {**provenance, "content_sha256": content_sha256(stored, provenance)})


def remove_source(path: Path, name: str) -> None:
    """Remove a source, finished or not, and with it the statistics that it had part in."""
    store = _store_attributes(path)
    if store["statistics"] is not None:
        _write_group(path, {**store, "statistics": None})
    (path / name / "zarr.json").unlink(missing_ok=True)
    shutil.rmtree(path / name, ignore_errors=True)


def finalise(path: Path) -> None:
    """Compute the statistics that all sources share, where the region asks for them.

    Percentiles, mean and standard deviation are over the healthy ROI voxels of all sources together; of more
    than 2**26 voxels every k-th is taken.
    """
    attributes = _store_attributes(path)
    region = Region.model_validate(attributes["region"])
    sources = finished_sources(path)
    if region.normalisation.kind != "window" or attributes["statistics"] is not None or not sources:
        return
    total = sum(int(source["roi_voxels"]) for source in sources.values())
    step = -(-total // _MOST_VALUES)
    values = []
    for name in sorted(sources):
        arrays = read_arrays(path, name)
        values.append(arrays["intensity"][arrays["roi"] > 0][::step])
    pooled = np.concatenate(values)
    low, high = (float(f"{p:.9g}") for p in np.percentile(pooled, region.normalisation.percentiles))
    _write_group(path, {**attributes, "statistics": Statistics.of(pooled, low, high).to_json()})


def finished_sources(path: Path) -> dict[str, dict[str, Any]]:
    """Return the attributes of each committed source of a store, by name."""
    found = {}
    for file in sorted(path.glob("*/zarr.json")):
        try:
            attributes = json.loads(file.read_text(encoding="utf-8"))["attributes"]
        except (ValueError, KeyError):
            continue
        if "content_sha256" in attributes:
            found[file.parent.name] = attributes
    return found


def read_arrays(path: Path, name: str) -> dict[str, np.ndarray]:
    """Read the arrays of a source, unchecked but for their codecs' checksums.

    Raises
    ------
    StoreError
        If one cannot be decoded.
    """
    try:
        group = zarr.open_group(path / name, mode="r")
        return {key: np.asarray(group[key][:]) for key in ARRAYS}  # type: ignore[index]
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise StoreError(f"{path}: source {name} is damaged; run synth prepare again to mend it") from error


def content_sha256(arrays: dict[str, np.ndarray], provenance: dict[str, Any]) -> str:
    """Return the SHA-256 over a source's arrays and the numbers they are used with."""
    digest = hashlib.sha256()
    for key in ARRAYS:
        digest.update(json.dumps([key, arrays[key].shape]).encode())
        digest.update(np.ascontiguousarray(arrays[key]).data)
    numbers = [provenance[key] for key in ("spacing_mm", "mean", "statistics")]
    digest.update(json.dumps(numbers, sort_keys=True).encode())
    return digest.hexdigest()


def settings_sha256(region: Region, size: int) -> str:
    """Return the SHA-256 over the settings that a prepared scan depends on."""
    return hashlib.sha256(json.dumps([VERSION, size, _preparation(region)], sort_keys=True).encode()).hexdigest()


def _preparation(region: Region) -> dict[str, Any]:
    return region.model_dump(mode="json", exclude={"synthesis"})


def _write_group(folder: Path, attributes: dict[str, Any]) -> None:
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_text(folder / "zarr.json", json.dumps(content, indent=1, sort_keys=True))


def _store_attributes(path: Path) -> dict[str, Any]:
    if not (path / "zarr.json").is_file():
        raise StoreError(f"{path}: no sources here; make them with synth prepare --out {path}")
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        kind, version = attributes["format"], attributes["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}/zarr.json is damaged or not a store of sources; prepare it again") from error
    if kind != FORMAT:
        raise StoreError(f"{path} is a {kind} store, not one of sources; give one made by synth prepare")
    if version != VERSION:
        raise StoreError(f"{path} has format {version}, this program reads {VERSION}; prepare the sources again")
    return dict(attributes)
