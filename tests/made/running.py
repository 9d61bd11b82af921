"""Runs in processes of their own, to be watched and killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import psutil


@contextlib.contextmanager
def running(command, **keywords):
    """Start a command in a session of its own; kill what is left of it at the end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "start_new_session": True}
    with subprocess.Popen(command, preexec_fn=_hear_ctrl_c, **{**pipes, **keywords}) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _hear_ctrl_c():
    """Undo what a shell does to whatever it starts in the background, and so to tests that run there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def wait_for_receipts(out, count=1):
    wait_for(lambda: len(list(out.glob("receipts/0*.json"))) >= count)


def workers_of(process):
    return [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]


class Dask:
    """A scheduler and two workers, each a process, over TCP."""

    def __init__(self, workers=2, memory="1GB"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self._stack = contextlib.ExitStack()
        dask = [sys.executable, "-m", "dask"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        few = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
        host, port = self.address.removeprefix("tcp://").split(":")
        self.scheduler = self._stack.enter_context(
            running([*dask, "scheduler", "--host", host, "--port", port, "--no-dashboard"], env=few, **silent)
        )
        worker = [*dask, "worker", self.address, "--nthreads", "1", "--memory-limit", memory, "--no-dashboard"]
        self.workers = [self._stack.enter_context(running(worker, **silent)) for _ in range(workers)]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def tasks(self):
        """Return how many tasks the scheduler still knows."""
        from distributed import Client

        with Client(self.address) as client:
            return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
