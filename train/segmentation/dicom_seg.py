"""DICOM Segmentation: the mask of a DICOM series as an object that archives and viewers lay over its slices.

Each class is a segment of its own, coded as a neoplasm, on the pixels of the slices that it refers to: nothing is
resampled. All UIDs follow from the slices, the network, the options and the mask, so a second run gives the same ones.
"""

import hashlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scans.durable import write_bytes
from scans.errors import ScanError
from scans.formats.series import series_files
from scans.image.volume import Volume
from scans.writing import writing
from train.cases.classes import Classes, masks_of
from train.settings import SettingsError

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

DICOM_SEG = "dicom-seg"  # as a format
_NAME = "Layered Tumors"
_LONGEST = 64  # characters of DICOM's LO
_REPEATED = (  # what a segmentation must say again, or has its place by
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
)
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
_SEXES = ("M", "F", "O", "")


@dataclass(frozen=True)
class Maker:
    """What a mask was made by, as its segmentation tells.

    Attributes
    ----------
    region : str
        That the network was trained on.
    network : str
        SHA-256, hexadecimal digits.
    options : str
        Those that change the result, as in the summary.
    """

    region: str
    network: str
    options: str


def check_dicom_seg(files: Sequence[str], count: int) -> None:
    """Stop where no segmentation can be written, before anything is done.

    Parameters
    ----------
    files : sequence of str
        Names of the scans that are files, and so no series; where others are, each is told of by itself.
    count : int
        Of all scans.

    Raises
    ------
    SettingsError
        If no scan is a series, or a package is missing.
    """
    if len(files) == count:
        raise SettingsError(not_a_series(files[0]))
    if importlib.util.find_spec("highdicom") is None:
        raise SettingsError(
            f"--format {DICOM_SEG}: the package highdicom is not installed; pip install 'layered-tumors[dicom]'"
        )


def not_a_series(scan: str) -> str:
    """Say that a scan is no DICOM series, and so gets no segmentation."""
    return f"{scan} is no DICOM series, to whose slices a DICOM SEG refers; leave out --format {DICOM_SEG}"


def read_slices(folder: Path) -> "list[Dataset]":
    """Read what the slices of a series say of themselves, without their pixels, in the order of a volume's z.

    Raises
    ------
    ScanError
        If it is no series, or the slices do not say what a segmentation must repeat.
    """
    from pydicom import dcmread

    if not folder.is_dir():
        raise ScanError(not_a_series(str(folder)))
    slices: list[Dataset] = [dcmread(file, stop_before_pixels=True) for file in series_files(folder)]
    for one in slices:
        missing = [name for name in _REPEATED if one.get(name) in (None, "")]
        if missing:
            raise ScanError(
                f"{folder}: its slices do not state {', '.join(missing)}, which a DICOM SEG must repeat; get the "
                f"series from the archive again, or leave out --format {DICOM_SEG}"
            )
        for name in _MAY_BE_EMPTY:  # some tools leave them out, or write what DICOM does not know
            if name not in one or (name == "PatientSex" and one.PatientSex not in _SEXES):
                setattr(one, name, "")
    return slices


def write_dicom_seg(
    labels: Volume, classes: Classes, slices: "Sequence[Sequence[Dataset]]", path: Path, maker: Maker
) -> None:
    """Write a label map as DICOM SEG; the file appears under its name only once it is whole.

    Parameters
    ----------
    labels : Volume
        On the pixels of the first series.
    classes : Classes
        Each becomes a segment, of its name; they may lie in one another.
    slices : sequence of sequence of Dataset
        From `read_slices`: of the series that the mask lies on, then of further ones it was made from.
    path : Path
        Ends in ``.dcm``. Its folder must exist.
    maker : Maker

    Raises
    ------
    ScanError
        If it cannot be written there.
    """
    segmentation = _segmentation(labels, classes, slices, maker)
    content = io.BytesIO()
    segmentation.save_as(content, enforce_file_format=True)
    with writing(path, ScanError):
        write_bytes(path, content.getvalue())


def _segmentation(
    labels: Volume, classes: Classes, slices: "Sequence[Sequence[Dataset]]", maker: Maker
) -> "Segmentation":
    from highdicom.seg import Segmentation
    from pydicom.uid import generate_uid

    (series, *further) = slices
    first = series[0]
    first.SliceThickness = first.get("SliceThickness") or labels.spacing_mm[0]
    masks = masks_of(labels.array, classes)
    source = [str(one.SOPInstanceUID) for each in slices for one in each]
    behind = [*source, maker.network, maker.options, *classes, hashlib.sha256(masks.tobytes()).hexdigest()]

    def uid(what: str) -> str:
        return generate_uid(entropy_srcs=[what, *behind])

    descriptions = list(_descriptions(classes, maker))
    described = "".join([*classes, maker.region])
    letters: dict[str, Any] = {} if described.isascii() else {"specific_character_set": "ISO_IR 192"}  # UTF-8
    segmentation = Segmentation(
        source_images=series,
        pixel_array=np.ascontiguousarray(np.moveaxis(masks, 0, -1), dtype=np.uint8),
        segmentation_type="BINARY",  # what most viewers read
        segment_descriptions=descriptions,
        series_instance_uid=uid("series"),
        series_number=1000 + abs(int(first.get("SeriesNumber") or 0)),  # behind those of the scanner
        sop_instance_uid=uid("instance"),
        instance_number=1,
        manufacturer=_NAME,
        manufacturer_model_name="train segment",
        software_versions=version("layered-tumors"),
        device_serial_number=maker.network[:16],
        content_label="SEGMENTATION",
        content_description="Tumour, found by a neural network",
        series_description=_long(f"{_NAME}: {', '.join(classes)}"),
        # A segmentation belongs to one study, and refers to that alone.
        further_source_images=[
            one for each in further for one in each if one.StudyInstanceUID == first.StudyInstanceUID
        ],
        **letters,  # else as the slices
    )
    organisation = uid("dimensions")  # highdicom draws it at random
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    return segmentation


def _descriptions(classes: Classes, maker: Maker) -> "Iterator[SegmentDescription]":
    """Yield what is said of each class's segment."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name=_long(f"{_NAME} {maker.region}"),
        family=codes.DCM.ArtificialIntelligence,
        version=maker.network,
        source=_NAME,
        parameters={"options": maker.options} if maker.options else None,
    )
    for number, name in enumerate(classes, 1):
        yield SegmentDescription(
            segment_number=number,
            segment_label=_long(name),
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )


def _long(text: str) -> str:
    """Return a text as DICOM's LO takes it: 64 characters at the most, all printed, no backslash."""
    return "".join(c if c.isprintable() and c != "\\" else " " for c in text)[:_LONGEST].strip()
