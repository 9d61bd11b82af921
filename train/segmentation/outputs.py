"""What is written for a scan, under which names, and what must not be written over."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from scans.catalog.mask_command import MaskCommand
from train.inference.reading import Asked, Reading
from train.segmentation.dicom_seg import DICOM_SEG
from train.segmentation.inputs import Input
from train.segmentation.summary import STARTED, SummaryRow
from train.settings import SettingsError


class Options(Asked):
    """How scans are segmented, and what is written of each."""

    window: Literal["native", "trained"] | None = None  # None: the network's cube
    flips: bool = False
    probabilities: bool = False
    normal: bool = False
    format: Literal["nii.gz", "nii", "nrrd", "mha", "dicom-seg"] = "nii.gz"
    brain_mask_with: MaskCommand = None  # for scans without an ROI mask
    brain_masks: Path = Path("brain_masks")  # keeps them

    def said(self, reading: Reading) -> str:
        """Return those that were given and change what is found, and the reading, as the summary records them."""
        given = self.model_dump(exclude_defaults=True, exclude={"format", "brain_masks", *Asked.model_fields})
        said = {name: name if value is True else f"{name}={value}" for name, value in given.items()}
        written = [said.pop(name) for name in ("probabilities", "normal") if name in said]
        return " ".join(filter(None, [*said.values(), reading.said(), *written]))

    def suffix(self, what: str) -> str:
        """Return how a file ends; DICOM SEG is for masks, what has other numbers than 0 and 1 comes as NIfTI then."""
        if self.format != DICOM_SEG:
            return f".{self.format}"
        return ".dcm" if what == "mask" else ".nii.gz"


def name_results(
    case: str, out: Path, options: Options, modalities: Sequence[str], classes: Iterable[str] = ("tumour",)
) -> dict[str, list[Path]]:
    """Return the paths of the files to be written for a case.

    ``mask`` has one; ``probability``, if asked for, one a class; ``normal``, if asked for, one a modality.
    """
    endings = {"mask": ["mask"]}
    if options.probabilities:
        endings["probability"] = _endings("probability", classes)
    if options.normal:
        endings["normal"] = _endings("normal", modalities)
    suffixes = {what: options.suffix(what) for what in endings}
    return {what: [out / f"{case}_{ending}{suffixes[what]}" for ending in each] for what, each in endings.items()}


def _endings(what: str, names: Iterable[str]) -> list[str]:
    """Return ``what_NAME`` for each name, no two alike; of a single one ``what`` alone."""
    plain = [re.sub(r"[^\w-]+", "-", name) for name in names]
    unique = [name if plain.count(name) == 1 else f"{name}{number}" for number, name in enumerate(plain)]
    return [what] if len(plain) == 1 else [f"{what}_{name}" for name in unique]


def check_targets(inputs: Sequence[Input], targets: Sequence[dict[str, list[Path]]]) -> None:
    """Stop if two scans would share a file, or a result would replace a scan.

    Raises
    ------
    SettingsError
    """
    owners: dict[Path, Input] = {}
    for one, results in zip(inputs, targets, strict=True):
        for target in chain(*results.values()):
            if target in owners:
                raise SettingsError(
                    f"{one.name} and {owners[target].name} would both be written to {target}; "
                    "segment them with two --out folders"
                )
            owners[target] = one
    read = {path.resolve() for one in inputs for path in (*one.scans, *([one.roi] if one.roi else []))}
    for target in owners:
        if target.resolve() in read:
            raise SettingsError(f"{target} is one of the scans: its mask would replace it; choose another --out")


def check_nothing_in_the_way(
    inputs: Sequence[Input],
    targets: Sequence[dict[str, list[Path]]],
    out: Path,
    rows: dict[str, SummaryRow],
    made_by: SummaryRow,
) -> None:
    """Stop if a result is there already that was not made as this run would make it.

    Raises
    ------
    SettingsError
    """
    for one, results in zip(inputs, targets, strict=True):
        there = next((target for target in chain(*results.values()) if target.exists()), None)
        row = rows.get(one.case)
        ours = row is not None and row.made_by(made_by)
        if row is not None and row.problem != STARTED:  # else: in another format, or by hand after a failure
            ours = ours and results["mask"] == [out / row.mask]
        if there is not None and not ours:
            raise SettingsError(
                f"{there} is there already, and not made by this network with these options; "
                "choose another --out, or add --overwrite"
            )
