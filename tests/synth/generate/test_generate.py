"""The corpus: the same bytes however it is made, and nothing lost when something dies."""

import io
import itertools
import os

import numpy as np
import pytest
from rich.console import Console

from scans.catalog.synthesis import override
from scans.errors import CatalogError, StoreError
from synth.corpus import Corpus
from synth.corpus.creation import unfinished
from synth.generate.dry_run import estimate
from synth.generate.plan import make_manifest, parse_shards
from synth.generate.progress import ShardProgress
from synth.generate.run import generate
from synth.generate.shards import ShardDone
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from synth.tumour.compose import make_sample
from synth.tumour.recipe import Recipe
from tests.made.commands import synth
from tests.made.corpora import files_of


@pytest.fixture
def plan(sources):
    return make_manifest(sources, samples=22, seed=7, shard_size=8)


def test_worker_processes_write_the_same_bytes_as_one(plan, sources_path, corpus_path, tmp_path):
    outcome = generate(plan, sources_path, tmp_path / "two.zarr", workers=2)
    assert (outcome.made, outcome.failed) == (3, {})
    assert files_of(tmp_path / "two.zarr") == files_of(corpus_path)


def test_another_seed_gives_other_samples(sources, sources_path, corpus_path, tmp_path):
    generate(make_manifest(sources, 22, 8, shard_size=8), sources_path, tmp_path / "c.zarr", workers=0)
    assert Corpus(tmp_path / "c.zarr").content_hash != Corpus(corpus_path).content_hash


def test_what_is_read_is_what_the_recipe_makes(corpus_path, sources, plan):
    corpus = Corpus(corpus_path)
    assert len(corpus) == 22
    for index in (0, 9, 21):
        recipe = Recipe.from_row(corpus.recipes[index])
        normal, donor = (sources.load(sources.names[i]) for i in (recipe.normal, recipe.donor))
        made, read = make_sample(recipe, normal, donor, sources.region.synthesis), corpus[index]
        for name in ("composite", "normal", "texture", "mask"):
            np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
        assert read.alpha == made.alpha
        assert corpus.recipe(index)["alpha"] == recipe.alpha
    assert corpus[-1].alpha == corpus[21].alpha
    with pytest.raises(IndexError):
        corpus[22]


def test_any_zarr_reader_opens_a_dense_corpus(dense_path):
    import zarr

    group = zarr.open_group(dense_path, mode="r")
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
    (out / "layer" / "c.2.0").write_bytes(b"short")
    (out / "form" / "c.0.0.1234.partial").write_bytes(b"left by a killed writer")
    assert unfinished(open_store(out), plan) == [1, 2]
    outcome = generate(plan, sources_path, out, workers=0)
    assert (outcome.kept, outcome.made) == (1, 2)
    assert files_of(out) == before


def test_a_torn_receipt_does_not_count(plan, sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    generate(plan, sources_path, out, workers=0)
    receipt = out / "receipts" / "000000.json"
    receipt.write_text(receipt.read_text(encoding="utf-8")[:50])
    assert unfinished(open_store(out), plan) == [0]
    with pytest.raises(StoreError, match="2 of 3 shards"):
        Corpus(out)


def test_a_missing_or_truncated_file_is_never_read_as_zeros(plan, sources_path, tmp_path):
    out = tmp_path / "c.zarr"
    generate(plan, sources_path, out, workers=0)
    (out / "layer" / "c.2.0").unlink()
    with pytest.raises(StoreError, match=r"layer/c\.2\.0 is missing"):
        Corpus(out)


def test_another_corpus_in_the_way_is_named(sources, sources_path, corpus_path):
    with pytest.raises(StoreError, match=r"differs in seed.*another --out"):
        generate(make_manifest(sources, 22, 8, shard_size=8), sources_path, corpus_path, workers=0)


def test_a_failed_shard_is_named_and_the_others_finish(plan, sources_path, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    generate(plan, sources_path, out, workers=0)
    for shard in (0, 1):
        (out / "receipts" / f"00000{shard}.json").unlink()
    blocked = out / "layer" / "c.1.0"
    blocked.unlink()
    blocked.mkdir()  # nothing can be renamed over a folder
    outcome = generate(plan, sources_path, out, workers=0)
    assert outcome.made == 1
    assert list(outcome.failed) == [1]


def test_sources_that_changed_are_refused(sources, sources_path, tmp_path):
    plan = make_manifest(sources, 2, 1, shard_size=2)
    plan.sources[1]["content_sha256"] = "0" * 64
    with pytest.raises(StoreError, match="source made--case1 has changed"):
        generate(plan, sources_path, tmp_path / "c.zarr", workers=0)
    assert not (tmp_path / "c.zarr").exists()


def test_workers_that_live_on_see_sources_that_joined_since(tmp_path):
    from distributed import LocalCluster

    from tests.made.sources import make_store

    store = make_store(tmp_path / "s.zarr", 2)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=40) as cluster:
        for count in (2, 3):
            make_store(store, count)
            plan = make_manifest(SourceStore(store), 4, 7, shard_size=4)
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
        make_manifest(sources, samples, seed, shard_size=shard)


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
    assert corpus.settings(0)["alpha"] == [0.2, 0.8]
    assert corpus.manifest.generations[0].software["numpy"] == np.__version__


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


def test_a_dry_run_knows_the_cost_and_makes_nothing(sources_path, corpus_path, tmp_path):
    command = ["generate", "--sources", sources_path, "--out", tmp_path / "c.zarr", "-n", 22, "--seed", 7]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    said = synth(*command, "--shard-size", 8, "--dry-run", "--workers", 3, env=environment)
    assert "22 of 32³ voxels" in said.stdout
    assert "3, 8 samples each" in said.stdout
    assert "core-hours" in said.stdout
    assert "on 3 workers" in said.stdout
    assert not list(tmp_path.iterdir())


def test_the_cost_is_that_of_the_corpus(plan, sources_path, corpus_path):
    cost = estimate(plan, sources_path, workers=2)
    sizes = open_store(corpus_path).sizes()
    written = sum(n for key, n in sizes.items() if key.split("/")[-1].startswith("c."))
    assert cost.bytes == pytest.approx(written, rel=0.3)
    assert (cost.samples, cost.shards, cost.workers) == (22, 3, 2)
    assert cost.core_seconds / 2 <= cost.wall_seconds <= cost.core_seconds


def test_each_step_says_what_came_of_a_shard(plan, sources_path, tmp_path):
    steps = []
    generate(plan, sources_path, tmp_path / "c.zarr", workers=0, only=slice(1, None), progress=steps.append)
    generate(plan, sources_path, tmp_path / "c.zarr", workers=0, progress=steps.append)
    assert [(s.shard, s.samples, s.outcome) for s in steps] == [
        (1, 8, "made"), (2, 6, "made"), (1, 8, "kept"), (2, 6, "kept"), (0, 8, "made"),
    ]  # fmt: skip
    receipts = Corpus(tmp_path / "c.zarr").receipts
    for step in steps:
        on_disk = sum(entry["bytes"] for entry in receipts[step.shard].files.values())
        assert step.bytes == (on_disk if step.outcome == "made" else 0)


def test_progress_counts_shards_bytes_and_failures(monkeypatch):
    clock = itertools.count(0.0, 1.0)
    monkeypatch.setattr("synth.generate.progress.time.monotonic", lambda: next(clock))
    out = io.StringIO()
    with ShardProgress(Console(file=out, width=200), 4, 32) as progress:
        progress.step(ShardDone(0, 8, "kept"))
        progress.step(ShardDone(1, 8, "made", 5_000_000))
        progress.step(ShardDone(2, 8, "failed"))
        line = progress.line()
    assert line == "2/4 shards · 2.0 samples/s · 5.0 MB written · 4 s left · 1 failed"
    assert "\x1b" not in out.getvalue(), "a log gets plain lines"
    assert out.getvalue().startswith("2/4 shards")


@pytest.mark.parametrize(
    ("text", "shards"), [("3::4", [3, 7]), ("0:2", [0, 1]), ("7", [7]), ("::5", [0, 5]), ("9:", [9])]
)
def test_shards_are_named_as_python_slices(text, shards):
    assert list(range(10)[parse_shards(text)]) == shards


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "0::0", "::-1", "1-5"])
def test_shards_that_cannot_be_are_one_sentence(text):
    with pytest.raises(StoreError, match=r"^--shards .*START::STEP"):
        parse_shards(text)
