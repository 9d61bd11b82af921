"""A function over many keys: a bounded number in flight, each ended by a result or a failure."""

import os
import sys
import time

import pytest
from distributed import LocalCluster

from scans.errors import CatalogError, StoreError
from synth.cluster import expected_workers, open_cluster
from synth.tasks import Failure, run_tasks


def double(key):
    return 2 * key


def nap(key):
    time.sleep(0.05)
    return os.getpid()


def fail_at_two(key):
    if key == 2:
        raise StoreError("two is not there")
    return key


def die_at_three(key):
    if key == 3:
        os.abort()
    return key


@pytest.fixture(scope="module")
def client():
    with open_cluster("local", 2) as client:
        yield client


def test_results_come_with_their_keys_here_and_on_a_cluster(client):
    for where in (None, client):
        assert dict(run_tasks(where, double, range(40))) == {key: 2 * key for key in range(40)}


def test_a_failure_is_told_by_key_and_the_others_go_on(client):
    for where in (None, client):
        results = dict(run_tasks(where, fail_at_two, range(5)))
        failure = results.pop(2)
        assert results == {0: 0, 1: 1, 3: 3, 4: 4}
        assert isinstance(failure, Failure)
        assert failure.reason == "two is not there"
        assert isinstance(failure.error, StoreError)


def test_what_fails_once_is_tried_again(client, tmp_path):
    def fail_first(key):
        mark = tmp_path / f"{os.path.basename(sys.executable)}-{key}"
        if not mark.exists():
            mark.touch()
            raise OSError("only now")
        return key

    for where, keys in ((None, range(3)), (client, range(3, 6))):
        assert dict(run_tasks(where, fail_first, keys)) == {key: key for key in keys}


def test_only_the_task_that_kills_its_worker_is_left_out(client):
    results = dict(run_tasks(client, die_at_three, range(12)))
    failure = results.pop(3)
    assert results == {key: key for key in range(12) if key != 3}
    assert isinstance(failure, Failure)
    assert "its worker died" in failure.reason


def test_neither_client_nor_scheduler_ever_knows_many_tasks(client):
    most = 0
    for _ in run_tasks(client, double, range(300)):
        known = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) if most < 3 else 0
        most = max(most, len(client.futures), known)
    assert 2 <= most <= 16  # four a worker, and those whose release is under way
    assert not client.futures


def test_workers_that_come_later_are_used_and_their_absence_is_said(monkeypatch):
    monkeypatch.setattr("synth.tasks._LOOK_S", 0.1)
    monkeypatch.setattr("synth.tasks._PATIENCE_S", 0.3)
    said, most = [], 0
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
        open_cluster(cluster.scheduler_address) as client,
    ):

        def hear(sentence):
            said.append(sentence)
            cluster.scale(3)

        for _ in run_tasks(client, nap, range(150), say=hear):
            most = max(most, len(client.futures))
    assert "no worker is there; waiting" in said[0]
    assert "there" in said[1]
    assert most > 8  # more than the two workers' worth of tasks


def test_leaving_early_takes_the_tasks_back(client):
    results = run_tasks(client, nap, range(1000))
    next(results)
    results.close()
    assert not [future for future in client.futures.values() if future.status == "pending"]


def test_no_workers_is_no_dask_and_no_task_no_cluster():
    for workers, tasks in ((0, 10), (4, 0)):
        with open_cluster("local", workers, tasks) as client:
            assert client is None


@pytest.mark.parametrize(("cluster", "workers", "sentence"), [
    ("local", -1, "--workers -1"),
    ("tcp://127.0.0.1:1", 2, "only --cluster local"),
    ("tcp://127.0.0.1:1", None, "no scheduler answers"),
    ("nowhere.yaml", None, "YAML file that exists"),
])  # fmt: skip
def test_a_cluster_that_cannot_be_is_one_sentence(cluster, workers, sentence):
    with pytest.raises(CatalogError, match=sentence), open_cluster(cluster, workers):
        pass


def test_workers_are_counted_before_any_is_started(tmp_path):
    queue = tmp_path / "queue.yaml"
    queue.write_text("class: SLURMCluster\njobs: 5\ncores: 16\nmemory: 1GB\n", encoding="utf-8")
    assert expected_workers(str(queue)) == 80
    assert expected_workers("local", 3) == 3
    assert expected_workers("local", 0) == 1
