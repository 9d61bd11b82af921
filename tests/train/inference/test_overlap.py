import threading

import pytest

from scans.errors import ScanError
from train.inference.overlap import Done, ThreeSteps, overlapped


def steps(
    before=lambda item: item, network=lambda item, ready: ready, after=lambda item, ready, found: found, voxels=1
):
    """Return steps whose results are (item, what it came to)."""
    return ThreeSteps(
        before,
        network,
        lambda item, ready, found: (item, after(item, ready, found)),
        lambda item, error: (item, str(error)),
        name=lambda item: f"scan {item}",
        voxels=lambda ready: voxels,
    )


def test_the_next_scans_are_read_and_the_last_written_while_the_network_runs():
    """The network on the first scan waits for the second to be read; the second for the first to be written."""
    read, written = threading.Event(), threading.Event()

    def before(item):
        if item == 1:
            read.set()

    def network(item, ready):
        assert (read if item == 0 else written).wait(30)

    def after(item, ready, found):
        written.set()

    assert [item for item, _ in overlapped(range(4), steps(before, network, after))] == [0, 1, 2, 3]


def test_results_come_in_the_order_of_the_scans_whichever_is_written_first():
    last = threading.Event()

    def after(item, ready, found):
        if item == 1:
            last.set()
        elif item == 0:
            assert last.wait(30)
        return item * 10

    assert list(overlapped(range(3), steps(after=after))) == [(0, 0), (1, 10), (2, 20)]


@pytest.mark.parametrize("broken", ["before", "network", "after"])
def test_a_scan_that_fails_in_any_step_is_a_result_and_the_others_go_on(broken):
    def fails(item, *rest):
        if item == 1:
            raise ValueError("no such voxel")
        return item

    results = list(overlapped(range(3), steps(**{broken: fails})))
    assert results[0] == (0, 0)
    assert results[2] == (2, 2)
    assert results[1][1].startswith("scan 1 cannot be used (ValueError: no such voxel)")


def test_what_is_done_already_sees_no_network():
    def network(item, ready):
        raise AssertionError

    assert list(overlapped(range(3), steps(lambda item: Done((item, "kept")), network))) == [
        (item, "kept") for item in range(3)
    ]


@pytest.mark.parametrize("voxels", [2**27, 2**31])
def test_of_large_scans_no_more_than_two_are_under_way(voxels):
    under_way, seen = set(), []

    def started(items):
        under_way.update(items)
        seen.append(len(under_way))

    for item, _ in overlapped(range(6), steps(voxels=voxels), started=started):
        under_way.discard(item)
    assert max(seen) == 2


@pytest.mark.parametrize("here", [False, True])
def test_scans_are_told_of_before_they_are_begun_and_read_in_the_thread_that_asks_where_a_tool_runs(here):
    told, threads = [], set()

    def before(item):
        assert item in told
        threads.add(threading.get_ident())

    list(overlapped(range(5), steps(before), started=told.extend, here=here))
    assert told == list(range(5))
    assert (threads == {threading.get_ident()}) == here


def test_a_stop_ends_what_is_under_way_and_begins_nothing_more():
    begun = []

    def network(item, ready):
        if item == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(overlapped(range(100), steps(begun.append, network)))
    assert len(begun) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scan")]


def test_a_users_error_keeps_its_words():
    def before(item):
        raise ScanError(f"{item}.nii.gz is cut off; copy it again")

    assert list(overlapped([7], steps(before))) == [(7, "7.nii.gz is cut off; copy it again")]
