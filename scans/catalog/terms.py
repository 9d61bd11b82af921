"""Terms: what scans come with. All scans of a dataset under the same terms are one entry."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scans.markdown import clean

_CREATIVE_COMMONS = [f"CC-BY{extra}-{version}" for version in ("2.0", "3.0", "4.0")
                     for extra in ("", "-SA", "-NC", "-NC-SA", "-ND", "-NC-ND")]  # fmt: skip
_PERMISSIVE = ["CC0-1.0", "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"]
_KNOWN = {name.upper(): name for name in _CREATIVE_COMMONS + _PERMISSIVE}  # SPDX identifiers
_SHORT = {"CC0": "CC0-1.0", "APACHE 2.0": "Apache-2.0"}
_CONDITIONS = re.compile(r"\bCC[ -]?BY((?:[ -](?:NC|SA|ND))*)(?:[ -](\d\.\d))?", re.IGNORECASE)
_NOT_COMMERCIAL = re.compile(r"\b(?:non|not|no)[ -]?commercial", re.IGNORECASE)


@dataclass(frozen=True)
class Terms:
    """What the scans of one dataset come with, as one line of clean text each.

    Attributes
    ----------
    dataset, licence, terms, citation : str
        Empty where nothing is recorded.
    derived : bool or None
        Whether data made from the scans may be passed on, as the catalog says; None where nothing is recorded.
    sources : tuple of int
        Positions of these scans in the list of sources.
    """

    dataset: str
    licence: str
    terms: str
    citation: str
    derived: bool | None
    sources: tuple[int, ...]

    @property
    def spdx(self) -> str | None:
        """SPDX identifier of the licence, None if it is none that is known here."""
        return _SHORT.get(self.licence.upper()) or _KNOWN.get(re.sub(r"[ _]", "-", self.licence.upper()))

    @property
    def conditions(self) -> set[str]:
        """What a Creative Commons licence named anywhere in the licence asks for, of ``NC``, ``ND`` and ``SA``."""
        found = {
            part for extra, _ in _CONDITIONS.findall(self.licence) for part in re.findall(r"[A-Z]{2}", extra.upper())
        }
        return found | ({"NC"} if _NOT_COMMERCIAL.search(f"{self.licence} {self.terms}") else set())

    @property
    def passes_on(self) -> bool | None:
        """Whether data made from the scans may be passed on, by the catalog and by what a licence is called."""
        named = _CONDITIONS.findall(f"{self.licence}; {self.terms}")
        return False if any("ND" in extra.upper() for extra, _ in named) else self.derived

    @property
    def share_alike(self) -> set[str]:
        """Licences that what is made from the scans must be passed on under."""
        matches = [match for match in _CONDITIONS.finditer(self.licence) if "SA" in match[1].upper()]
        return {re.sub(r"[ -]+", "-", match[0].upper()) for match in matches}


def terms_of(sources: Iterable[dict[str, Any]]) -> list[Terms]:
    """Return the terms of the sources: one entry for all scans of a dataset under the same terms.

    Parameters
    ----------
    sources : iterable of dict
        As ``Corpus.sources``; what a source lacks is not recorded.

    Returns
    -------
    list of Terms
        In the order of the first scan of each.
    """
    found: dict[tuple[str, str, str, str, bool | None], list[int]] = {}
    for position, source in enumerate(sources):
        dataset, licence, terms, citation = (
            clean(source.get(key) or "") for key in ("dataset", "licence", "terms", "citation")
        )
        said = source.get("redistribute_derived")
        derived = said if isinstance(said, bool) else None
        found.setdefault((dataset, licence, terms, citation, derived), []).append(position)
    return [Terms(*key, tuple(positions)) for key, positions in found.items()]
