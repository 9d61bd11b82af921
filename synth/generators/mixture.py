"""Mixture: several ways of making tumours in one corpus, each with its share, in an order that the seed decides."""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scans.catalog.synthesis import override
from scans.errors import CatalogError
from synth.generators.registry import way_of
from synth.generators.way import Way
from synth.tumour.philox import Stream

if TYPE_CHECKING:
    from scans.catalog.region import Region


_ORDER = 2**32  # the stream of the order, beside those of samples
_SHARE = re.compile(r"\d+(\.\d+)?|\.\d+")


@dataclass(frozen=True)
class Mixture:
    """Ways of making tumours, and the share of the samples that each makes.

    Attributes
    ----------
    ways : tuple of Way
    shares : tuple of float
        Positive; they need not add up to 1.
    """

    ways: tuple[Way, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, way: Way) -> "Mixture":
        """Return a way as the mixture of itself alone."""
        return cls((way,), (1.0,))

    def counts(self, samples: int) -> list[int]:
        """Return how many of `samples` each way makes: its share, rounded so that all are made (largest remainder)."""
        exact = [samples * share / sum(self.shares) for share in self.shares]
        whole = [int(each) for each in exact]
        order = sorted(range(len(exact)), key=lambda way: (whole[way] - exact[way], way))
        for way in order[: samples - sum(whole)]:
            whole[way] += 1
        return whole

    def runs(self, seed: int, first: int, samples: int) -> list[tuple[int, int, int]]:
        """Say which way makes each sample: a pure function of the arguments.

        Parameters
        ----------
        seed : int
        first : int
            Index of the first sample.
        samples : int

        Returns
        -------
        list of (int, int, int)
            Way, first index, count: consecutive samples, as a block of a manifest draws them.
        """
        if len(self.ways) == 1:
            return [(0, first, samples)]
        made = np.repeat(np.arange(len(self.ways)), self.counts(samples))
        keys = Stream(seed, first, _ORDER).units(samples)
        order = made[np.argsort(keys, kind="stable")].tolist()
        runs, at = [], first
        for way, same in itertools.groupby(order):
            count = len(list(same))
            runs.append((way, at, count))
            at += count
        return runs


def with_donors(mixture: Mixture, tumours: Sequence[str]) -> Mixture:
    """Return a mixture whose tumours are real ones, wherever a generator can take them (``donor.tumours``).

    Parameters
    ----------
    mixture : Mixture
    tumours : sequence of str
        Names of sources that lend one.

    Raises
    ------
    CatalogError
        If none of its generators can.
    """
    taking = [hasattr(getattr(way.settings, "donor", None), "tumours") for way in mixture.ways]
    if not any(taking):
        named = ", ".join(way.name for way in mixture.ways)
        raise CatalogError(
            f"--lend: generator {named} takes no real tumours; mix it with one that does, as --generator "
            f"{mixture.ways[0].name}:0.7 --generator layers:0.3"
        )
    assignment = f"donor.tumours={json.dumps(list(tumours))}"
    ways = (
        Way(way.generator, override(way.settings, [assignment])) if takes else way
        for way, takes in zip(mixture.ways, taking, strict=True)
    )
    return Mixture(tuple(ways), mixture.shares)


def parse_mixture(region: "Region", given: Sequence[str], assignments: Sequence[str]) -> Mixture:
    """Read ``--generator NAME[:SHARE]``, given several times, and ``--set [NAME:]key=value``.

    Raises
    ------
    CatalogError
        For an unknown generator, a share that is none, one named twice, or a setting that it does not allow.
    """
    parts = [text.partition(":") for text in given or [region.generator]]
    asked = [name.strip() for name, _, _ in parts]
    if len(set(asked)) < len(asked):
        raise CatalogError(f"--generator {', '.join(given)}: name each generator once")
    shares = []
    for text, (_, colon, share) in zip(given or asked, parts, strict=True):
        if colon and (not _SHARE.fullmatch(share.strip()) or float(share) <= 0):
            raise CatalogError(f"--generator {text}: write it as NAME or NAME:SHARE, e.g. compound:0.7")
        shares.append(float(share) if colon else 1.0)
    if len(asked) > 1 and not all(colon for _, colon, _ in parts):
        raise CatalogError(f"--generator {', '.join(given)}: give each its share, e.g. {asked[0]}:0.5")
    own: dict[str, list[str]] = {name: [] for name in asked}
    for assignment in assignments:
        name, colon, rest = assignment.partition(":")
        if colon and name.strip() in own:
            own[name.strip()].append(rest)
        elif len(asked) == 1:
            own[asked[0]].append(assignment)
        else:
            raise CatalogError(f"--set {assignment}: say whose setting it is, as --set {asked[0]}:{assignment}")
    return Mixture(tuple(way_of(region, name, own[name]) for name in asked), tuple(shares))
