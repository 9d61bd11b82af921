"""What a shard costs the scheduler and the client, and what they hold, over a run of a million samples.

    python -m benchmarks.scheduler [--samples 1000000] [--workers 2] [--out benchmarks/results/scheduler.md]

The tasks are empty: what is left is planning, submitting, scheduling and fetching. The scheduler is a process of its
own, and so are the workers.
"""

import argparse
import contextlib
import datetime
import platform
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks.machine import machine
from scans.catalog.region import Region
from synth.cluster import open_cluster
from synth.corpus.codec import index_bytes
from synth.corpus.creation import create, unfinished
from synth.corpus.layout import sample_arrays
from synth.corpus.manifest import Block, Manifest
from synth.corpus.receipt import Receipt, receipt_key
from synth.generators.generation import Generation
from synth.store.opening import open_store
from synth.tasks import Failure, run_tasks
from synth.tumour.sample import Normal


def nothing(shard: int) -> int:
    return shard


@contextlib.contextmanager
def dask_processes(workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and workers; yield its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    dask = [sys.executable, "-m", "dask"]
    host, port = address.removeprefix("tcp://").split(":")
    commands = [[*dask, "scheduler", "--host", host, "--port", port, "--no-dashboard"]]
    commands += [[*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * workers
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, **silent) for command in commands]
    try:
        yield address, psutil.Process(processes[0].pid)
    finally:
        for process in processes:
            process.kill()  # a worker asked to end would first look for its scheduler
            process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def peak_mb(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def schedule(shards: int, workers: int) -> list[tuple[str, str]]:
    """Run empty tasks; return what each shard cost whom."""
    client_process = psutil.Process()
    with dask_processes(workers) as (address, scheduler), open_cluster(address) as client:
        client.wait_for_workers(workers)
        for _ in run_tasks(client, nothing, range(50)):
            pass
        before = cpu_seconds(scheduler), cpu_seconds(client_process), peak_mb(scheduler), peak_mb(client_process)
        began = time.perf_counter()
        most = 0
        for number, (_, result) in enumerate(run_tasks(client, nothing, range(shards), "shard")):
            assert not isinstance(result, Failure), result
            if number % 500 == 0:
                most = max(most, len(client.futures))
        wall = time.perf_counter() - began
        after = cpu_seconds(scheduler), cpu_seconds(client_process), peak_mb(scheduler), peak_mb(client_process)
    return [
        ("wall time a shard, ms", f"{wall / shards * 1e3:.2f}"),
        ("scheduler, CPU a shard, ms", f"{(after[0] - before[0]) / shards * 1e3:.2f}"),
        ("client, CPU a shard, ms", f"{(after[1] - before[1]) / shards * 1e3:.2f}"),
        ("tasks in flight, at most", str(most)),
        ("scheduler, peak memory at start and end, MB", f"{before[2]:.0f}, {after[2]:.0f}"),
        ("client, peak memory at start and end, MB", f"{before[3]:.0f}, {after[3]:.0f}"),
    ]


def plan_it(samples: int, shard_size: int) -> list[tuple[str, str]]:
    """Lay out a corpus, give all its shards but the last a receipt, and look for what is missing."""
    region = Region.model_validate({"name": "brain", "modality": "FLAIR"})
    sources = tuple({"name": f"made--{i}", "content_sha256": f"{i:064x}", "statistics": None} for i in range(100))
    empty = Normal(np.zeros((128, 128, 128), np.float16), np.zeros((128, 128, 128), bool))
    began = time.perf_counter()
    generation = Generation.of_layers(1, region.synthesis.model_dump(mode="json"), tuple(range(len(sources))), {})
    block = Block(((0, 0, samples),))
    manifest = Manifest(
        "layered", 128, shard_size, region.model_dump(mode="json"), None, sources, (generation,), (block,)
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "c.zarr"
        store = open_store(out)
        create(store, manifest, lambda position: empty)
        rows.append(("lay out the corpus, 100 empty sources in it, s", f"{time.perf_counter() - began:.2f}"))
        began = time.perf_counter()
        assert len(unfinished(store, manifest)) == manifest.shard_count
        rows.append(("find that nothing is finished, s", f"{time.perf_counter() - began:.2f}"))
        for shard in range(manifest.shard_count - 1):
            files = {}
            for array in sample_arrays(manifest, shard).values():
                size = index_bytes(array) if array.sharded else 0
                files[array.key(shard)] = {"bytes": size, "sha256": "0" * 64}
                with open(out / array.key(shard), "wb") as file:
                    file.truncate(size)  # a hole, and no flush: the disk is not what is measured
            receipt = Receipt(shard, shard_size, manifest.shard_identity(shard), files, "0" * 64)
            (out / receipt_key(shard)).write_bytes(receipt.to_bytes())
        began = time.perf_counter()
        assert unfinished(store, manifest) == [manifest.shard_count - 1]
        rows.append(("find that one is missing of all, s", f"{time.perf_counter() - began:.2f}"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(("peak memory of the client then, MB", f"{peak:.0f}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--shard-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    shards = -(-arguments.samples // arguments.shard_size)
    rows = schedule(shards, arguments.workers) + plan_it(arguments.samples, arguments.shard_size)
    lines = [
        f"# Scheduler, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "",
        f"{machine()}; Python {platform.python_version()}; {arguments.samples:,} "
        f"samples = {shards:,} shards of {arguments.shard_size}, as empty tasks on {arguments.workers} workers.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
