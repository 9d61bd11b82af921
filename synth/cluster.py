"""Cluster: where the tasks run, by one word of the command line."""

import contextlib
import importlib.util
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scans.errors import CatalogError
from scans.release import page
from scans.yaml_text import read_yaml

if TYPE_CHECKING:
    from distributed import Client


_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado.application", "bokeh")
_SETTINGS = {
    "logging.distributed": "critical",  # a failed task is told once, by name, at the end
    "distributed.admin.tick.interval": "500ms",  # 20 ms cost this process 2 % of a core
    # Dask has workers give memory back at once; a sample takes the same again, for 40 % of its time in page faults.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,  # nor do the workers watch themselves 100 times a second
}
_DASHBOARD = "127.0.0.1:8787"  # it asks nobody for a password; another port if that is taken
# A worker that Dask pauses for its memory would never go on: what it holds is its sources, not Dask's results.
_NO_PAUSE = {f"DASK_DISTRIBUTED__WORKER__MEMORY__{what}": "False" for what in ("TARGET", "SPILL", "PAUSE")}


@contextlib.contextmanager
def open_cluster(
    cluster: str = "local",
    workers: int | None = None,
    tasks: int | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> "Iterator[Client | None]":
    """Yield a Dask client, or None where this process is to do the work.

    Parameters
    ----------
    cluster : str
        ``local``: processes of this machine, one thread each. ``tcp://host:8786``: a scheduler that runs.
        A YAML file: ``class``, the name of a cluster class of dask-jobqueue (``SLURMCluster``, ...), ``jobs``,
        how many to keep, and the class's own arguments.
    workers : int, optional
        Worker processes of ``local``; all cores if not given. None of them if 0, nor Dask.
    tasks : int, optional
        How many there are to do: ``local`` starts no more workers than that, and none for no task.
    say : callable
        Called with what is started, which takes seconds, and with the dashboard's address, where there is one.

    Raises
    ------
    CatalogError
        If `cluster` names nothing of the kind, or `workers` does not go with it.
    """
    check_workers(cluster, workers)
    if workers == 0 or tasks == 0:
        yield None
        return
    import dask
    from distributed import Client, LocalCluster

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(_SETTINGS))
        if cluster == "local":
            stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 1}))
            count = min(workers or _cores(), tasks or _cores())
            say(f"starting {count} worker{'s' * (count > 1)}")
            with _deaf_to_ctrl_c(), _quiet_about_ports():
                local = LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,  # a share of the machine each would be wrong while others need less
                    dashboard_address=_DASHBOARD if _has_dashboard() else None,
                    silence_logs=logging.CRITICAL,
                )
            client = Client(stack.enter_context(local))
        elif "://" in cluster:
            try:
                client = Client(cluster, timeout="5s")  # also how long it looks for one that is gone
            except (OSError, TimeoutError, ValueError) as error:
                raise CatalogError(
                    f"--cluster {cluster}: no scheduler answers there; start one with dask scheduler"
                ) from error
        else:
            jobs, settings = _read_queue(Path(cluster))
            with _quiet_about_ports():
                queue = _job_queue(Path(cluster), settings)
            stack.callback(_close, queue)
            _submit(queue, jobs, cluster)
            client = Client(queue)
        client = stack.enter_context(client)
        if _has_dashboard() and client.dashboard_link:
            say(f"dashboard: {client.dashboard_link}")
        yield client


def check_workers(cluster: str, workers: int | None) -> None:
    """Check that a number of workers goes with a cluster.

    Raises
    ------
    CatalogError
        If it does not.
    """
    if workers is not None and workers < 0:
        raise CatalogError(f"--workers {workers}: give 0 (this process works alone) or more")
    if workers and cluster != "local":
        raise CatalogError(f"--workers {workers}: only --cluster local takes it; {cluster} says itself how many")


def expected_workers(cluster: str = "local", workers: int | None = None) -> int:
    """Return how many tasks would run at a time, starting nothing.

    Parameters
    ----------
    cluster, workers
        As for :func:`open_cluster`.

    Raises
    ------
    CatalogError
        If `cluster` names nothing of the kind.
    """
    check_workers(cluster, workers)
    if workers == 0:
        return 1
    if cluster == "local":
        return workers or _cores()
    if "://" in cluster:
        with open_cluster(cluster) as client:
            return max(sum(client.nthreads().values()), 1) if client else 1
    jobs, settings = _read_queue(Path(cluster))
    return max(jobs * int(settings.get("cores") or 1), 1)


def _cores() -> int:
    from dask.system import CPU_COUNT  # those that this process may use: affinity, cgroup

    return int(CPU_COUNT)


def _has_dashboard() -> bool:
    return importlib.util.find_spec("bokeh") is not None


@contextlib.contextmanager
def _quiet_about_ports() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Port .* is already in use")
        yield


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes that never hear Ctrl-C, which a terminal sends to all: this one does, afterwards, and ends them.

    A blocked signal stays blocked in the threads and processes started meanwhile, and in the workers that those start.
    """
    _start_resource_tracker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Start the process in which Python frees what killed workers held.

    Started by the first worker it would unblock Ctrl-C, and at the end it would tell of what it freed.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        resource_tracker.ensure_running()
    finally:
        os.environ.pop("PYTHONWARNINGS")
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _read_queue(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the jobs to keep, and the settings of their class."""
    if not path.is_file():
        raise CatalogError(f"--cluster {path}: give local, tcp://host:port, or a YAML file that exists")
    try:
        settings = read_yaml(path)
        jobs = int(settings.pop("jobs"))
        if not isinstance(settings["class"], str) or jobs < 1:
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unclear(path) from error
    return jobs, settings


def _job_queue(path: Path, settings: dict[str, Any]) -> Any:
    try:
        import dask_jobqueue
        import dask_jobqueue.local  # LocalCluster: jobs that are processes here, to try a file on one machine
    except ImportError as error:
        raise CatalogError(f"--cluster {path}: install the extra 'cluster' (dask-jobqueue) for job queues") from error
    name = settings.pop("class")
    kind = dask_jobqueue.local.LocalCluster if name == "LocalCluster" else getattr(dask_jobqueue, name, None)
    if kind is None:
        raise _unclear(path)
    if name != "LocalCluster":  # whose jobs have no shell
        exports = [f"export {variable}={value}" for variable, value in _NO_PAUSE.items()]
        settings["job_script_prologue"] = [*exports, *(settings.get("job_script_prologue") or [])]
    settings.setdefault("processes", settings.get("cores"))  # one thread each: threads would share one interpreter
    settings.setdefault("worker_extra_args", ["--no-dashboard"])
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        raise CatalogError(f"{path}: {error}") from error


def _submit(queue: Any, jobs: int, cluster: str) -> None:
    """Submit the jobs, and keep as many: one that is cancelled or runs out of time is replaced."""
    for _ in range(jobs):
        queue.worker_spec.update(queue.new_worker_spec())
    try:
        queue.sync(queue._correct_state)  # waits for the queue's answer, which `scale` would only log
    except RuntimeError as error:
        said = str(error).strip().splitlines()
        raise CatalogError(f"{cluster}: the queue refuses the job: {said[-1] if said else error}") from error
    queue.adapt(minimum_jobs=jobs, maximum_jobs=jobs)


def _close(queue: Any) -> None:
    with contextlib.suppress(AssertionError):  # Dask's, of a job that was never accepted
        queue.close()


def _unclear(path: Path) -> CatalogError:
    return CatalogError(
        f"{path}: needs `class: SLURMCluster` (or another class of dask-jobqueue) and `jobs: 8`; "
        f"{page('docs/cluster.md')} has an example"
    )
