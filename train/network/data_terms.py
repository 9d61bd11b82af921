"""Terms of the data that a network was trained on, as its record knows them.

Weights are not the scans, and whether they count as data derived from them is for the terms to say, not for a program.
What it can do is name every dataset whose terms do not let derived data be passed on, and those it knows no terms of.
"""

from collections.abc import Sequence
from typing import Any

from scans.catalog.dataset import Dataset
from scans.catalog.terms import Terms, terms_of

_TERMS = ("licence", "terms", "citation", "redistribute_derived")


def trained_on(data: dict[str, Any]) -> list[Terms]:
    """Return the terms of everything trained on, an entry for all scans of a dataset under the same terms.

    Parameters
    ----------
    data : dict
        Of a record.

    Returns
    -------
    list of Terms
        The corpus's sources in their order, then the real scans of adaptation or fine-tuning.
    """
    real = [each for each in real_datasets(data) for _ in scans_of(each)]
    return terms_of([*sources_of(data), *real])


def sources_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sources of the corpus that a record's data names; what is no source is left out."""
    sources = data.get("sources")
    return [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []


def lent_tumours(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return those of `sources_of` whose real tumours are in the corpus: annotated, or marked by a network."""
    return [source for source in sources_of(data) if source.get("tumour_voxels")]


def annotated_lenders(data: dict[str, Any]) -> int:
    """Return how many of `lent_tumours` were marked by an annotator, and not by a network."""
    return sum("pseudo_label" not in source for source in lent_tumours(data))


def lenders_in_words(data: dict[str, Any]) -> str:
    """Say how many scans lent their tumours, and who marked them; empty if none did."""
    annotated = annotated_lenders(data)
    marked = len(lent_tumours(data)) - annotated
    said = [f"{annotated} annotated scans"] if annotated else []
    said += [f"{marked} scans that a network marked"] if marked else []
    return " and ".join(said)


def with_dataset(
    data: dict[str, Any], name: str, dataset: Dataset, stage: str, scans: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what a record says of datasets of real scans once a stage has trained on one more.

    Parameters
    ----------
    data : dict
        Of the record of the network it began from; empty for none.
    name : str
    dataset : Dataset
    stage : str
        ``adapt`` or ``finetune``.
    scans : sequence of str
        Names of those trained on or steered by.

    Returns
    -------
    list of dict
        One for each stage and dataset, in their order: ``dataset``, ``stage``, ``licence``, ``terms``, ``citation``,
        ``redistribute_derived`` and ``scans``.
    """
    entry = {"dataset": name, "stage": stage, **{key: getattr(dataset, key) for key in _TERMS}}
    before = real_datasets(data)
    again = [each for each in before if {**each, "scans": None} == {**entry, "scans": None}]
    names = [name for each in again for name in scans_of(each)]
    return [*(each for each in before if each not in again), {**entry, "scans": list(dict.fromkeys([*names, *scans]))}]


def real_datasets(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a record says of each dataset of real scans, as `with_dataset` does.

    A record from before their terms were kept knows no more than the newest dataset's name and the scans.
    """
    kept = data.get("datasets")
    if isinstance(kept, list):
        return [each for each in kept if isinstance(each, dict)]
    real = real_cases(data)
    return [{"dataset": data.get("dataset", ""), "scans": real}] if real else []


def scans_of(dataset: dict[str, Any]) -> list[str]:
    """Return the names of the scans in an entry of `real_datasets`."""
    names = dataset.get("scans")
    return list(map(str, names)) if isinstance(names, list) else []


def real_cases(data: dict[str, Any]) -> list[str]:
    """Return the names of the real scans that a network was adapted to or fine-tuned on, steering ones included."""
    lists = [data.get(key) for key in ("scans", "training", "validation")]
    return [str(name) for names in lists if isinstance(names, list) for name in names]


def unclear(terms: list[Terms]) -> list[str]:
    """Say in a sentence each what stands in the way of passing the weights on; empty if nothing is known to."""
    sentences = []
    if forbidding := [entry for entry in terms if entry.passes_on is False]:
        named = "; ".join(
            f"{e.dataset} ({len(e.sources)} scans, licence: {e.licence or 'not recorded'})" for e in forbidding
        )
        sentences.append(f"The terms of these scans do not let data derived from them be passed on: {named}.")
    if unknown := [entry for entry in terms if entry.passes_on is None]:
        named = "; ".join(f"{e.dataset or 'a dataset without a name'} ({len(e.sources)} scans)" for e in unknown)
        sentences.append(f"Whether data derived from these scans may be passed on is not recorded: {named}.")
    return sentences
