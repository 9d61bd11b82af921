"""How a dataset's files are named under its root: by patterns of its own, or as BIDS has it."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag, model_validator

from scans.catalog.settings import Strict
from scans.errors import CatalogError

MaskRole = Literal["roi", "lesion", "label"]
MASK_ROLES: tuple[MaskRole, ...] = ("roi", "lesion", "label")
_BIDS_NAME = re.compile(r"([a-z]+-([A-Za-z0-9+]+|\*)_)*[A-Za-z0-9]+")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _checked_pattern(pattern: str) -> str:
    parts = pattern.split("/")
    if pattern.startswith("/") or ".." in parts or "**" in pattern or "{case}" not in pattern:
        raise ValueError(f"{pattern!r} must lie under the root, contain {{case}}, and have neither '..' nor '**'")
    if set(pattern) & set("[]?"):
        raise ValueError(f"{pattern!r}: '*' is the only wildcard")
    return pattern


def _checked_name(name: str) -> str:
    if not _BIDS_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no end of a BIDS name; write a suffix, such as FLAIR, after entities if need be: "
            "acq-3D_FLAIR, desc-brain_mask"
        )
    return name


def _checked_folder(name: str) -> str:
    if not name or name in (".", "..") or "/" in name:
        raise ValueError(f"{name!r} is no folder below derivatives")
    return name


Pattern = Annotated[str, AfterValidator(_checked_pattern)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_listed)]
Names = Annotated[tuple[Annotated[str, AfterValidator(_checked_name)], ...], BeforeValidator(_listed)]
Folders = Annotated[tuple[Annotated[str, AfterValidator(_checked_folder)], ...], BeforeValidator(_listed)]


def _kind_of_image(value: Any) -> str:
    return "modalities" if isinstance(value, dict) else "patterns"


Images = Annotated[
    Annotated[Patterns, Tag("patterns")] | Annotated[dict[str, Patterns], Tag("modalities")],
    Discriminator(_kind_of_image),  # so that a mistake is told once
]
BidsImages = Annotated[
    Annotated[Names, Tag("patterns")] | Annotated[dict[str, Names], Tag("modalities")],
    Discriminator(_kind_of_image),
]


class FilesLayout(Strict):
    """How a dataset's files are named under its root.

    A pattern holds ``{case}`` once or more, always with the same meaning, and ``*`` within a file or folder name.
    Of several patterns the first that matches counts. A dataset of several modalities maps each to its patterns in
    ``image``; masks are of all of them.
    """

    kind: Literal["files", "dicom"] = "files"  # dicom: `image` names the folder of one series
    image: Images
    roi: Patterns | None = None
    lesion: Patterns | None = None  # what is not normal in a normal scan
    label: Patterns | None = None  # the tumours to score against
    required: tuple[MaskRole, ...] = ()  # masks that every case must have

    @model_validator(mode="after")
    def _required_has_pattern(self) -> "FilesLayout":
        for role in self.required:
            if getattr(self, role) is None:
                raise ValueError(f"layout requires {role} but gives no pattern for it")
        return self


class BidsLayout(Strict):
    """A BIDS dataset: scans in ``sub-*/[ses-*/]anat``, masks there and in ``derivatives/*``.

    ``image`` and the masks are the ends of names, as `scans.formats.bids` reads them. Masks not named here are
    looked for under the names of the specification: of brains always, of lesions in normal scans, of tumours in others.
    """

    kind: Literal["bids"]
    image: BidsImages
    roi: Names | None = None
    lesion: Names | None = None
    label: Names | None = None
    required: tuple[MaskRole, ...] = ()
    derivatives: Folders = ()  # to take masks of; none: all but what this software made


def _kind_of_layout(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "bids" if kind == "bids" else "files"


Layout = Annotated[
    Annotated[FilesLayout, Tag("files")] | Annotated[BidsLayout, Tag("bids")], Discriminator(_kind_of_layout)
]


def checked_names(names: Sequence[str], option: str) -> list[str]:
    """Return ends of BIDS names that an option of a command line gave.

    Raises
    ------
    CatalogError
        If one is none.
    """
    try:
        return [_checked_name(name) for name in names]
    except ValueError as error:
        raise CatalogError(f"{option} {error}") from error
