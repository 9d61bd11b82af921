"""A dataset: where it lies, how its files are named, and under which terms it may be used."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from scans.catalog.layout import BidsLayout, Layout, MaskRole
from scans.catalog.mask_command import MaskCommand
from scans.catalog.settings import Strict
from scans.formats.bids import BRAIN, LESIONS, TUMOURS


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


class Dataset(Strict):
    """One dataset, with what a lab must know before using it.

    Of several modalities (``modality: [FLAIR, T1]``) the first gives the grid that all scans of a case lie on. One
    ``region`` serves them all, or each has its own (``region: {FLAIR: brain-flair, T1: brain-t1}``).

    Scans without an ROI mask of their own get one that ``brain_mask_with`` makes, kept in the folder ``brain_masks``;
    an empty command makes none, whatever the region says.
    """

    role: Literal["normal", "tumour"]
    region: str | dict[str, str]
    modality: str | tuple[str, ...]
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
    brain_mask_with: MaskCommand = None  # None: the region's
    brain_masks: str = "brain_masks"  # relative to the working folder

    @model_validator(mode="after")
    def _modalities_agree(self) -> "Dataset":
        names = self.modalities
        if not names or len(set(names)) < len(names) or (len(names) > 1 and any("," in name for name in names)):
            raise ValueError("modality names each modality once, without commas")
        image = self.layout.image
        mappings = {"layout.image": image, "region": self.region}
        for what, mapping in mappings.items():
            if isinstance(mapping, dict) and set(mapping) != set(names):
                raise ValueError(f"{what} maps {', '.join(mapping)}, but modality says {', '.join(names)}")
        if len(names) > 1 and not isinstance(image, dict):
            raise ValueError(f"layout.image must map each of {', '.join(names)} to its pattern")
        patterns = [pattern for modality in names for pattern in self.images(modality)]
        if len(set(patterns)) < len(patterns):
            raise ValueError("layout.image gives one pattern twice; each modality has files of its own")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """Its modalities, the first one first."""
        return (self.modality,) if isinstance(self.modality, str) else self.modality

    def images(self, modality: str) -> tuple[str, ...]:
        """Return the patterns of a modality's files."""
        image = self.layout.image
        return image[modality] if isinstance(image, dict) else image

    def masks(self, role: MaskRole) -> tuple[str, ...]:
        """Return the patterns of a kind of mask; in BIDS its names, those of the specification if none is given."""
        given: tuple[str, ...] | None = getattr(self.layout, role)
        if given is None and isinstance(self.layout, BidsLayout):
            usual = {"roi": BRAIN, "lesion": LESIONS if self.role == "normal" else ()}
            return usual.get(role, TUMOURS if self.role == "tumour" else ())
        return given or ()

    def region_of(self, modality: str) -> str:
        """Return the name of a modality's region."""
        return self.region[modality] if isinstance(self.region, dict) else self.region

    def only(self, modalities: Sequence[str]) -> "Dataset":
        """Return the dataset with some of its modalities alone, in the order given."""
        if len(modalities) == 1:
            (name,) = modalities
            layout = self.layout.model_copy(update={"image": self.images(name)})
            return self.model_copy(update={"modality": name, "region": self.region_of(name), "layout": layout})
        layout = self.layout.model_copy(update={"image": {name: self.images(name) for name in modalities}})
        region = {name: self.region_of(name) for name in modalities} if isinstance(self.region, dict) else self.region
        return self.model_copy(update={"modality": tuple(modalities), "region": region, "layout": layout})

    def status(self) -> str | None:
        """Return why no file of it can be found, in a sentence, or None if its root is there."""
        folder = self.root.folder()
        if folder is None:
            if self.root.env is not None:
                return f"set {self.root.env} to the folder that holds it"
            return f"install the Python package {self.root.package}"
        return None if folder.is_dir() else f"{folder} is not a folder"
