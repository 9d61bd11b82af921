import pytest

from tests.made.tiny_corpus import TinyCorpus
from train.data.split import split_by_source
from train.settings import SettingsError


def test_training_never_sees_a_held_out_source():
    corpus = TinyCorpus(sources=4, samples=60)
    split = split_by_source(corpus, ["set--2"], seed=0, limit=10)
    assert len(split.validation) == 10
    assert set(corpus.normal[split.validation]) == {2}
    assert 2 not in corpus.normal[split.training]
    assert 2 not in corpus.donor[split.training]
    assert len(split.training)


def test_with_two_sources_they_part_by_normal_and_the_note_says_so():
    corpus = TinyCorpus(sources=2, samples=10)
    split = split_by_source(corpus, [], seed=0, limit=10)
    assert not set(split.training) & set(split.validation)
    assert "too few sources" in split.note


def test_with_one_source_samples_are_parted_and_the_note_says_so():
    split = split_by_source(TinyCorpus(sources=1, samples=20), [], seed=0, limit=10)
    assert sorted([*split.training, *split.validation]) == list(range(20))
    assert "same anatomy" in split.note


def test_an_unknown_source_is_named():
    with pytest.raises(SettingsError, match="set--7"):
        split_by_source(TinyCorpus(), ["set--7"], seed=0, limit=10)
