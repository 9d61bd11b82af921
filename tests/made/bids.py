"""A small BIDS dataset, and what a validator would say of one of derivatives."""

import json
import re
import shutil
import subprocess

import nibabel

from tests.made.real_scans import write_case
from tests.made.scan_files import save

ENTITIES = r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?(_(acq|ce|rec|run)-[A-Za-z0-9]+)*"


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_dataset(root, **said):
    """Write what a dataset says of itself and of its participants."""
    write_json(root / "dataset_description.json", {"Name": "A study", "BIDSVersion": "1.10.0", **said})
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n", encoding="utf-8")
    (root / "README").write_text("Scans made by a test.\n", encoding="utf-8")
    return root


def write_scan(root, name, volume):
    """Write a scan, or a mask, under its name: ``sub-01_ses-a_FLAIR``, ``derivatives/strip/sub-01_desc-brain_mask``."""
    above, _, name = name.rpartition("/")
    folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
    return save(volume, root.joinpath(above, *folders, "anat", f"{name}.nii.gz"))


def write_head(root, name, **keywords):
    """Write a skull-stripped head with a bright tumour under its name."""
    folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
    folder = root.joinpath(*folders, "anat")
    folder.mkdir(parents=True, exist_ok=True)
    scan = write_case(folder, "case", **keywords)
    for left in folder.glob("case*"):
        if left != scan:
            left.unlink()
    return scan.rename(folder / f"{name}.nii.gz")


def mistakes(root):
    """Return what the validator of BIDS calls errors in a dataset; where it is not installed, what some rules find."""
    validator = shutil.which("bids-validator-deno")
    if validator is None:
        return [problem for path in sorted(root.rglob("*")) for problem in _mistakes_of(path, root)]
    said = subprocess.run(
        [validator, str(root), "--format", "json"], capture_output=True, encoding="utf-8", check=False
    )
    issues = json.loads(said.stdout)["issues"]["issues"]
    return [f"{issue['location']}: {issue['code']}" for issue in issues if issue["severity"] == "error"]


def _mistakes_of(path, root):
    place = path.relative_to(root).as_posix()
    if path.is_dir() or any(part.startswith(".") for part in place.split("/")):
        return
    ignored = (root / ".bidsignore").read_text(encoding="utf-8").splitlines()
    if place in (*ignored, "README.md"):
        return
    if place == "dataset_description.json":
        said = json.loads(path.read_text(encoding="utf-8"))
        if not {"Name", "BIDSVersion", "GeneratedBy"} <= set(said) or said["DatasetType"] != "derivative":
            yield f"{place}: lacks a field"
        return
    match = re.fullmatch(
        rf"(sub-\w+?/(ses-\w+?/)?anat)/(?P<source>{ENTITIES})"
        r"(_label-[A-Za-z0-9]+_(mask|probseg)|_desc-[A-Za-z0-9]+_(dseg|FLAIR|T1w))\.(nii\.gz|json|tsv)",
        place,
    )
    if not match or "/".join(re.findall(r"(?:sub|ses)-[A-Za-z0-9]+", match["source"])) + "/anat" != match[1]:
        yield f"{place}: is no name of BIDS"
    if place.endswith(".nii.gz"):
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
        if not sidecar["Sources"] or not sidecar["SpatialReference"]:
            yield f"{place}: its sidecar lacks a field"
        if place.endswith("FLAIR.nii.gz") and not isinstance(sidecar.get("SkullStripped"), bool):
            yield f"{place}: its sidecar does not say SkullStripped"
        if nibabel.load(path).header.get_xyzt_units()[0] != "mm":
            yield f"{place}: its header does not say mm"
