"""A dataset: where it lies, how its files are named, and under which terms it may be used."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from scans.region import Strict

MaskRole = Literal["roi", "lesion", "label"]
MASK_ROLES: tuple[MaskRole, ...] = ("roi", "lesion", "label")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _checked_pattern(pattern: str) -> str:
    parts = pattern.split("/")
    if pattern.startswith("/") or ".." in parts or "**" in pattern or "{case}" not in pattern:
        raise ValueError(f"{pattern!r} must lie under the root, contain {{case}}, and have neither '..' nor '**'")
    if set(pattern) & set("[]?"):
        raise ValueError(f"{pattern!r}: '*' is the only wildcard")
    return pattern


Pattern = Annotated[str, AfterValidator(_checked_pattern)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_listed)]


class Root(Strict):
    """The folder a dataset lies in: an environment variable, a path, or an installed package's folder."""

    env: str | None = Field(None, pattern=r"^\w+$")
    path: str | None = None  # relative to the working folder
    package: str | None = Field(None, pattern=r"^\w+$")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Root":
        if sum(value is not None for value in (self.env, self.path, self.package)) != 1:
            raise ValueError("root needs exactly one of env, path and package")
        return self

    def folder(self) -> Path | None:
        """Return the folder, whether or not it exists; None if the variable or package is not there."""
        if self.path is not None:
            return Path(self.path).expanduser()
        if self.env is not None:
            value = os.environ.get(self.env, "").strip()
            return Path(value).expanduser() if value else None
        assert self.package is not None
        spec = importlib.util.find_spec(self.package)  # of a top-level package: does not import it
        places = spec.submodule_search_locations if spec else None
        return Path(next(iter(places))) if places else None

    def __str__(self) -> str:
        """Return how a user would name the root."""
        if self.env is not None:
            return f"${self.env}"
        return self.path if self.path is not None else f"package {self.package}"


class Layout(Strict):
    """How a dataset's files are named under its root.

    A pattern holds ``{case}`` once or more, always with the same meaning, and ``*`` within a file or folder name.
    Of several patterns the first that matches counts.
    """

    kind: Literal["files", "dicom"] = "files"  # dicom: `image` names the folder of one series
    image: Patterns
    roi: Patterns | None = None
    lesion: Patterns | None = None  # what is not normal in a normal scan
    label: Patterns | None = None  # the tumours to score against
    required: tuple[MaskRole, ...] = ()  # masks that every case must have

    @model_validator(mode="after")
    def _required_has_pattern(self) -> "Layout":
        for role in self.required:
            if getattr(self, role) is None:
                raise ValueError(f"layout requires {role} but gives no pattern for it")
        return self


class Dataset(Strict):
    """One dataset, with what a lab must know before using it."""

    role: Literal["normal", "tumour"]
    region: str
    modality: str
    licence: str
    terms: str
    redistribute_derived: bool  # may what is made from it be passed on?
    citation: str
    obtain: str
    root: Root
    layout: Layout
    roi_values: tuple[int, ...] | None = None  # labels in the ROI file; None: the region's, else any non-zero
    lesion_values: tuple[int, ...] | None = None
    label_values: tuple[int, ...] | None = None

    def status(self) -> str | None:
        """Return why no file of it can be found, in a sentence, or None if its root is there."""
        folder = self.root.folder()
        if folder is None:
            if self.root.env is not None:
                return f"set {self.root.env} to the folder that holds it"
            return f"install the Python package {self.root.package}"
        return None if folder.is_dir() else f"{folder} is not a folder"
