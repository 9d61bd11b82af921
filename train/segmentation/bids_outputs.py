"""What is written of a BIDS dataset's scans: a dataset of derivatives, each image with its sidecar.

Nothing is written outside of that dataset, and nothing in it that is of people: ``participants.tsv`` stays where it is.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scans.catalog.mask_command import told_command
from scans.durable import write_text
from scans.errors import ScanError
from scans.formats.bids import SOFTWARE, description, made_by_us, name_of_modality
from scans.image.volume import Volume
from scans.release import VERSION
from scans.writing import make_folder, writing
from train.cases.classes import Classes
from train.inference.model import Model
from train.inference.named_network import origin_of
from train.segmentation.inputs import Input
from train.segmentation.outputs import Options
from train.segmentation.summary import NAME, SummaryRow
from train.settings import SettingsError

_BIDS = "1.10.0"  # of the specification that these names and fields are of
_RAW = "raw"  # what links and sources call the dataset that was segmented


def name_derivatives(
    case: str, out: Path, options: Options, modalities: Sequence[str], classes: Iterable[str] = ("tumour",)
) -> dict[str, list[Path]]:
    """Return the paths of the files to be written for a case, as `name_results` does, under BIDS names.

    Each image has a sidecar in ``sidecar``, in the same order. Several classes are one ``dseg``, whose labels ``table``
    names.
    """
    labels = _labels(list(classes))
    several = len(labels) > 1
    names = {"mask": ["desc-tumor_dseg" if several else "label-tumor_mask"]}
    if options.probabilities:
        names["probability"] = [f"label-{label}_probseg" for label in labels]
    if options.normal:
        suffixes = [name_of_modality(modality).rpartition("_")[2] for modality in modalities]
        whose = _labels(list(modalities)) if len(modalities) > 1 else [""]
        names["normal"] = [f"desc-normal{one}_{suffix}" for one, suffix in zip(whose, suffixes, strict=True)]
    paths = {what: [out / f"{case}_{name}.nii.gz" for name in each] for what, each in names.items()}
    paths["sidecar"] = [_sidecar(path) for each in paths.values() for path in each]
    if several:
        paths["table"] = [out / f"{case}_{names['mask'][0]}.tsv"]
    return paths


def start_derivatives(raw: Path, out: Path) -> None:
    """Make the dataset of derivatives, or check that the one there is ours, and of this dataset.

    Raises
    ------
    UserError
        If it is not, lies where none may lie, or cannot be written.
    """
    inside, whole = out.resolve(), raw.resolve()
    if inside == whole or (whole in inside.parents and whole / "derivatives" not in inside.parents):
        raise SettingsError(
            f"--out {out}: lies in the dataset itself, which is left as it is; take {raw / 'derivatives'}/NAME, or "
            "another folder"
        )
    link = _link(raw, out)
    if (out / "dataset_description.json").exists():
        there = description(out).get("DatasetLinks")
        if not made_by_us(out):
            raise SettingsError(f"--out {out}: is a dataset that this software did not make; choose another folder")
        if not isinstance(there, dict) or there.get(_RAW) != link:
            raise SettingsError(f"--out {out}: holds derivatives of another dataset than {raw}; choose another folder")
    elif any(out.glob("sub-*")):
        raise SettingsError(f"--out {out}: holds sub-* and no dataset_description.json; choose another folder")
    make_folder(out, SettingsError)
    with writing(out, SettingsError):
        _let_pass(out / ".bidsignore", NAME)
        if not (out / "README.md").exists():
            write_text(out / "README.md", _README)
        if not (out / "dataset_description.json").exists():
            write_text(out / "dataset_description.json", _json(_description(raw, link)))


def write_sidecars(
    model: Model, raw: Path, options: Options, one: Input, targets: dict[str, list[Path]], row: SummaryRow, mask: Volume
) -> None:
    """Write what is to be known of the images of a scan, before the last of them, its mask.

    Parameters
    ----------
    model : Model
    raw : Path
        The dataset of the scan.
    options : Options
    one : Input
    targets : dict of str to list of Path
        From `name_derivatives`.
    row : SummaryRow
        With the digests of network and scan.
    mask : Volume
        Of labels, on the scan's grid.

    Raises
    ------
    ScanError
        If one cannot be written.
    """
    made_of = [*one.scans, *([one.roi] if one.roi else [])]
    shared = {
        "Sources": [_uri(path, raw) for path in made_of],
        "SpatialReference": _uri(one.scans[0], raw),
        "Network": {
            "SHA256": row.checkpoint,
            "Origin": origin_of(model.path),
            "Region": model.region.name,
            "Modalities": list(model.modalities),
        },
        "Options": row.options,
        "Reading": model.reading.words(),
        "ScanSHA256": row.scan_sha256,
    }
    if one.roi is None and options.brain_mask_with:
        shared["BrainMaskCommand"] = told_command(options.brain_mask_with)
    ml = round(float((mask.array != 0).sum()) * mask.grid.voxel_mm3 / 1000, 3)
    several = len(model.classes) > 1
    own: dict[str, dict[str, Any]] = {
        "mask": {
            "Description": "Where the network finds tumour",
            **({} if several else {"Type": "Lesion"}),
            "TumorVolumeMl": ml,
        },
        "probability": {"Description": "Share of tumour, 0 to 1, that the mask was cut from"},
        "normal": {
            "Description": "The scan as the network believes it was without the tumour",
            "SkullStripped": one.roi is None and not options.brain_mask_with,  # outside of the ROI it is the scan
        },
    }
    images = [(what, path) for what in own for path in targets.get(what, [])]
    try:
        for (what, _), sidecar in zip(images, targets["sidecar"], strict=True):
            sidecar.parent.mkdir(parents=True, exist_ok=True)
            write_text(sidecar, _json({**own[what], **shared}))
        for table in targets.get("table", []):
            write_text(table, _table(model.classes))
    except OSError as error:
        raise ScanError(f"{error.filename}: cannot be written ({error.strerror}); choose another --out") from error


def _labels(names: Sequence[str]) -> list[str]:
    """Return names as values of an entity, letters and digits alone, no two alike; a single class is ``tumor``."""
    if list(names) == ["tumour"]:
        return ["tumor"]
    plain = [re.sub(r"[^A-Za-z0-9]+", "", name) or "class" for name in names]
    return [name if plain.count(name) == 1 else f"{name}{number}" for number, name in enumerate(plain)]


def _sidecar(image: Path) -> Path:
    return image.with_name(f"{image.name.removesuffix('.nii.gz')}.json")


def _link(raw: Path, out: Path) -> str:
    """Return where the dataset lies, from the derivatives on: true also when both are moved together."""
    return quote(os.path.relpath(raw.resolve(), out.resolve()).replace(os.sep, "/"))


def _uri(path: Path, raw: Path) -> str:
    """Return a BIDS URI of a file of the dataset; of any other file the name alone, no path of this machine."""
    try:
        return f"bids:{_RAW}:{path.absolute().relative_to(raw.absolute()).as_posix()}"
    except ValueError:
        return path.name


def _description(raw: Path, link: str) -> dict[str, Any]:
    said = description(raw)
    known = {"DatasetDOI": "DOI", "DatasetVersion": "Version"}
    source = {"URL": link, **{new: said[old] for old, new in known.items() if isinstance(said.get(old), str)}}
    called = said.get("Name")
    of_it = called if isinstance(called, str) and called.strip() else raw.resolve().name
    by = {"Name": SOFTWARE, "Version": VERSION, "Description": "Tumour masks by a network that saw artificial ones"}
    return {
        "Name": f"Tumour masks of {of_it}",
        "BIDSVersion": _BIDS,
        "DatasetType": "derivative",
        "GeneratedBy": [by],
        "SourceDatasets": [source],
        "DatasetLinks": {_RAW: link},
    }


def _let_pass(ignored: Path, line: str) -> None:
    """Tell validators that a file is no part of BIDS."""
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
    if line not in lines:
        write_text(ignored, "\n".join([*lines, line]) + "\n")


def _table(classes: Classes) -> str:
    """Return the labels of a label map as TSV; a label of several classes has all their names."""
    values = sorted({value for labels in classes.values() for value in labels or ()})
    rows = [(value, [name for name, labels in classes.items() if value in (labels or ())]) for value in values]
    return "index\tname\n" + "".join(
        f"{value}\t{' and '.join(' '.join(n.split()) for n in names)}\n" for value, names in rows
    )


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


_README = """# Tumour masks

Made by Layered Tumors, by a network that learned from artificial tumours. They are research results and no diagnosis.

`*_label-tumor_mask` is the mask (of several classes `*_desc-tumor_dseg`), `*_probseg` the share of tumour that it was
cut from. Each file's sidecar says which network and which options made it, and of which scan; `summary.csv` has the
volumes of all.
"""
