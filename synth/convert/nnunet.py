"""A corpus as a raw dataset of nnU-Net v2, with folds that part its sources.

Written against nnU-Net 2.8 and what it checks: `imagesTr/CASE_0000.nii.gz` and `labelsTr/CASE.nii.gz` on one
grid, consecutive labels, `dataset.json`. It reads the folds from the folder of preprocessed data.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scans.durable import only_writer, write_text
from scans.errors import StoreError
from scans.image.volume import Volume, write_volume
from synth.convert.nifti import each_in_threads, grid_of
from synth.corpus import Corpus

DATASET_ID = 500  # the ids below 11 belong to the Medical Segmentation Decathlon
_FOLDS = 5  # nnU-Net's number
_NIFTI_HEADER = 352  # bytes before the voxels
_ORIGIN = "corpus.json"  # says from the first file on what the folder is made from

# The images are normalised already, each by the statistics of its scan or of all, and 0 outside the organ. nnU-Net
# normalises by the channel's name. Any MRI name would give a z-score over the whole cube, since the cube is cropped
# to the organ: then 0 and the scale of a tissue depend on the organ's shape. "CT" would clip to the intensities
# of tumours.
_CHANNEL = "noNorm"


@dataclass(frozen=True)
class NnunetFolds:
    """Which cases train and which validate, a pair of positions (training, validation) a fold; and how they part."""

    parts: list[tuple[list[int], list[int]]]
    note: str


@dataclass(frozen=True)
class NnunetDataset:
    """A dataset that nnU-Net takes.

    Attributes
    ----------
    folder : Path
        ``Dataset500_Name``, in nnU-Net's folder of raw datasets.
    cases : dict of int to str
        Sample to case, in order: ``Name_000012``.
    """

    folder: Path
    cases: dict[int, str]

    def image(self, index: int) -> Path:
        """Return the file of a sample's composite."""
        return self.folder / "imagesTr" / f"{self.cases[index]}_0000.nii.gz"

    def label(self, index: int) -> Path:
        """Return the file of a sample's mask."""
        return self.folder / "labelsTr" / f"{self.cases[index]}.nii.gz"


@dataclass(frozen=True)
class Exported:
    """What came of an export: cases of an earlier run, cases of this one, and how the folds part the sources."""

    kept: int
    made: int
    note: str


def plan_dataset(
    corpus: Corpus, indices: Sequence[int], raw: Path, dataset_id: int = DATASET_ID, name: str | None = None
) -> NnunetDataset:
    """Say what a dataset will hold; writes nothing.

    Parameters
    ----------
    corpus : Corpus
    indices : sequence of int
        Samples; at least two, so that one can validate.
    raw : Path
        nnU-Net's folder of raw datasets, ``nnUNet_raw``.
    dataset_id : int
        1 to 999.
    name : str, optional
        Letters, digits, ``_`` and ``-``; that of the corpus's region if not given.

    Raises
    ------
    StoreError
        For an id or a name that nnU-Net would not take, or a folder that holds something else: another corpus,
        or samples that were not chosen now.
    """
    name = _default_name(corpus) if name is None else name
    folder = raw / _folder_name(dataset_id, name, raw)
    chosen = sorted(set(indices))
    if len(chosen) < 2:
        raise StoreError(f"{folder}: nnU-Net trains on one part and validates on another; choose two samples or more")
    digits = max(6, len(str(len(corpus) - 1)))
    dataset = NnunetDataset(folder, {index: f"{name}_{index:0{digits}d}" for index in chosen})
    _refuse_strangers(dataset, corpus)
    return dataset


def write_dataset(
    corpus: Corpus, dataset: NnunetDataset, progress: Callable[[int], None] = lambda count: None
) -> Exported:
    """Write what is missing of a dataset.

    A file appears under its name once it is whole, ``dataset.json`` once everything is there.

    Parameters
    ----------
    corpus : Corpus
    dataset : NnunetDataset
        Planned for this corpus.
    progress : callable
        Called with how many cases are done: first with those of an earlier run, then with 1 for each.

    Raises
    ------
    ScanError
        If a file cannot be written.
    StoreError
        If another run writes the dataset, or a sample cannot be read.
    """
    folder, chosen = dataset.folder, list(dataset.cases)

    def is_written(index: int) -> bool:
        voxels = corpus.size**3
        return _is_whole(dataset.image(index), 4 * voxels) and _is_whole(dataset.label(index), voxels)

    def write(index: int) -> None:
        sample, grid = corpus[index], grid_of(corpus, index)
        write_volume(Volume.on(grid, sample.composite), dataset.image(index))
        write_volume(Volume.on(grid, sample.mask), dataset.label(index))

    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with only_writer(folder):
        for left_over in [*folder.glob(".*.tmp"), *folder.glob("*Tr/.*.tmp")]:  # of a run that was killed
            left_over.unlink()
        _write_json(folder / _ORIGIN, {"identity": corpus.identity, "sources": _origins(corpus)})
        missing = [index for index in chosen if not is_written(index)]
        if missing:
            (folder / "dataset.json").unlink(missing_ok=True)  # it would count fewer cases than there are
        progress(len(chosen) - len(missing))
        each_in_threads(write, missing, lambda: progress(1))
        folds = part_by_source(
            [int(corpus.normal[index]) for index in chosen], [int(corpus.recipe(index)["donor"]) for index in chosen]
        )
        names = list(dataset.cases.values())
        splits = [
            {"train": [names[i] for i in training], "val": [names[i] for i in validation]}
            for training, validation in folds.parts
        ]
        _write_json(folder / "splits_final.json", splits)
        _write_json(folder / "dataset.json", _description(corpus, dataset, folds.note))
    return Exported(len(chosen) - len(missing), len(missing), folds.note)


def part_by_source(normals: Sequence[int], donors: Sequence[int]) -> NnunetFolds:
    """Part samples into at most five folds, so that validation shares no source with training.

    A source validates in one fold, with all samples it is the normal of; sources are dealt out, those with most
    samples first, to the fold that has fewest. In that fold training sees neither these samples nor any that
    they lent texture to. Where this leaves some fold nothing to train on, sources part as normals only; where
    there is one source, samples are dealt out instead. The note says which.

    Parameters
    ----------
    normals, donors : sequence of int
        Sources of each sample, at least two samples.
    """
    samples = range(len(normals))
    uses = Counter(normals)
    used = sorted(uses, key=lambda source: (-uses[source], source))
    if len(used) == 1:
        count = min(_FOLDS, len(normals))
        parts = [([i for i in samples if i % count != k], [i for i in samples if i % count == k]) for k in range(count)]
        return NnunetFolds(parts, "one source: validation sees the same anatomy as training, with other tumours")
    held: list[set[int]] = [set() for _ in range(min(_FOLDS, len(used)))]
    load = [0] * len(held)
    for source in used:
        lightest = load.index(min(load))
        held[lightest].add(source)
        load[lightest] += uses[source]
    validation = [[i for i in samples if normals[i] in sources] for sources in held]
    training = [[i for i in samples if normals[i] not in sources] for sources in held]
    strict = [[i for i in part if donors[i] not in sources] for part, sources in zip(training, held, strict=True)]
    if all(strict):
        note = "validation's sources are seen in training neither as normal nor as donor"
        return NnunetFolds(list(zip(strict, validation, strict=True)), note)
    note = "validation's sources part as normals; too few of them, so training sees their tissue inside tumours"
    return NnunetFolds(list(zip(training, validation, strict=True)), note)


def _folder_name(dataset_id: int, name: str, raw: Path) -> str:
    if not 1 <= dataset_id <= 999:
        raise StoreError(f"--dataset-id {dataset_id}: give a whole number from 1 to 999")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise StoreError(f"--name {name!r}: use 1 to 64 letters, digits, _ and -, as in BrainTumour")
    if re.match(r"Dataset\d{3}_", raw.name):
        raise StoreError(f"--out {raw}: give the folder that holds the datasets, nnUNet_raw, not one of them")
    chosen = f"Dataset{dataset_id:03d}_{name}"
    others = sorted(path.name for path in raw.glob(f"Dataset{dataset_id:03d}_*") if path.name != chosen)
    if others:
        raise StoreError(f"--dataset-id {dataset_id}: {raw / others[0]} has it already; choose another")
    return chosen


def _default_name(corpus: Corpus) -> str:
    """Return the region's name as nnU-Net's users write one, e.g. ``BrainFlair``."""
    words = re.findall(r"[A-Za-z0-9]+", str(corpus.region["name"]))
    return "".join(word[0].upper() + word[1:] for word in words)[:64] or "Corpus"


def _refuse_strangers(dataset: NnunetDataset, corpus: Corpus) -> None:
    folder, another = dataset.folder, "choose another --dataset-id or --name"
    if not any(path.is_file() and not path.name.startswith(".") for path in folder.rglob("*")):
        return
    try:
        identity = json.loads((folder / _ORIGIN).read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} was not made by synth export; {another}") from error
    if identity != corpus.identity:
        raise StoreError(f"{folder} holds samples of another corpus; {another}")
    cases = set(dataset.cases.values())
    for file in sorted(folder.glob("*Tr/[!.]*.nii.gz")):
        if file.name.removesuffix(".nii.gz").removesuffix("_0000") not in cases:
            raise StoreError(f"{file} is not among the samples to export; export it as well, or {another}")


def _is_whole(file: Path, voxel_bytes: int) -> bool:
    """Tell whether a compressed NIfTI file is there to its end, where gzip keeps the length of what it holds."""
    try:
        with file.open("rb") as opened:
            opened.seek(-4, 2)
            return int.from_bytes(opened.read(4), "little") == (_NIFTI_HEADER + voxel_bytes) % 2**32
    except OSError:
        return False


def _origins(corpus: Corpus) -> list[dict[str, Any]]:
    kept = ("name", "dataset", "licence", "terms", "redistribute_derived", "citation")
    return [{key: source[key] for key in kept} for source in corpus.sources]


def _description(corpus: Corpus, dataset: NnunetDataset, note: str) -> dict[str, Any]:
    """Return what stands in ``dataset.json``: four keys that nnU-Net needs, the rest for people."""
    origins = _origins(corpus)

    def every(key: str) -> str:
        return "; ".join(dict.fromkeys(str(origin[key]) for origin in origins if origin[key]))

    return {
        "channel_names": {"0": _CHANNEL},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": len(dataset.cases),
        "file_ending": ".nii.gz",
        "name": dataset.folder.name,
        "description": (
            f"Artificial tumours in healthy scans ({corpus.region['name']}, {corpus.region['modality']}), made by "
            "layered-tumors. Images are normalised inside the organ and 0 outside; scans to predict on must be too."
        ),
        "reference": every("citation"),
        "licence": every("licence"),
        "terms": every("terms"),
        "redistribute_derived": all(origin["redistribute_derived"] for origin in origins),
        "normalisation": {**corpus.region["normalisation"], "statistics": corpus.statistics},
        "identity": corpus.identity,
        "splits": note,
    }


def _write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
