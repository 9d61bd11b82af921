"""A BIDS dataset that no catalog names: what it says of itself becomes an entry of the catalog."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scans.catalog.catalog import Catalog
from scans.catalog.dataset import Dataset, Root
from scans.catalog.settings import one_line
from scans.catalog.terms import Terms
from scans.errors import CatalogError
from scans.file_names import safe_names
from scans.formats.bids import description, modality_of

_PASSED_ON = ("CC0", "PDDL", "PD")  # of what BIDS calls licences: no rights are kept


def with_bids(
    catalog: Catalog, root: Path, suffix: str, region: str | None = None, pipelines: Sequence[str] = ()
) -> tuple[Catalog, str]:
    """Return a catalog with a BIDS dataset of healthy scans in it, and the name that it has there.

    Parameters
    ----------
    catalog : Catalog
        Has the region.
    root : Path
        Folder that holds ``sub-*``.
    suffix : str
        Of the scans, such as ``FLAIR``, after entities if need be.
    region : str, optional
        That of the catalog whose modality the suffix is, if not given.
    pipelines : sequence of str
        Folders below ``derivatives`` to take masks of.

    Returns
    -------
    catalog : Catalog
    name : str
        As the dataset calls itself, so that it is the same in any folder; the folder's, if it says nothing.

    Raises
    ------
    CatalogError
        If it is no BIDS dataset, or it is not clear of which region.
    """
    check_bids(root)
    modality = modality_of(suffix)
    if region is None:
        fit = [name for name, entry in catalog.regions.items() if entry.modality == modality]
        if len(fit) != 1:
            there = ", ".join(sorted(fit or catalog.regions)) or "none"
            raise CatalogError(f"--bids {root}: say of which region its {suffix} is, with --region; there are {there}")
        region = fit[0]
    catalog.region(region)  # says which there are, if it is none
    said = description(root)
    (name,) = safe_names([_line(said.get("Name")) or root.resolve().name])
    if name in catalog.datasets:
        raise CatalogError(f"--bids {root}: the catalog has a dataset {name} already; take that one, or rename it")
    licence = _line(said.get("License")) or "not stated"
    terms = Terms(name, licence, "", "", None, ())
    known = {
        "role": "normal",
        "region": region,
        "modality": modality,
        "licence": licence,
        "terms": "as the dataset's licence says",
        # What is not known to be allowed is not; a catalog may say otherwise.
        "redistribute_derived": licence.upper() in _PASSED_ON or bool(terms.spdx and not terms.conditions),
        "citation": _citation(said) or "not stated",
        "obtain": "ask whoever keeps the BIDS dataset",
        "root": Root(path=str(root)),
        "layout": {"kind": "bids", "image": suffix, "derivatives": tuple(pipelines)},
    }
    try:
        dataset = Dataset.model_validate(known)
    except ValidationError as error:  # what a user wrote as --suffix and --derivatives
        raise CatalogError(f"--bids {root}: {one_line(error)}") from error
    return catalog.model_copy(update={"datasets": {**catalog.datasets, name: dataset}}), name


def check_bids(root: Path) -> None:
    """Stop if a folder is no BIDS dataset.

    Raises
    ------
    CatalogError
    """
    if not root.is_dir():
        raise CatalogError(f"--bids {root}: is not a folder; give the one that holds sub-*")
    if not any(root.glob("sub-*")):
        raise CatalogError(f"--bids {root}: there is no sub-* in this folder; give the one that holds them")


def _line(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _citation(said: dict[str, Any]) -> str:
    authors = said.get("Authors")
    names = ", ".join(map(_line, authors)) if isinstance(authors, list) else ""
    doi = _line(said.get("DatasetDOI"))
    return _line(said.get("HowToAcknowledge")) or ". ".join(filter(None, [names, _line(said.get("Name")), doi]))
