import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import TinyCorpus

from train.settings import SettingsError
from train.stream import ahead, collate, order, positions, split_by_source, standardise


@given(st.integers(1, 300), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_order_is_a_permutation(count, seed, epoch):
    assert sorted(order(count, seed, epoch).tolist()) == list(range(count))


def test_order_stays_what_it_was():
    assert order(8, 0, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert order(8, 0, 1).tolist() != order(8, 0, 0).tolist()
    assert order(8, 1, 0).tolist() != order(8, 0, 0).tolist()


@given(st.integers(1, 20), st.integers(1, 7))
def test_an_epoch_shows_every_sample_once(count, batch):
    shown = [i for step in range(-(-2 * count // batch)) for i in positions(count, batch, 3, step)]
    assert sorted(shown[:count]) == sorted(shown[count : 2 * count]) == list(range(count))


def test_reading_ahead_keeps_the_order_whatever_the_threads():
    read = [list(ahead(lambda i: i * i, lambda step: [step, step + 1], range(3, 9), threads)) for threads in (1, 5)]
    assert read[0] == read[1] == [[s * s, (s + 1) ** 2] for s in range(3, 9)]


def test_an_error_while_reading_reaches_the_loop():
    def read(index):
        raise SettingsError("gone")

    with pytest.raises(SettingsError, match="gone"):
        next(ahead(read, lambda step: [step], range(3), 2))


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


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 23))
def test_standardised_sample_still_composes(index):
    sample = standardise(TinyCorpus()[index])
    inside = sample.mask != 0
    again = sample.normal + sample.alpha * (sample.texture - sample.normal)
    np.testing.assert_allclose(sample.composite[inside], again[inside], atol=1e-5)
    np.testing.assert_array_equal(sample.composite[~inside], sample.normal[~inside])
    roi = sample.composite != 0
    assert abs(sample.composite[roi].mean()) < 1e-3
    assert sample.composite[roi].std() == pytest.approx(1, abs=1e-2)


def test_batch_keeps_each_sample_whole():
    corpus = TinyCorpus()
    batch = collate([corpus[0], corpus[5]])
    assert batch.composite.shape == (2, 1, 16, 16, 16)
    np.testing.assert_array_equal(batch.texture[1, 0].numpy(), corpus[5].texture)
    assert batch.alpha.tolist() == [corpus[0].alpha, corpus[5].alpha]
    assert batch.mask.dtype == torch.float32
