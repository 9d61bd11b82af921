"""The corpus: the same bytes however it is made, and nothing lost when something dies."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from scans.durable import only_writer, sha256
from scans.errors import CatalogError, StoreError
from scans.region import override
from synth.compose import make_sample
from synth.corpus import Corpus
from synth.generate import generate, make_plan
from synth.recipe import Recipe
from synth.shards import unfinished
from synth.sources import SourceStore


def files_of(path):
    """Return the checksum of every file of a corpus, but for the versions of the software that made it."""
    skipped = {"software.json", ".lock"}
    return {str(f.relative_to(path)): sha256(f) for f in path.rglob("*") if f.is_file() and f.name not in skipped}


def command_of(sources_path, out, samples, workers):
    """Return the command that makes a corpus in shards of 8; that of 22 samples is the one of `corpus_path`."""
    command = [sys.executable, "-m", "synth.cli", "generate", "--sources", str(sources_path), "--out", str(out)]
    return [*command, "-n", str(samples), "--seed", "7", "--shard-size", "8", "--workers", str(workers)]


def signal_at_first_receipt(run, out, number):
    """Send a signal to a run and its workers as soon as one shard is committed."""
    until = time.monotonic() + 120
    while not list(out.glob("receipts/*.json")) and time.monotonic() < until and run.poll() is None:
        time.sleep(0.01)
    os.killpg(run.pid, number)


@pytest.fixture
def plan(sources):
    return make_plan(sources, samples=22, seed=7, shard_size=8)


def test_worker_processes_write_the_same_bytes_as_one(plan, sources_path, corpus_path, tmp_path):
    outcome = generate(plan, sources_path, tmp_path / "two.zarr", workers=2)
    assert (outcome.made, outcome.failed) == (3, {})
    assert files_of(tmp_path / "two.zarr") == files_of(corpus_path)


def test_another_seed_gives_other_samples(sources, sources_path, corpus_path, tmp_path):
    generate(make_plan(sources, 22, 8, shard_size=8), sources_path, tmp_path / "c.zarr", workers=0)
    assert Corpus(tmp_path / "c.zarr").content_hash != Corpus(corpus_path).content_hash


def test_what_is_read_is_what_the_recipe_makes(corpus_path, sources, plan):
    corpus = Corpus(corpus_path)
    assert len(corpus) == 22
    for index in (0, 9, 21):
        recipe = Recipe.from_row(corpus.recipes[index])
        normal, donor = (sources.load(sources.names[i]) for i in (recipe.normal, recipe.donor))
        made, read = make_sample(recipe, normal, donor, plan.settings), corpus[index]
        for name in ("composite", "normal", "texture", "mask"):
            np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
        assert read.alpha == made.alpha
        assert corpus.recipe(index)["alpha"] == recipe.alpha
    assert corpus[-1].alpha == corpus[21].alpha
    with pytest.raises(IndexError):
        corpus[22]


def test_any_zarr_reader_opens_it(corpus_path):
    import zarr

    group = zarr.open_group(corpus_path, mode="r")
    assert group["composite"].shape == (22, 32, 32, 32)
    assert group["composite"].metadata.dimension_names == ("sample", "z", "y", "x")
    n, t, m, x = (np.asarray(group[k][3], np.float32) for k in ("normal", "texture", "mask", "composite"))
    a = np.float32(group["alpha"][3])
    np.testing.assert_array_equal(x, np.where(m > 0, n + a * (t - n), n).astype(np.float16))


def test_running_again_keeps_what_is_there_and_makes_what_is_missing(plan, sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    generate(plan, sources_path, out, workers=0)
    before = files_of(out)
    (out / "receipts" / "000001.json").unlink()
    (out / "texture" / "c.2.0.0.0").write_bytes(b"short")
    (out / "mask" / "c.0.0.0.0.1234.partial").write_bytes(b"left by a killed writer")
    assert unfinished(out, plan) == [1, 2]
    outcome = generate(plan, sources_path, out, workers=0)
    assert (outcome.kept, outcome.made) == (1, 2)
    assert files_of(out) == before


def test_a_torn_receipt_does_not_count(plan, sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    generate(plan, sources_path, out, workers=0)
    receipt = out / "receipts" / "000000.json"
    receipt.write_text(receipt.read_text(encoding="utf-8")[:50])
    assert unfinished(out, plan) == [0]
    with pytest.raises(StoreError, match="2 of 3 shards"):
        Corpus(out)


def test_a_missing_or_truncated_file_is_never_read_as_zeros(plan, sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    generate(plan, sources_path, out, workers=0)
    (out / "texture" / "c.2.0.0.0").unlink()
    with pytest.raises(StoreError, match=r"texture/c\.2\.0\.0\.0 is missing"):
        Corpus(out)


def test_kill_minus_nine_loses_nothing(sources_path, corpus_path, tmp_path):
    out = tmp_path / "c.zarr"
    command = command_of(sources_path, out, samples=22, workers=1)
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        signal_at_first_receipt(run, out, signal.SIGKILL)
    assert (out / "zarr.json").exists()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert files_of(out) == files_of(corpus_path)


def test_two_runs_into_one_folder_refuse(plan, sources_path, corpus_path):
    with only_writer(corpus_path), pytest.raises(StoreError, match="being written by another run"):
        generate(plan, sources_path, corpus_path, workers=0)


def test_another_corpus_in_the_way_is_named(sources, sources_path, corpus_path):
    with pytest.raises(StoreError, match=r"differs in seed.*another --out"):
        generate(make_plan(sources, 22, 8, shard_size=8), sources_path, corpus_path, workers=0)


def test_a_failed_shard_is_named_and_the_others_finish(plan, sources_path, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    generate(plan, sources_path, out, workers=0)
    for shard in (0, 1):
        (out / "receipts" / f"00000{shard}.json").unlink()
    blocked = out / "composite" / "c.1.0.0.0"
    blocked.unlink()
    blocked.mkdir()  # nothing can be renamed over a folder
    outcome = generate(plan, sources_path, out, workers=0)
    assert outcome.made == 1
    assert list(outcome.failed) == [1]


def test_sources_that_changed_are_refused(sources, sources_path, tmp_path):
    plan = make_plan(sources, 2, 1, shard_size=2)
    plan.sources[0]["content_sha256"] = plan.sources[1]["content_sha256"] = "0" * 64
    plan.sources[2]["content_sha256"] = "0" * 64
    outcome = generate(plan, sources_path, tmp_path / "c.zarr", workers=0)
    assert "has changed" in outcome.failed[0]


def test_workers_that_live_on_see_sources_that_joined_since(tmp_path):
    from conftest import make_store
    from distributed import LocalCluster

    store = make_store(tmp_path / "s.zarr", 2)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=40) as cluster:
        for count in (2, 3):
            make_store(store, count)
            plan = make_plan(SourceStore(store), 4, 7, shard_size=4)
            outcome = generate(plan, store, tmp_path / f"{count}.zarr", cluster=cluster.scheduler_address)
            assert (len(plan.sources), outcome.failed) == (count, {})


def test_a_scheduler_over_tcp_serves_as_cluster(plan, sources_path, corpus_path, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=40) as cluster:
        generate(plan, sources_path, tmp_path / "c.zarr", cluster=cluster.scheduler_address)
    assert files_of(tmp_path / "c.zarr") == files_of(corpus_path)


def test_a_cluster_nobody_knows_is_one_sentence(plan, sources_path, tmp_path):
    with pytest.raises(CatalogError, match=r"YAML file that exists"):
        generate(plan, sources_path, tmp_path / "c.zarr", cluster="slrum.yaml")


@pytest.mark.parametrize(("samples", "seed", "shard"), [(0, 1, 8), (5, -1, 8), (5, 2**64, 8), (5, 1, 0)])
def test_numbers_out_of_range_are_named(sources, samples, seed, shard):
    with pytest.raises(StoreError, match=r"^(-n|--seed|--shard-size) "):
        make_plan(sources, samples, seed, shard_size=shard)


@pytest.mark.parametrize(
    "assignment",
    ["shape.volume=3", "shape", "nothing.at=1", "alpha=[0.9,0.1]", "alpha=[0,2]", "shape.octaves=7", "blur.sigma_mm=x"],
)
def test_a_setting_that_cannot_be_is_one_sentence(sources, assignment):
    with pytest.raises(CatalogError, match=r"^--set"):
        override(sources.region.synthesis, [assignment])


def test_provenance_names_sources_settings_and_software(corpus_path):
    corpus = Corpus(corpus_path)
    assert [s["case"] for s in corpus.sources] == ["case0", "case1", "case2"]
    assert all({"licence", "terms", "content_sha256", "spacing_mm"} <= set(s) for s in corpus.sources)
    assert corpus.attrs["settings"]["alpha"] == [0.2, 0.8]
    assert json.loads((corpus_path / "software.json").read_text(encoding="utf-8"))["numpy"] == np.__version__


def test_a_job_queue_from_a_file_serves_as_cluster(plan, sources_path, corpus_path, tmp_path):
    """dask-jobqueue's own local queue: the jobs are processes here, submitted as a batch system would."""
    queue = tmp_path / "queue.yaml"
    queue.write_text("class: LocalCluster\njobs: 1\ncores: 1\nprocesses: 1\nmemory: 1GB\n")
    generate(plan, sources_path, tmp_path / "c.zarr", cluster=str(queue))
    assert files_of(tmp_path / "c.zarr") == files_of(corpus_path)


@pytest.mark.parametrize(
    "content", ["jobs: 1", "class: NoSuchCluster\njobs: 1", "[", "class: SLURMCluster\njobs: many"]
)
def test_a_queue_file_that_says_too_little_is_one_sentence(plan, sources_path, tmp_path, content):
    (tmp_path / "queue.yaml").write_text(content)
    with pytest.raises(CatalogError, match=r"queue\.yaml"):
        generate(plan, sources_path, tmp_path / "c.zarr", cluster=str(tmp_path / "queue.yaml"))


def test_ctrl_c_stops_with_a_word_and_the_next_run_goes_on(sources_path, corpus_path, tmp_path):
    out = tmp_path / "c.zarr"
    command = command_of(sources_path, out, samples=400, workers=1)
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        signal_at_first_receipt(run, out, signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert b"run the same command again" in said
    assert b"Traceback" not in said
    made = {f"{shard:06d}.json" for shard in range(50)} & {f.name for f in (out / "receipts").glob("*.json")}
    assert made
    with pytest.raises(StoreError, match=r"of 50 shards; run the same synth generate command"):
        Corpus(out)


def test_a_full_disk_fails_by_name_without_a_traceback_and_is_finished_later(sources_path, corpus_path, tmp_path):
    """A limit on the size of files stands in for the full disk: writing fails with an error of the system."""
    out = tmp_path / "c.zarr"

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    for workers in (0, 1):
        failed = subprocess.run(
            command_of(sources_path, out, 22, workers),
            capture_output=True,
            encoding="utf-8",
            preexec_fn=small_files,
            timeout=120,
            check=False,
        )
        assert failed.returncode == 1
        assert "failed: shard 0, 1, 2: File too large" in failed.stderr
        assert "Traceback" not in failed.stderr
        assert not list((out / "receipts").glob("*.json"))
    subprocess.run(command_of(sources_path, out, 22, workers=0), check=True, capture_output=True, timeout=120)
    assert files_of(out) == files_of(corpus_path)
