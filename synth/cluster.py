"""Cluster: where the tasks run, by one word of the command line."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from scans.errors import CatalogError

if TYPE_CHECKING:
    from distributed import Client


@contextlib.contextmanager
def open_cluster(cluster: str = "local", workers: int | None = None) -> "Iterator[Client]":
    """Yield a Dask client.

    Parameters
    ----------
    cluster : str
        ``local``: processes of this machine, one thread each. ``tcp://host:8786``: a scheduler that runs.
        A YAML file: ``class``, the name of a cluster class of dask-jobqueue (``SLURMCluster``, ...), ``jobs``,
        how many to keep, and the class's own arguments.
    workers : int, optional
        Worker processes of ``local``; all cores if not given.

    Raises
    ------
    CatalogError
        If `cluster` names nothing of the kind.
    """
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        # A failed shard is told once, by name, at the end; the workers stay silent.
        stack.enter_context(dask.config.set({"logging.distributed": "critical"}))
        if cluster == "local":
            with _deaf_to_ctrl_c():
                local = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            yield stack.enter_context(Client(stack.enter_context(local)))
        elif "://" in cluster:
            try:
                client = Client(cluster, timeout="20s")
            except (OSError, TimeoutError, ValueError) as error:
                raise CatalogError(
                    f"--cluster {cluster}: no scheduler answers there; start one with dask scheduler"
                ) from error
            client = stack.enter_context(client)
            client.wait_for_workers(1, timeout=120)
            yield client
        else:
            jobs, queue = _job_queue(Path(cluster))
            queue = stack.enter_context(queue)
            queue.scale(jobs=jobs)
            yield stack.enter_context(Client(queue))


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which a terminal sends to all: this one hears it, and ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _job_queue(path: Path) -> tuple[int, Any]:
    if not path.is_file():
        raise CatalogError(f"--cluster {path}: give local, tcp://host:port, or a YAML file that exists")
    try:
        import dask_jobqueue
        import dask_jobqueue.local  # LocalCluster: jobs that are processes here, to try a file on one machine
    except ImportError as error:
        raise CatalogError(f"--cluster {path}: install the extra 'cluster' (dask-jobqueue) for job queues") from error
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        name, jobs = settings.pop("class"), int(settings.pop("jobs"))
        kind = dask_jobqueue.local.LocalCluster if name == "LocalCluster" else getattr(dask_jobqueue, name)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CatalogError(
            f"{path}: needs `class: SLURMCluster` (or another class of dask-jobqueue) and `jobs: 8`"
        ) from error
    try:
        return jobs, kind(**settings)
    except (TypeError, ValueError) as error:
        raise CatalogError(f"{path}: {error}") from error
