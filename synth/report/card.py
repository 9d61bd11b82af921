"""Card: what a lab must know of a corpus that it is handed: a data card, its pictures, and Croissant metadata.

Everything follows from what the corpus says of itself, without a date or a version of the software that wrote it, so
that equal corpora have equal cards.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from synth.corpus.layout import metadata
from synth.corpus.receipt import CARD, source_sums, sum_of
from synth.report.generations import generations_of
from synth.store.opening import open_store
from synth.store.sealed_json import seal, to_bytes

if TYPE_CHECKING:
    from synth.corpus import Corpus


def _files(corpus: "Corpus") -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of the corpus's files by key: shards, sources, and what the manifest decides."""
    shards = [receipt.files for _, receipt in sorted(corpus.receipts.items())]
    sources = source_sums(corpus.store, corpus.manifest).values()
    decided = {**metadata(corpus.manifest), **corpus.manifest.files()}
    return {key: sum_of(content) for key, content in sorted(decided.items())} | {
        key: entry for files in (*sources, *shards) for key, entry in files.items()
    }


def write_card(corpus: "Corpus") -> None:
    """Write the card into the corpus, and its receipt last."""
    files, store = card_files(corpus), open_store(corpus.where)
    for key, content in files.items():
        store.write(key, content)
    receipt = {"files": {key: sum_of(content) for key, content in files.items()}}
    store.write(CARD, to_bytes(seal(receipt)))


def card_files(corpus: "Corpus", samples: int = 6) -> dict[str, bytes]:
    """Make the card of a corpus; nothing is written.

    Parameters
    ----------
    corpus : Corpus
        Finished.
    samples : int
        How many to show, evenly spread over the corpus.

    Returns
    -------
    dict of str to bytes
        Content by key: ``README.md``, ``card/samples.png``, ``card/distributions.png``, ``croissant.json``.
    """
    from matplotlib import style

    from synth.report.card_page import readme
    from synth.report.croissant import croissant
    from synth.report.distributions import distributions, distributions_png
    from synth.report.montage import montage_png

    generations = generations_of(corpus)
    shown = distributions(corpus, [way for _, way in generations])
    indices = np.unique(np.linspace(0, len(corpus) - 1, samples).round().astype(int)).tolist()
    with style.context("default"):  # whatever a user's own style is
        pictures = {
            "card/samples.png": montage_png(corpus, indices, planes=1),
            "card/distributions.png": distributions_png(shown),
        }
    described = json.dumps(croissant(corpus, _files(corpus)), indent=1, ensure_ascii=False)
    page = readme(corpus, generations, shown)
    return {"README.md": page.encode(), **pictures, "croissant.json": f"{described}\n".encode()}
