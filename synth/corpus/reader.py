"""A corpus: samples, their recipes and their provenance in one sharded Zarr v3 store, in either layout.

By the face of this room all of ``synth`` that ``train`` may import; it needs NumPy and what Zarr is built on, not Zarr
itself. The layout on disk is written down in ``docs/corpus-format.md``.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scans.errors import StoreError
from scans.image.box import Box, box_of, sides_of, tight_box
from synth.corpus.dense_reader import DenseReader
from synth.corpus.layout import VOLUMES
from synth.corpus.manifest import load_manifest
from synth.corpus.receipt import Receipt, check_sizes, content_hash, is_own, known_files, read_receipts
from synth.corpus.sample_table import SampleTable
from synth.corpus.shard_reader import Rows
from synth.generators.generation import Generation
from synth.store.base import Readable
from synth.store.cached import Cached
from synth.store.opening import open_store
from synth.tumour.blend import lay, lay_over, layer_of, write_normal
from synth.tumour.sample import Layer, Normal, Sample, Tumour, empty_sample

MOST_NORMALS = 64  # that a reader keeps decoded: at 128 voxels 6 MB each


class Corpus:
    """Read a corpus by sample, the same bits from either layout.

    Reading is thread-safe. Only committed shards are trusted: a file without a receipt does not count. A corpus may
    come from a stranger: nothing in it is executed, and no size it names is allocated before it is checked.

    Parameters
    ----------
    where : str or Path
        The store: a folder, or an fsspec URL such as ``s3://bucket/corpus.zarr``.
    partial : bool
        Open a corpus some of whose shards are missing, e.g. to inspect it.
    cache : Path, optional
        A local folder that keeps what is read from a URL, file by file, each checked against its receipt.

    Raises
    ------
    StoreError
        If there is no corpus, its version is unknown, or shards are missing and `partial` is false.

    Attributes
    ----------
    size : int
        Voxels along each side.
    layout : {"layered", "dense"}
    seed : int
        Of the first generation's random choices.
    shard_size, shard_count : int
        Samples in a full shard; shards in the finished corpus.
    region : dict
        Its settings, as JSON of ``scans.catalog.region.Region``.
    statistics : dict or None
        Normalisation shared by all sources (``window``), or None where each scan has its own (``zscore``).

    Examples
    --------
    >>> corpus = Corpus("corpus.zarr")                      # doctest: +SKIP
    >>> sample = corpus[0]                                  # doctest: +SKIP
    >>> sample.composite.shape                              # doctest: +SKIP
    (128, 128, 128)
    """

    def __init__(self, where: str | Path, *, partial: bool = False, cache: Path | None = None) -> None:
        self.store: Readable = open_store(where)
        where = self.where = self.store.where  # on a hub with its commit, which other processes are to read too
        self._again = functools.partial(Corpus, where, partial=partial, cache=cache)
        manifest = self.manifest = load_manifest(self.store)
        self.size, self.layout, self.seed = manifest.size, manifest.layout, manifest.generations[0].seed
        self.shard_size, self.shard_count = manifest.shard_size, manifest.shard_count
        self.region, self.statistics = manifest.region, manifest.statistics
        self.receipts: dict[int, Receipt] = read_receipts(self.store, range(self.shard_count))
        for shard in [s for s, r in self.receipts.items() if not is_own(self.manifest, r)]:
            if not partial:
                raise StoreError(f"{where}: shard {shard} belongs to another corpus; run synth verify")
            del self.receipts[shard]
        missing = self.shard_count - len(self.receipts)
        if missing and not partial:
            raise StoreError(
                f"{where} holds {self.shard_count - missing} of {self.shard_count} shards; "
                "run the command that was making it again"
            )
        if not partial:
            check_sizes(self.store, self.receipts)
        if cache is not None:
            self.store = Cached(self.store, cache, known_files(self.store, self.manifest, self.receipts))
        numbers = SampleTable(self.store, self.manifest, self.receipts, partial)
        self.recipes, self.alpha, self._boxes = numbers.recipes, numbers.alpha, numbers.boxes
        self.normal, self.donor = numbers.normal, numbers.donor
        self._rows = Rows(self.store, self.manifest, self.receipts, numbers.damaged)
        self._dense = DenseReader(self._rows, len(self))
        self.source: Callable[[int], Normal] = functools.lru_cache(maxsize=MOST_NORMALS)(self._source)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as the arguments it was opened with."""
        return self._again, ()

    # What a corpus is made of.

    @property
    def identity(self) -> str:
        """Hash of sources, settings, seeds and size: two corpora with it hold the same samples."""
        return self.manifest.identity

    @property
    def shards(self) -> np.ndarray:
        """The shard of each sample, int64, shape (N,): what is read together lies together."""
        lengths = [len(self.manifest.indices(shard)) for shard in range(self.shard_count)]
        return np.repeat(np.arange(self.shard_count), lengths)

    @property
    def channels(self) -> list[dict[str, Any]]:
        """What a checkpoint records of its one modality: the region, and the normalisation its sources share."""
        return [{"region": self.region, "statistics": self.statistics}]

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Provenance of each source: name, dataset, licence, terms, hash, spacing and frame."""
        return list(self.manifest.sources)

    @property
    def content_hash(self) -> str:
        """SHA-256 over identity and the decoded content of every committed shard; the same in either layout."""
        return content_hash(self.identity, self.receipts)

    def __len__(self) -> int:
        """Return the number of samples in the finished corpus."""
        return len(self.manifest)

    # Samples.

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` (0 to N - 1; negative counts from the end), float32."""
        return self.read(index, empty_sample(self.size))

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples in order."""
        return (self[index] for index in range(len(self)))

    def read(self, index: int, out: Sample) -> Sample:
        """Read sample `index` into arrays that are there; see `synth.tumour.sample.empty_sample`.

        Parameters
        ----------
        index : int
        out : Sample
            Its layers are float16, as stored, or float32: all are written over.

        Returns
        -------
        Sample
            Of `out`'s arrays.

        Raises
        ------
        IndexError
            If there is no such sample.
        StoreError
            If it is missing or damaged.
        """
        index = range(len(self))[index]
        if self.layout == "layered":
            normal, target = self.source(int(self.normal[index])), self.generation(index).facts.target
            layer = self.layer(index)
            write_normal(normal.voxels, out)
            lay_over(layer, normal, float(self.alpha[index]), target, out)
        else:
            self._dense.read(index, int(self.normal[index]), out)
        return replace(out, alpha=float(self.alpha[index]))

    def tumour(self, index: int) -> Tumour:
        """Return what tells sample `index` from its normal, in a box; parameters and errors as of `read`."""
        index = range(len(self))[index]
        if self.layout == "layered":
            normal = self.source(int(self.normal[index]))
            return lay(self.layer(index), normal, float(self.alpha[index]), self.generation(index).facts.target)
        composite, normal16, texture, mask = (self._rows.volume(name, index) for name in VOLUMES)
        box = tight_box((composite.view(np.uint16) != normal16.view(np.uint16)) | (mask > 0))
        return Tumour(box, composite[box], texture[box], mask[box], float(self.alpha[index]))

    def layer(self, index: int) -> Layer:
        """Return the tumour of sample `index` before its normal's ROI cut it; parameters and errors as of `read`.

        A dense corpus knows only what the ROI left, and a hard edge.
        """
        index = range(len(self))[index]
        if self.layout == "dense":
            if self.manifest.soft or self.generation(index).facts.target != "texture":
                raise StoreError(
                    f"{self.store} is dense, and was made with soft edges or texture_target=composite: "
                    "its tumours cannot be told from their normals; convert it with --sources"
                )
            return layer_of(self.tumour(index))
        box = self._box(index)
        sides = sides_of(box)
        voxels = sides[0] * sides[1] * sides[2]
        packed = self._rows.values("form", index, -(-voxels // 8))
        form = np.unpackbits(packed, count=voxels, bitorder="little").view(bool)
        count = int(np.count_nonzero(form))
        if not count:
            raise StoreError(f"{self.store}: the layer of sample {index} is empty; run synth verify")
        tissue = self._rows.values("layer", index, count)
        edge = self._rows.values("edge", index, count) if self._rows.has("edge", index) else None
        return Layer(box, form.reshape(sides), tissue, edge)

    def box(self, index: int) -> Box:
        """Return the box of the layer of sample `index`."""
        return self.layer(index).box if self._boxes is None else self._box(index)

    def _box(self, index: int) -> Box:
        assert self._boxes is not None
        first, stop = self._boxes[index, ::2], self._boxes[index, 1::2]
        if (first < 0).any() or (first >= stop).any() or (stop > self.size).any():
            raise StoreError(f"{self.store}: the box of sample {index} is none; run synth verify")
        return box_of(self._boxes[index])

    def _source(self, position: int) -> Normal:
        """Return source `position` as it receives tumours; those used last are kept."""
        return Normal(self._rows.source("normal", position), self._rows.source("roi", position).view(bool))

    def recipe(self, index: int) -> dict[str, float]:
        """Return every random choice behind sample `index`, by name."""
        generation = self._generation(index)
        own = self.manifest.own_columns[generation]
        names = self.manifest.generations[generation].columns
        return dict(zip(names, self.recipes[index, own].tolist(), strict=True))

    def settings(self, index: int) -> dict[str, Any]:
        """Return the settings that sample `index` was drawn with, as JSON of its generator's."""
        return self.generation(index).settings

    def generation(self, index: int) -> Generation:
        """Return how sample `index` was drawn."""
        return self.manifest.generations[self._generation(index)]

    def _generation(self, index: int) -> int:
        index = range(len(self))[index]
        return self.manifest.draw(index)[0] if len(self.manifest.generations) > 1 else 0

    def spacing_mm(self, index: int) -> tuple[float, float, float]:
        """Voxel spacing (z, y, x) in mm of the normal of sample `index`."""
        z, y, x = self.manifest.sources[self.normal[index]]["spacing_mm"]
        return float(z), float(y), float(x)
