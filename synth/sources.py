"""Sources: prepared normal scans, ready to receive a tumour or to lend a texture."""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from scans.errors import StoreError
from scans.normalisation import Statistics, scale
from scans.region import Region
from synth.manifest import lends_tumour
from synth.sample import Normal, Voxels
from synth.source_store import content_sha256, finished_sources, read_arrays, store_attributes

MOST_NORMALS = 96  # that a process keeps in the network's units: at 128 voxels 4 MB each, and 2 MB encoded


@dataclass(frozen=True, eq=False)
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
        ndarray of float16, same shape
        """
        return scale(raw, self.statistics).astype(np.float16)

    @property
    def lends_tumour(self) -> bool:
        """Whether it has a tumour, which fills what is in `foreground` and not in `roi`."""
        return lends_tumour(self.provenance)

    @property
    def as_normal(self) -> Normal:
        """The scan as it receives tumours."""
        return _normal(self)

    @property
    def normal(self) -> np.ndarray:
        """The scan in the network's units, float16, shape (z, y, x); 0 outside the foreground."""
        return _normal(self).voxels

    @property
    def layer(self) -> np.ndarray:
        """`normal` as float32: the layer that whole samples are pasted on."""
        return _layer(self)

    @functools.cached_property
    def centres(self) -> Voxels:
        """The voxels of `roi`, by number."""
        return Voxels(self.roi)


# Arrays of a source are mapped files, shared by all workers of a machine; these are each worker's own, so few are kept.


@functools.lru_cache(maxsize=MOST_NORMALS)
def _normal(source: Source) -> Normal:
    return Normal(np.where(source.foreground, source.to_network(source.intensity), np.float16(0)), source.roi)


@functools.lru_cache(maxsize=MOST_NORMALS // 4)
def _layer(source: Source) -> np.ndarray:
    return source.normal.astype(np.float32)


class SourceStore:
    """Read a store of sources.

    Parameters
    ----------
    path : str or Path
    statistics : dict, optional
        Normalisation to be shared in place of the store's own: that of a corpus made when it held other sources.

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

    def __init__(self, path: str | Path, statistics: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        attributes = store_attributes(self.path)
        try:
            self.region = Region.model_validate(attributes["region"])
        except ValidationError as error:
            raise StoreError(f"{self.path} was made with settings that this program does not know") from error
        self.size = int(attributes["size"])
        self.statistics: dict[str, Any] | None = statistics or attributes["statistics"]
        self._provenance = finished_sources(self.path)
        self.names = sorted(self._provenance)
        self._by_content = {self._provenance[name]["content_sha256"]: name for name in reversed(self.names)}
        self._loaded: dict[str, Source] = {}
        if self.names and self.region.normalisation.kind == "window" and self.statistics is None:
            raise StoreError(
                f"{self.path} lacks the statistics its sources share; run synth prepare again to finish it"
            )

    @property
    def content_hash(self) -> str:
        """SHA-256 over the content of every finished source and the statistics they share."""
        content = [[name, self._provenance[name]["content_sha256"]] for name in self.names]
        return hashlib.sha256(json.dumps([content, self.statistics], sort_keys=True).encode()).hexdigest()

    def named(self, content: str) -> str | None:
        """Return the name of the source whose content has this hash, if there is one."""
        return self._by_content.get(content)

    def drawn_from(self, tumours: Sequence[str] = ()) -> list[str]:
        """Return the names of the sources that samples are drawn from: all normals, and those that lend `tumours`.

        Raises
        ------
        StoreError
            If there is no normal, or a name is not that of a source with a tumour.
        """
        lending = [name for name in self.names if lends_tumour(self._provenance[name])]
        if len(lending) == len(self.names):
            raise StoreError(f"{self.path} holds no finished source; run synth prepare first")
        unknown = sorted(set(tumours) - set(lending))
        if unknown:
            raise StoreError(
                f"donor.tumours {unknown[0]}: {self.path} has no source of that name with a tumour; "
                f"there are {', '.join(lending) or 'none, prepare some with synth prepare --tumours'}"
            )
        return [name for name in self.names if name in tumours or name not in lending]

    def __len__(self) -> int:
        """Finished sources."""
        return len(self.names)

    def provenance(self, name: str) -> dict[str, Any]:
        """Return the attributes of source `name`: dataset, terms, files and their hashes, frame, statistics."""
        if name not in self._provenance:
            raise StoreError(f"{self.path} has no source {name}; there are {', '.join(self.names) or 'none'}")
        return {"name": name, **self._provenance[name]}

    def load(self, name: str) -> Source:
        """Map source `name` into memory, checked against its hash; later calls return what the first one did.

        Raises
        ------
        StoreError
            If it is not there or damaged.
        """
        if name in self._loaded:
            return self._loaded[name]
        provenance = self.provenance(name)
        arrays = read_arrays(self.path, name)
        if content_sha256(arrays, provenance) != provenance["content_sha256"]:
            raise StoreError(f"{self.path}: source {name} is damaged; run synth prepare again to mend it")
        statistics = self.statistics if self.region.normalisation.kind == "window" else provenance["statistics"]
        z, y, x = provenance["spacing_mm"]
        self._loaded[name] = Source(
            name=name,
            intensity=arrays["intensity"],
            lent=arrays["lent"],
            roi=arrays["roi"].view(bool),
            foreground=arrays["foreground"].view(bool),
            spacing_mm=(z, y, x),
            mean=provenance["mean"],
            statistics=Statistics.from_json(statistics or {}),
            provenance=provenance,
        )
        return self._loaded[name]
