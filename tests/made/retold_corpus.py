"""A corpus that tells other things of itself than are stored: other scans, another region, more samples."""

from synth.corpus import Corpus


class RetoldCorpus:
    """Tells `told` (attributes of a corpus by name) and leaves all else to the corpus; counts the samples read."""

    def __init__(self, corpus: Corpus, **told):
        self._corpus = corpus
        self.read = 0
        for name, value in told.items():
            setattr(self, name, value)

    def __getattr__(self, name):
        return getattr(self._corpus, name)

    def __len__(self):
        return len(self.recipes)

    def __getitem__(self, index):
        self.read += 1
        return self._corpus[index % len(self._corpus)]


def with_sources(corpus, **fields):
    """Return the corpus with `fields` of its sources replaced: by one value for all, or by a list of one for each."""
    told = []
    for position, source in enumerate(corpus.sources):
        mine = {key: value[position] if isinstance(value, list) else value for key, value in fields.items()}
        told.append({**source, **mine})
    return RetoldCorpus(corpus, sources=told)
