"""Terms of the data that a network was trained on, as its record knows them.

Weights are not the scans, and whether they count as data derived from them is for the terms to say, not for a program.
What it can do is name every dataset whose terms do not let derived data be passed on, and those it knows no terms of.
"""

import re
from dataclasses import dataclass
from typing import Any

from train.markdown import clean

_NO_DERIVATIVES = re.compile(r"\bCC[ -]?BY(?:[ -](?:NC|SA))*[ -]ND\b", re.IGNORECASE)


@dataclass(frozen=True)
class Terms:
    """What the scans of one dataset come with, each as one line of clean text.

    Attributes
    ----------
    dataset, licence, terms, citation : str
        Empty where the record does not say.
    derived : bool or None
        Whether data made from the scans may be passed on; None where the record does not say.
    scans : int
    """

    dataset: str
    licence: str
    terms: str
    citation: str
    derived: bool | None
    scans: int

    @property
    def said(self) -> str:
        """Answer whether derived data may be passed on."""
        return {True: "yes", False: "**no**", None: "not recorded"}[self.derived]


def sources_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sources of the corpus that a record's data names; what is no source is left out."""
    sources = data.get("sources")
    return [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []


def terms_of(data: dict[str, Any]) -> list[Terms]:
    """Return the terms of everything trained on: an entry for all scans of a dataset under the same terms.

    Parameters
    ----------
    data : dict
        Of a record.

    Returns
    -------
    list of Terms
        The corpus's sources in their order, then the real scans of adaptation or fine-tuning.
    """
    found: dict[tuple[str, str, str, str, bool | None], int] = {}
    for source in sources_of(data):
        dataset, licence, terms, citation = (
            clean(source.get(key) or "") for key in ("dataset", "licence", "terms", "citation")
        )
        allowed = source.get("redistribute_derived")
        derived = allowed if isinstance(allowed, bool) else None
        if _NO_DERIVATIVES.search(f"{licence} {terms}"):
            derived = False
        key = (dataset, licence, terms, citation, derived)
        found[key] = found.get(key, 0) + 1
    entries = [Terms(*key, count) for key, count in found.items()]
    if real := real_cases(data):
        # A record names the dataset of real scans alone; its terms stand in the catalog.
        entries.append(Terms(clean(data.get("dataset", "")), "", "", "", None, len(real)))
    return entries


def real_cases(data: dict[str, Any]) -> list[str]:
    """Return the names of the real scans that a network was adapted to or fine-tuned on, steering ones included."""
    lists = [data.get(key) for key in ("scans", "training", "validation")]
    return [str(name) for names in lists if isinstance(names, list) for name in names]


def unclear(terms: list[Terms]) -> list[str]:
    """Say in a sentence each what stands in the way of passing the weights on; empty if nothing is known to."""
    sentences = []
    if forbidding := [entry for entry in terms if entry.derived is False]:
        named = "; ".join(f"{e.dataset} ({e.scans} scans, licence: {e.licence or 'not recorded'})" for e in forbidding)
        sentences.append(f"The terms of these scans do not let data derived from them be passed on: {named}.")
    if unknown := [entry for entry in terms if entry.derived is None]:
        named = "; ".join(f"{e.dataset or 'a dataset without a name'} ({e.scans} scans)" for e in unknown)
        sentences.append(f"Whether data derived from these scans may be passed on is not recorded: {named}.")
    return sentences
