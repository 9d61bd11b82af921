"""A corpus: samples, their recipes and their provenance in one sharded Zarr v3 store.

The only module of ``synth`` that ``train`` may import; it needs NumPy and Zarr alone.
The layout on disk is written down in ``docs/corpus-format.md``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from scans.errors import StoreError
from synth.sample import Sample

FORMAT = "layered-tumors-corpus"
VERSION = 2
VOLUMES = ("composite", "normal", "texture", "mask")  # arrays of shape (N, z, y, x)
ARRAYS = (*VOLUMES, "alpha", "recipes")

__all__ = ["Corpus", "Receipt", "Sample", "attributes", "read_receipts"]


@dataclass(frozen=True)
class Receipt:
    """What was written for one shard; it exists only once every file of the shard is safely on disk.

    Attributes
    ----------
    shard : int
        Number of the shard; it holds samples ``shard * K`` to ``shard * K + samples - 1``.
    samples : int
    identity : str
        Identity hash of the corpus the shard belongs to.
    files : dict
        ``{key inside the store: {"bytes": int, "sha256": str}}``.
    content : str
        SHA-256 over what the samples hold, so that it does not depend on a compressor's version.
    """

    shard: int
    samples: int
    identity: str
    files: dict[str, dict[str, Any]]
    content: str


class Corpus:
    """Read a corpus by sample.

    Reading is thread-safe. Only committed shards are trusted: a file without a receipt does not count.

    Parameters
    ----------
    path : str or Path
        The store.
    partial : bool
        Open a corpus some of whose shards are missing, e.g. to inspect it.

    Raises
    ------
    StoreError
        If there is no corpus at `path`, its version is unknown, or shards are missing and `partial` is false.

    Examples
    --------
    >>> corpus = Corpus("corpus.zarr")                      # doctest: +SKIP
    >>> sample = corpus[0]                                  # doctest: +SKIP
    >>> sample.composite.shape                              # doctest: +SKIP
    (128, 128, 128)
    """

    def __init__(self, path: str | Path, *, partial: bool = False) -> None:
        self.path = Path(path)
        self.attrs = attributes(self.path)
        self.receipts = read_receipts(self.path)
        missing = sorted(set(range(self.shard_count)) - set(self.receipts))
        foreign = [r.shard for r in self.receipts.values() if r.identity != self.identity]
        if foreign:
            raise StoreError(f"{self.path}: shard {foreign[0]} belongs to another corpus; run synth verify")
        if missing and not partial:
            raise StoreError(
                f"{self.path} holds {self.shard_count - len(missing)} of {self.shard_count} shards; "
                "run the same synth generate command again to finish it"
            )
        if not partial:
            _check_sizes(self.path, self.receipts)
        group = zarr.open_group(self.path, mode="r")
        self._arrays = {name: _array(group, name, self.path) for name in ARRAYS}
        self._columns: list[str] = [str(c) for c in self._arrays["recipes"].attrs["columns"]]  # type: ignore[union-attr]
        self.recipes: np.ndarray = np.asarray(self._arrays["recipes"][:])
        self.alpha: np.ndarray = np.asarray(self._arrays["alpha"][:])
        self.normal: np.ndarray = self.recipes[:, self._columns.index("normal")].astype(int)
        self.donor: np.ndarray = self.recipes[:, self._columns.index("donor")].astype(int)

    # What a corpus is made of, as plain attributes.

    @property
    def identity(self) -> str:
        """Hash of sources, settings, seed, size and layout: two corpora with it are the same corpus."""
        return str(self.attrs["identity"])

    @property
    def size(self) -> int:
        """Voxels along each side."""
        return int(self.attrs["size"])

    @property
    def seed(self) -> int:
        """Seed of every random choice."""
        return int(self.attrs["seed"])

    @property
    def shard_size(self) -> int:
        """Samples in a full shard."""
        return int(self.attrs["shard_size"])

    @property
    def shard_count(self) -> int:
        """Shards in the finished corpus."""
        return -(-len(self) // self.shard_size)

    @property
    def region(self) -> dict[str, Any]:
        """The region's settings, as JSON of ``scans.region.Region``."""
        return dict(self.attrs["region"])

    @property
    def statistics(self) -> dict[str, Any] | None:
        """Normalisation shared by all sources (``window``), or None where each scan has its own (``zscore``)."""
        return self.attrs["statistics"]

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Provenance of each source: name, dataset, licence, terms, hash, spacing and frame."""
        return list(self.attrs["sources"])

    @property
    def content_hash(self) -> str:
        """SHA-256 over identity and the decoded content of every committed shard."""
        digest = hashlib.sha256(self.identity.encode())
        for shard in sorted(self.receipts):
            digest.update(self.receipts[shard].content.encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        """Return the number of samples in the finished corpus."""
        return int(self.attrs["samples"])

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` (0 to N - 1; negative counts from the end)."""
        position = range(len(self))[index]
        try:
            volume = {name: np.asarray(self._arrays[name][position]) for name in VOLUMES}
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(f"{self.path}: sample {position} cannot be read ({error}); run synth verify") from error
        return Sample(
            composite=volume["composite"].astype(np.float32),
            normal=volume["normal"].astype(np.float32),
            texture=volume["texture"].astype(np.float32),
            mask=volume["mask"],
            alpha=float(self.alpha[position]),
        )

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples in order."""
        return (self[index] for index in range(len(self)))

    def recipe(self, index: int) -> dict[str, float]:
        """Return every random choice behind sample `index`, by name."""
        return dict(zip(self._columns, self.recipes[index].tolist(), strict=True))

    def spacing_mm(self, index: int) -> tuple[float, float, float]:
        """Voxel spacing (z, y, x) in mm of the normal of sample `index`."""
        z, y, x = self.sources[self.normal[index]]["spacing_mm"]
        return float(z), float(y), float(x)


def read_receipts(path: Path, shards: Iterable[int] | None = None) -> dict[int, Receipt]:
    """Read the receipts of a corpus; one that is not valid JSON of a receipt counts as absent.

    Parameters
    ----------
    path : Path
        The store.
    shards : iterable of int, optional
        Only theirs; all if not given.

    Returns
    -------
    dict of int to Receipt
    """
    receipts = {}
    files = sorted((path / "receipts").glob("*.json")) if shards is None else [receipt_file(path, s) for s in shards]
    for file in files:
        try:
            receipt = Receipt(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, FileNotFoundError):
            continue
        receipts[receipt.shard] = receipt
    return receipts


def receipt_file(path: Path, shard: int) -> Path:
    """Return where the receipt of a shard lies."""
    return path / "receipts" / f"{shard:06d}.json"


def _check_sizes(path: Path, receipts: dict[int, Receipt]) -> None:
    """Stop at a missing or truncated file: Zarr itself would read it as zeros, without an error."""
    for receipt in receipts.values():
        for key, entry in receipt.files.items():
            try:
                size = (path / key).stat().st_size
            except FileNotFoundError:
                size = -1
            if size != entry["bytes"]:
                found = "is missing" if size < 0 else f"has {size} bytes instead of {entry['bytes']}"
                raise StoreError(f"{path / key} {found}; run the same synth generate command again to mend it")


def attributes(path: Path) -> dict[str, Any]:
    """Read what a corpus says of itself.

    Raises
    ------
    StoreError
        If there is no corpus at `path`, or of a version this program does not know.
    """
    if not (path / "zarr.json").is_file():
        raise StoreError(f"{path}: no corpus here; make one with synth generate --out {path}")
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        known = attributes["format"] == FORMAT
        version = attributes["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}/zarr.json is damaged or not a corpus; make the corpus again") from error
    if not known:
        raise StoreError(f"{path} is a {attributes['format']} store, not a corpus; give one made by synth generate")
    if version != VERSION:
        raise StoreError(
            f"{path} has corpus format {version}, this program reads {VERSION}; "
            "use the release of layered-tumors that wrote it"
        )
    return dict(attributes)


def _array(group: zarr.Group, name: str, path: Path) -> zarr.Array:
    try:
        array = group[name]
    except KeyError as error:
        raise StoreError(f"{path}: array {name!r} is missing; make the corpus again") from error
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{path}: {name!r} is not an array; make the corpus again")
    return array
