"""The store of sources on disk: a Zarr v3 group of prepared scans, each committed by attributes written last.

A source is a group ``DATASET--CASE`` of four arrays (z, y, x), one uncompressed chunk each: workers of one machine
map them and share the memory. Zarr reads a missing chunk as zeros, so nothing counts without its attributes, and
the content hash among them is checked when a source is loaded.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from scans.catalog.region import Region
from scans.durable import only_writer, sync, write_text
from scans.errors import StoreError
from scans.image.statistics import common_statistics
from scans.writing import writing
from synth.tumour.source import lends_tumour

FORMAT = "layered-tumors-sources"
VERSION = 2
ARRAYS = {"intensity": "float32", "lent": "float32", "roi": "uint8", "foreground": "uint8"}
_CHECKSUM = 4  # bytes of CRC-32C behind the voxels
_MOST_VALUES = 2**26  # ROI voxels that common statistics are taken over


@contextlib.contextmanager
def open_to_write(path: Path, region: Region, size: int) -> Iterator[None]:
    """Create a store, or check that the one at `path` is of the same kind, and hold it against other writers.

    Raises
    ------
    StoreError
        If something else is at `path`, it was prepared otherwise, or another run is writing it.
    """
    if (path / "zarr.json").exists():
        there = store_attributes(path)
        differing = [
            key
            for key, value in region.preparation().items()
            if there["region"].get(key) != value
        ] + (["size"] if there["size"] != size else [])  # fmt: skip
        if differing:
            raise StoreError(
                f"{path} was prepared with another {', '.join(differing)}; choose another --out, or delete it"
            )
    elif path.exists() and (not path.is_dir() or any(entry.name != ".lock" for entry in path.iterdir())):
        raise StoreError(f"{path} exists and is not a store of sources; choose another --out")
    with writing(path, StoreError):
        path.mkdir(parents=True, exist_ok=True)
    with only_writer(path):
        attributes = {
            "format": FORMAT,
            "version": VERSION,
            "region": region.model_dump(mode="json"),
            "size": size,
            "statistics": store_attributes(path)["statistics"] if (path / "zarr.json").exists() else None,
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
            compressors=(Crc32cCodec(),),
            chunk_key_encoding={"name": "default", "separator": "."},
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
    store = store_attributes(path)
    if store["statistics"] is not None:
        _write_group(path, {**store, "statistics": None})
    (path / name / "zarr.json").unlink(missing_ok=True)
    shutil.rmtree(path / name, ignore_errors=True)


def finalise(path: Path) -> None:
    """Compute the statistics that all sources share, where the region asks for them.

    Percentiles, mean and standard deviation are over the healthy ROI voxels of all sources together; of more
    than 2**26 voxels every k-th is taken. Scans that only lend a tumour have no part in it.
    """
    attributes = store_attributes(path)
    region = Region.model_validate(attributes["region"])
    sources = {name: source for name, source in finished_sources(path).items() if not lends_tumour(source)}
    if region.normalisation.kind != "window" or attributes["statistics"] is not None or not sources:
        return
    total = sum(int(source["roi_voxels"]) for source in sources.values())
    step = -(-total // _MOST_VALUES)
    values = []
    for name in sorted(sources):
        arrays = read_arrays(path, name)
        values.append(arrays["intensity"][arrays["roi"] > 0][::step])
    statistics = common_statistics(np.concatenate(values), region)
    _write_group(path, {**attributes, "statistics": statistics.to_json()})


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
    """Map the arrays of a source into memory, unchecked.

    Returns
    -------
    dict of str to ndarray, shape (size, size, size)
        Read-only; pages are read when they are used.

    Raises
    ------
    StoreError
        If one is not there or not of its size.
    """
    size = int(store_attributes(path)["size"])
    arrays = {}
    for key, dtype in ARRAYS.items():
        file, count = path / name / key / "c.0.0.0", size**3
        try:
            if file.stat().st_size != count * np.dtype(dtype).itemsize + _CHECKSUM:
                raise ValueError
            arrays[key] = np.memmap(file, np.dtype(dtype).newbyteorder("<"), "r", shape=(size, size, size)).view(
                np.ndarray
            )
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: source {name} is damaged; run synth prepare again to mend it") from error
    return arrays


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
    return hashlib.sha256(json.dumps([VERSION, size, region.preparation()], sort_keys=True).encode()).hexdigest()


def _write_group(folder: Path, attributes: dict[str, Any]) -> None:
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_text(folder / "zarr.json", json.dumps(content, indent=1, sort_keys=True))


def store_attributes(path: Path) -> dict[str, Any]:
    """Read what a store says of itself.

    Raises
    ------
    StoreError
        If there is no store of sources at `path`, or of a version this program does not know.
    """
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
