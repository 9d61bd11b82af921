import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made.batches import collate
from tests.made.tiny_corpus import TinyCorpus
from train.data.batch import Batch, empty_batch, places


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 22))
def test_standardised_samples_still_compose_and_have_their_own_units(index):
    batch = collate([TinyCorpus()[index], TinyCorpus()[index + 1]]).standardised()
    for n in range(2):
        composite, normal, texture = (t[n, 0].numpy() for t in (batch.composite, batch.normal, batch.texture))
        inside = batch.mask[n, 0].numpy() != 0
        again = normal + float(batch.alpha[n]) * (texture - normal)
        np.testing.assert_allclose(composite[inside], again[inside], atol=1e-5)
        np.testing.assert_array_equal(composite[~inside], normal[~inside])
        assert not texture[~inside].any()
        roi = composite != 0
        assert abs(composite[roi].mean()) < 1e-3
        assert composite[roi].std() == pytest.approx(1, abs=1e-2)


def test_a_constant_sample_is_left_as_it_is():
    flat = torch.ones(1, 1, 4, 4, 4)
    batch = Batch(flat, flat, torch.zeros_like(flat), torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8), torch.ones(1))
    assert torch.equal(batch.standardised().composite, flat)


def test_a_batch_keeps_each_sample_whole():
    corpus = TinyCorpus()
    batch = collate([corpus[0], corpus[5]])
    assert batch.composite.shape == (2, 1, 16, 16, 16)
    np.testing.assert_array_equal(batch.texture[1, 0].numpy(), corpus[5].texture)
    assert batch.alpha.tolist() == [corpus[0].alpha, corpus[5].alpha]
    assert batch.mask.dtype == torch.uint8


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 4, 4)), (3, (3, 4, 4, 4))])
def test_the_places_of_a_batch_are_its_own_memory(channels, shape):
    batch = empty_batch(2, channels, 4, torch.float32, pinned=False)
    for number, place in enumerate(places(batch)):
        assert place.composite.shape == shape
        place.composite[:] = number
        place.mask[:] = number
    assert [float(t.mean()) for t in batch.composite] == [0, 1]
    assert [float(t.float().mean()) for t in batch.mask] == [0, 1]
