"""Sources: prepared normal scans, ready to receive a tumour or to lend a texture."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scans.catalog.region import Region
from scans.errors import StoreError
from scans.image.normalisation import Statistics
from synth.sources.format import content_sha256, finished_sources, read_arrays, store_attributes
from synth.tumour.source import Source, lends_tumour


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

    def lending(self, dataset: str) -> list[str]:
        """Return the names of a dataset's sources that lend a tumour.

        Raises
        ------
        StoreError
            If there is none.
        """
        lent = [name for name in self.names if lends_tumour(self._provenance[name])]
        found = [name for name in lent if self._provenance[name]["dataset"] == dataset]
        if not found:
            there = sorted({str(self._provenance[name]["dataset"]) for name in lent})
            raise StoreError(
                f"--lend {dataset}: {self.path} holds no tumour of that dataset; there are those of "
                f"{', '.join(there) or 'none, prepare some with synth prepare --tumours'}"
            )
        return found

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
