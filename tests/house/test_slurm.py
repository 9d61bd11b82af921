"""A real SLURM on this machine: the same bytes from its jobs, and jobs that are cancelled are replaced."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.made.corpora import files_of
from tests.made.running import wait_for

QUEUE = Path(__file__).parent / "slurm" / "queue"


@pytest.fixture(scope="session")
def slurm():
    """Yield the environment in which sbatch, squeue and scancel speak to a SLURM of this session's own."""
    # Not below pytest's own folder, which only its owner may enter: munged wants its socket within reach of all.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        started = subprocess.run([QUEUE, "start", folder], capture_output=True, encoding="utf-8", check=False)
        if started.returncode:
            pytest.skip(f"no SLURM here: {(started.stderr.strip().splitlines() or ['it does not start'])[-1]}")
        try:
            yield {
                **os.environ,
                "SLURM_CONF": f"{folder}/slurm.conf",
                "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "1s",
            }
        finally:
            subprocess.run([QUEUE, "stop", folder], check=True)


@pytest.fixture
def generate(slurm, sources_path, tmp_path):
    """Yield a function that starts `synth generate` on two jobs of the queue, in shards of 8, into `c.zarr`."""
    queue = tmp_path / "slurm.yaml"
    queue.write_text(
        "class: SLURMCluster\njobs: 2\ncores: 1\nprocesses: 1\nmemory: 1GB\nwalltime: '00:10:00'\ninterface: lo\n"
        f"log_directory: {tmp_path}/logs\nlocal_directory: {tmp_path}/scratch\n"
        # As docs/cluster.md starts workers in a container: env stands for Apptainer, which is not here.
        f"job_script_prologue: [export MOUNTED=/scratch]\npython: env IMAGE=layered-tumors.sif {sys.executable}\n",
        encoding="utf-8",
    )
    started = []

    def start(samples):
        command = [sys.executable, "-m", "synth.cli", "generate", "--sources", sources_path]
        command += ["--no-card", "--out", tmp_path / "c.zarr", "-n", str(samples), "--seed", "7", "--shard-size", "8"]
        run = subprocess.Popen(
            [*command, "--cluster", queue],
            env=slurm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip
        started.append(run)
        return run

    yield start
    for run in started:  # one that a failed test left waiting
        run.kill()
        run.communicate()


def jobs_of(slurm):
    """Return the numbers of the jobs that run."""
    listed = subprocess.run(
        ["squeue", "--noheader", "--format=%i", "--states=RUNNING"],
        env=slurm, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return listed.stdout.split()


def test_two_jobs_of_slurm_write_the_same_bytes_as_one_process(generate, slurm, corpus_path, tmp_path):
    run = generate(samples=22)
    said, complaints = run.communicate(timeout=120)
    assert run.returncode == 0, complaints
    assert "22 samples in 3 shards" in said
    assert files_of(tmp_path / "c.zarr") == files_of(corpus_path)
    assert len(list((tmp_path / "logs").glob("*.err"))) == 2, "both were jobs of the queue"
    wait_for(lambda: not jobs_of(slurm))  # nothing is left behind in the queue


def test_a_run_whose_jobs_are_all_cancelled_gets_new_ones_and_finishes(
    generate, slurm, sources, sources_path, tmp_path
):
    from synth.generate.plan import make_manifest
    from synth.generate.run import generate as make

    run = generate(samples=800)
    wait_for(lambda: (len(jobs_of(slurm)) == 2 and list(tmp_path.glob("c.zarr/receipts/0*.json"))) or run.poll())
    cancelled = jobs_of(slurm)
    subprocess.run(["scancel", *cancelled], env=slurm, check=True)
    _, complaints = run.communicate(timeout=120)
    assert run.returncode == 0, complaints
    assert len(cancelled) == 2
    assert len(list((tmp_path / "logs").glob("*.err"))) > 2
    make(make_manifest(sources, 800, 7, shard_size=8), sources_path, tmp_path / "undisturbed.zarr", workers=0)
    assert files_of(tmp_path / "c.zarr") == files_of(tmp_path / "undisturbed.zarr")


def test_a_job_that_slurm_refuses_is_one_sentence(generate, slurm, tmp_path):
    queue = tmp_path / "slurm.yaml"
    queue.write_text(queue.read_text(encoding="utf-8") + "queue: nowhere\n", encoding="utf-8")
    run = generate(samples=22)
    _, complaints = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "slurm.yaml: the queue refuses the job: " in complaints
    assert "Invalid partition" in complaints
    assert "Traceback" not in complaints


def test_a_plain_job_array_makes_the_corpus_without_a_scheduler_of_ours(slurm, sources_path, corpus_path, tmp_path):
    out, said = tmp_path / "c.zarr", tmp_path / "said-%a.txt"
    command = (
        f"{sys.executable} -m synth.cli generate --sources {sources_path} --out {out} -n 22 --seed 7 --shard-size 8"
    )
    subprocess.run(
        ["sbatch", "--wait", "--array=0-1", f"--output={said}", f"--wrap={command} --shards $SLURM_ARRAY_TASK_ID::2"],
        env=slurm, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    for task, share in enumerate(("2 of 3 shards", "1 of 3 shards")):
        assert share in (tmp_path / f"said-{task}.txt").read_text(encoding="utf-8")
    assert files_of(out) == files_of(corpus_path)
