"""Random numbers: a pure function of (seed, index, stream), the same for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.tumour.philox import Stream

words = st.integers(0, 2**64 - 1)


@given(seed=words, index=words, stream=st.integers(0, 5))
def test_a_stream_can_be_drawn_again(seed, index, stream):
    first, second = Stream(seed, index, stream), Stream(seed, index, stream)
    assert [first.word() for _ in range(5)] == [second.word() for _ in range(5)]


def test_the_first_words_never_change():
    # Philox4x64-10 at counters 1 and 2, key 0. Were these to change, every corpus would.
    stream = Stream(0, 0, 0)
    assert [stream.word() for _ in range(4)] == [
        213000021201967259,
        4455796210202625458,
        2055444239878205049,
        10411612076246414556,
    ]


def test_the_whole_64_bits_of_seed_and_index_count():
    near = {Stream(seed, index).word() for seed in (2**64 - 1, 2**64 - 2) for index in (2**64 - 1, 2**64 - 2)}
    assert len(near) == 4


def test_samples_and_streams_never_share_numbers():
    seen = {Stream(5, index, stream).word() for index in range(200) for stream in range(6)}
    assert len(seen) == 1200


@given(seed=words, low=st.floats(-1e6, 1e6), span=st.floats(0, 1e6))
def test_uniform_stays_in_its_interval_at_nine_digits(seed, low, span):
    number = Stream(seed, 0).uniform(low, low + span)
    assert low <= number <= low + span
    assert number == float(f"{number:.9g}") or number in (low, low + span)


@given(seed=words, bound=st.integers(1, 10**12))
def test_below_is_below(seed, bound):
    assert 0 <= Stream(seed, 0).below(bound) < bound


def test_laws_have_their_means():
    draws = [Stream(1, i) for i in range(20_000)]
    assert np.mean([d.uniform(2, 4) for d in draws]) == pytest.approx(3, abs=0.02)
    logs = np.log([d.log_uniform(500, 100_000) for d in draws])
    assert logs.mean() == pytest.approx((np.log(500) + np.log(100_000)) / 2, abs=0.05)
    union = np.array([d.uniform_over([(0.0, 1.0), (5.0, 8.0)]) for d in draws])
    assert ((union <= 1) | (union >= 5)).all()
    assert (union >= 5).mean() == pytest.approx(0.75, abs=0.02)
