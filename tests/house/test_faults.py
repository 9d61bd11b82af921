"""What dies, and what stays: real processes, killed in the middle; the same command then finishes the corpus."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from scans.durable import only_writer
from scans.errors import StoreError
from synth.cli.application import app
from synth.corpus import Corpus
from synth.corpus.receipt import read_receipts
from synth.corpus.verify import verify
from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from tests.made.commands import Started, synth
from tests.made.corpora import files_of
from tests.made.running import Dask, running, wait_for, wait_for_receipts, workers_of

SAMPLES = 160


def command_of(sources_path, out, *more, samples=SAMPLES):
    """Return the command that makes a corpus in shards of 4; that of 160 samples is the one of `undisturbed`."""
    sizes = ["-n", samples, "--seed", 7, "--shard-size", 4]
    return ["generate", "--sources", sources_path, "--out", out, "--no-card", *sizes, *more]


def fresh(command):
    """Start a command as a terminal does: Ctrl-C, which its process group gets, must not reach its workers."""
    return running([sys.executable, "-m", "synth.cli", *map(str, command)])


def here(*arguments):
    """Run a command of ``synth`` in this process, where a mistake is an exception."""
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def receipts_of(out):
    return read_receipts(open_store(out), range(SAMPLES))


def finish_here(sources_path, out):
    """Finish the corpus of `command_of` as its command does, in this process."""
    assert not generate(
        make_manifest(SourceStore(sources_path), SAMPLES, 7, shard_size=4), sources_path, out, workers=0
    ).failed


@pytest.fixture(scope="module")
def undisturbed(sources, sources_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "c.zarr"
    assert not generate(make_manifest(sources, SAMPLES, 7, shard_size=4), sources_path, out, workers=0).failed
    return files_of(out)


@pytest.fixture(scope="module")
def dask():
    """Run one for tests that leave less and less of it: all, then a worker less, then no scheduler."""
    with Dask() as running_dask:
        yield running_dask


def test_a_killed_worker_is_replaced_and_its_shard_made(sources_path, undisturbed, tmp_path):
    out = tmp_path / "c.zarr"
    with Started("synth", *command_of(sources_path, out, "--workers", 2)) as run:
        wait_for_receipts(out)
        workers_of(run)[0].kill()
        said = run.communicate(timeout=120)[1]
    assert run.returncode == 0, said
    assert "Traceback" not in said
    assert files_of(out) == undisturbed


def test_a_killed_client_takes_its_workers_along_and_the_next_run_makes_only_what_is_missing(
    sources_path, undisturbed, tmp_path
):
    out = tmp_path / "c.zarr"
    command = command_of(sources_path, out, "--workers", 2)
    with Started("synth", *command) as run:
        wait_for_receipts(out, 2)
        workers = workers_of(run)
        run.kill()
        wait_for(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers), 30)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("receipts/0*.json")}
    assert 0 < len(before) < SAMPLES // 4
    done = here(*command[:-1], 0)
    assert done.exit_code == 0, done.output
    assert f"({len(before)} kept from before)" in done.output
    assert files_of(out) == undisturbed
    assert {name: (out / "receipts" / name).stat().st_mtime_ns for name in before} == before


def test_ctrl_c_stops_with_a_word_and_the_next_run_goes_on(sources_path, undisturbed, tmp_path):
    out = tmp_path / "c.zarr"
    command = command_of(sources_path, out, "--workers", 1)
    with fresh(command) as run:
        wait_for_receipts(out)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all its processes
        said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert receipts_of(out)
    with pytest.raises(StoreError, match=r"of 40 shards; run the command that was making it again"):
        Corpus(out)
    finish_here(sources_path, out)
    assert files_of(out) == undisturbed


def test_ctrl_c_leaves_a_shared_scheduler_without_work(dask, sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    with fresh(command_of(sources_path, out, "--cluster", dask.address, samples=4000)) as run:
        wait_for_receipts(out)
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "Traceback" not in said
    wait_for(lambda: dask.tasks() == 0, 20)
    made = len(receipts_of(out))
    time.sleep(1)
    assert len(receipts_of(out)) <= made + len(dask.workers), "each ends what it had begun, and no more"


def test_when_a_node_is_lost_the_others_finish(dask, sources_path, undisturbed, tmp_path):
    out = tmp_path / "c.zarr"
    with Started("synth", *command_of(sources_path, out, "--cluster", dask.address)) as run:
        wait_for_receipts(out)
        os.killpg(dask.workers[0].pid, signal.SIGKILL)  # the worker and the nanny that would replace it
        said = run.communicate(timeout=120)[1]
    assert run.returncode == 0, said
    assert files_of(out) == undisturbed


def test_a_killed_scheduler_is_one_sentence_and_what_was_finished_is_kept(dask, sources_path, undisturbed, tmp_path):
    out = tmp_path / "c.zarr"
    with Started("synth", *command_of(sources_path, out, "--cluster", dask.address)) as run:
        wait_for_receipts(out)
        dask.scheduler.kill()
        said = run.communicate(timeout=60)[1]
    assert run.returncode == 2
    assert f"error: the scheduler at {dask.address} is gone; what is finished is kept" in said
    assert "Traceback" not in said
    finish_here(sources_path, out)
    assert files_of(out) == undisturbed


def test_two_runs_into_one_folder_refuse(sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    command = command_of(sources_path, out, "--workers", 0, samples=4000)
    with Started("synth", *command):
        wait_for_receipts(out)
        with pytest.raises(StoreError, match="is being written by another run"):
            here(*command)
        with pytest.raises(StoreError, match="being written by another run"), only_writer(out, shared=True):
            pass


def test_jobs_of_an_array_write_one_corpus_together(sources_path, undisturbed, tmp_path):
    out = tmp_path / "c.zarr"
    with contextlib.ExitStack() as stack:
        jobs = [
            stack.enter_context(Started("synth", *command_of(sources_path, out, "--shards", f"{start}::2")))
            for start in range(2)
        ]
        for job in jobs:
            said = job.communicate(timeout=120)
            assert job.returncode == 0, said
            assert "20 of 40 shards are done" in said[0]
    assert files_of(out) == undisturbed
    assert list(tmp_path.iterdir()) == [out]


def test_an_array_that_lost_a_job_is_finished_by_a_plain_run(sources, sources_path, undisturbed, tmp_path):
    out = tmp_path / "c.zarr"
    plan = make_manifest(sources, SAMPLES, 7, shard_size=4)
    assert generate(plan, sources_path, out, workers=0, only=slice(0, None, 2)).made == 20
    with pytest.raises(StoreError, match="holds 20 of 40 shards"):
        Corpus(out)
    outcome = generate(plan, sources_path, out, workers=0)
    assert (outcome.kept, outcome.made) == (20, 20)
    assert files_of(out) == undisturbed


def test_a_run_beside_an_array_is_refused_but_two_of_an_array_are_not(corpus_path, sources, sources_path):
    plan = make_manifest(sources, 22, 7, shard_size=8)
    with only_writer(corpus_path, shared=True):
        assert generate(plan, sources_path, corpus_path, workers=0, only=slice(0, 2)).kept == 2
        with pytest.raises(StoreError, match="being written by another run"):
            generate(plan, sources_path, corpus_path, workers=0)


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))


def test_a_write_that_fails_is_named_without_a_traceback_and_finished_later(
    sources, sources_path, corpus_path, tmp_path
):
    """A limit on the size of files stands in for a disk that refuses: writing fails with an error of the system."""
    out = tmp_path / "c.zarr"
    generate(make_manifest(sources, 22, 7, shard_size=8), sources_path, out, workers=0, only=slice(0, 0))
    command = command_of(sources_path, out, "--workers", 0, "--shard-size", 8, samples=22)
    with Started("synth", *command, preexec_fn=small_files) as run:
        said = run.communicate(timeout=120)[1]
    assert run.returncode == 1
    assert "failed: shard 0, 1, 2: File too large" in said
    assert "Traceback" not in said
    assert not receipts_of(out)
    assert not generate(make_manifest(sources, 22, 7, shard_size=8), sources_path, out, workers=0).failed
    assert files_of(out) == files_of(corpus_path)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 3 MB, less than half of what the corpus takes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_finished_and_more_room_finishes_it(small_disk, sources_path):
    out = small_disk / "c.zarr"
    command = command_of(sources_path, out, "--workers", 1, "--layout", "dense")
    full = synth(*command)
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    kept = len(receipts_of(out))
    assert 0 < kept < 40
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    assert f"({kept} kept from before)" in here(*command, "--workers", 0).output
    assert verify(out) == []


def test_a_source_taken_away_is_named_and_the_corpus_finished_when_it_is_back(
    sources, sources_path, undisturbed, tmp_path
):
    store, out = tmp_path / "s.zarr", tmp_path / "c.zarr"
    shutil.copytree(sources_path, store)
    generate(make_manifest(sources, SAMPLES, 7, shard_size=4), store, out, workers=0, only=slice(0, 5))
    gone = store / "made--case1" / "intensity"
    gone.rename(tmp_path / "away")
    failed = synth(*command_of(store, out, "--workers", 1))
    assert failed.returncode == 1
    assert "source made--case1 is damaged; run synth prepare again" in failed.stderr
    assert "Traceback" not in failed.stderr
    (tmp_path / "away").rename(gone)
    finish_here(store, out)
    assert files_of(out) == undisturbed


def test_a_source_cut_short_under_the_workers_that_have_it_mapped_is_named(sources_path, undisturbed, tmp_path):
    store, out = tmp_path / "s.zarr", tmp_path / "c.zarr"
    shutil.copytree(sources_path, store)
    file = store / "made--case1" / "lent" / "c.0.0.0"
    content = file.read_bytes()
    with Started("synth", *command_of(store, out, "--workers", 1)) as run:
        wait_for_receipts(out)
        os.truncate(file, 100)  # to touch what is gone kills a process
        said = run.communicate(timeout=120)[1]
    assert run.returncode == 1
    assert "source made--case1 is damaged; run synth prepare again" in said
    assert "Traceback" not in said
    assert "Warning" not in said
    file.write_bytes(content)
    finish_here(store, out)
    assert files_of(out) == undisturbed


def test_sources_taken_away_in_the_middle_cost_no_finished_shard(sources_path, undisturbed, tmp_path):
    store, out = tmp_path / "s.zarr", tmp_path / "c.zarr"
    shutil.copytree(sources_path, store)
    with Started("synth", *command_of(store, out, "--workers", 1)) as run:
        wait_for_receipts(out)
        store.rename(tmp_path / "away")  # what a worker holds in memory still serves it
        said = run.communicate(timeout=120)[1]
    assert "Traceback" not in said
    (tmp_path / "away").rename(store)
    finish_here(store, out)
    assert files_of(out) == undisturbed
