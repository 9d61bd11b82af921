import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.data.order import WINDOW, Endless, order, shuffled
from train.network.ranks import ALONE, Ranks

shards = st.lists(st.integers(0, 60), min_size=1, max_size=200).map(lambda s: np.array(sorted(s)))


@given(st.integers(1, 300), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_order_is_a_permutation(count, seed, epoch):
    assert sorted(order(count, seed, epoch).tolist()) == list(range(count))


def test_order_stays_what_it_was():
    assert order(8, 0, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert order(8, 0, 1).tolist() != order(8, 0, 0).tolist()
    assert order(8, 1, 0).tolist() != order(8, 0, 0).tolist()


@given(shards, st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_an_epoch_shows_every_sample_once(shards, seed, epoch):
    assert sorted(shuffled(shards, seed, epoch).tolist()) == list(range(len(shards)))


def test_the_order_of_an_epoch_stays_what_it_was():
    assert shuffled(np.arange(8) // 2, 0, 0).tolist() == [7, 5, 4, 1, 0, 6, 2, 3]


def test_samples_of_a_shard_come_within_one_window():
    of_sample = np.arange(64 * 100) // 64
    shown = of_sample[shuffled(of_sample, 3, 5)]
    for first in range(0, len(shown), 64 * WINDOW):
        assert len(np.unique(shown[first : first + 64 * WINDOW])) <= WINDOW
    assert len(np.unique(shown[:256])) > WINDOW / 2  # and not one shard after the other
    assert shown[: 64 * WINDOW].tolist() != of_sample[shuffled(of_sample, 3, 6)][: 64 * WINDOW].tolist()


@given(shards, st.integers(1, 7), st.integers(1, 4))
def test_processes_share_each_epoch_without_overlap(shards, batch, ranks):
    stream, count = Endless(shards, 3), len(shards)
    steps = range(-(-2 * count // (batch * ranks)))
    drawn = [stream[p] for step in steps for rank in range(ranks) for p in Ranks(rank, ranks).share(batch, step)]
    assert sorted(drawn[:count]) == sorted(drawn[count : 2 * count]) == list(range(count))


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 50))
def test_processes_together_see_what_one_with_their_batch_would(batch, ranks, step):
    together = [p for rank in range(ranks) for p in Ranks(rank, ranks).share(batch, step)]
    assert together == list(ALONE.share(batch * ranks, step))
