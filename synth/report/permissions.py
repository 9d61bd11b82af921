"""Terms: what may be done with a corpus. What one of its sources forbids, the corpus forbids."""

from collections.abc import Iterable
from dataclasses import dataclass

from scans.catalog.terms import Terms


@dataclass(frozen=True)
class Answer:
    """One question about what may be done, its answer, and the datasets that decide it."""

    question: str
    answer: str
    because: tuple[str, ...] = ()


def common_licence(terms: list[Terms]) -> str | None:
    """Return the SPDX identifier of the licence that the whole corpus may be passed on under, or None."""
    licences = {entry.spdx for entry in terms}
    if len(licences) != 1 or not all(entry.passes_on for entry in terms):
        return None
    return licences.pop()


def united(terms: list[Terms]) -> list[Answer]:
    """Say what may be done with the corpus, as far as a program can read it off its sources' terms."""
    unknown = _names(entry for entry in terms if entry.spdx is None)
    return [_passing_on(terms), _licence(terms, unknown), _commerce(terms, unknown), _credit(terms)]


def _passing_on(terms: list[Terms]) -> Answer:
    question = "May it be passed on?"
    if _kept(terms):
        return Answer(question, "No: what is made from these scans is not to be passed on", _kept(terms))
    if contradicting(terms):
        return Answer(question, "No: licences of its sources contradict each other", contradicting(terms))
    return Answer(question, "Yes, with this card and under the terms of its sources")


def _licence(terms: list[Terms], unknown: tuple[str, ...]) -> Answer:
    question = "Under which licence?"
    alike = sorted(set().union(*(entry.share_alike for entry in terms)))
    if _kept(terms):
        return Answer(question, "None, since it is not to be passed on", _kept(terms))
    if contradicting(terms):
        others = "" if len(alike) > 1 else ", and others forbid commercial use"
        return Answer(
            question, f"None fits all sources: {' and '.join(alike)} must be kept{others}", contradicting(terms)
        )
    if alike:
        return Answer(question, f"{alike[0]} only", _names(entry for entry in terms if entry.share_alike))
    common = common_licence(terms)
    if common:
        return Answer(question, f"{common}, that of all its sources")
    return Answer(question, "No single one: the terms of every source hold together", unknown)


def _commerce(terms: list[Terms], unknown: tuple[str, ...]) -> Answer:
    question = "May it be used commercially?"
    forbidding = _names(entry for entry in terms if "NC" in entry.conditions)
    if forbidding:
        return Answer(question, "No", forbidding)
    if unknown:
        return Answer(question, "Not before someone has read the terms of these sources", unknown)
    return Answer(question, "Yes")


def _credit(terms: list[Terms]) -> Answer:
    asking = _names(entry for entry in terms if entry.spdx != "CC0-1.0")
    if asking:
        return Answer("Must its sources be credited?", "Yes, by the citations that come with them", asking)
    return Answer("Must its sources be credited?", "They do not ask for it; cite them all the same")


def _kept(terms: list[Terms]) -> tuple[str, ...]:
    """Name the datasets that nothing made from may be passed on."""
    return _names(entry for entry in terms if not entry.passes_on)


def contradicting(terms: list[Terms]) -> tuple[str, ...]:
    """Name the datasets whose licences no single licence satisfies."""
    alike = set().union(*(entry.share_alike for entry in terms))
    forbidding = [entry for entry in terms if "NC" in entry.conditions]
    open_ones = {licence for licence in alike if "NC" not in licence.split("-")}
    if len(alike) > 1:
        return _names(entry for entry in terms if entry.share_alike)
    if open_ones and forbidding:
        return _names(entry for entry in terms if entry.share_alike or entry in forbidding)
    return ()


def _names(terms: Iterable[Terms]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.dataset for entry in terms))
