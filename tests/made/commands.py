"""Commands as a user gives them, in processes of their own that begin warm.

A fresh Python imports for one to five seconds before a command does anything. So one process for each worker of the
tests imports the libraries, and nothing else, once; each command is forked from it. It is a process like any other: it
has its own folder, environment, streams and exit code, may start processes, and can be killed. Only what a start itself
is tested for needs a fresh one: imports, hash seeds, how Ctrl-C reaches workers.
"""

import atexit
import contextlib
import functools
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# Heavy libraries, and modules of ours that many commands import. None that looks at the terminal as it is imported.
_WARM = (
    "torch", "torch._dynamo", "torch.utils.tensorboard", "scipy.ndimage", "numba", "distributed", "SimpleITK",
    "nibabel", "typer", "typer.rich_utils", "pydantic", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg", "jinja2", "synth.generate.run", "synth.sources.prepare", "synth.report.card",
    "synth.convert.nifti", "synth.share.rehydrate", "train.stages.pretrain", "train.segmentation.segment",
    "train.share.export", "s3fs", "hypothesis", "pytest",
)  # fmt: skip
_MODULES = {"synth": "synth.cli", "train": "train.cli"}
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(list(_WARM))


class Started:
    """``synth``, ``train``, or a module with a ``main``, that runs in a session of its own.

    What it prints is kept in files, and may be read meanwhile.

    Attributes and methods are those of `subprocess.Popen`, as far as there are any.
    """

    def __init__(self, program, *arguments, cwd=None, env=None, preexec_fn=None):
        self.args = [program, *map(str, arguments)]
        self._said = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115
        given = (self.args, str(cwd or Path.cwd()), dict(os.environ if env is None else env), preexec_fn)
        files = [file.name for file in self._said]
        with _one_thread():  # a daemon ends with the tests, whatever a failed one has left
            self._process = _processes.Process(target=_run, args=(*given, files), daemon=True)
            self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def said(self):
        """Return what it has printed so far, to standard output and to standard error."""
        return tuple(Path(file.name).read_text(encoding="utf-8") for file in self._said)

    def communicate(self, timeout=None):
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout, *self.said())
        return self.said()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """Kill what is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()  # one that has no session yet
        self._process.join()
        for file in self._said:
            file.close()


def finished(program, *arguments, timeout=200, **keywords):
    """Run ``synth`` or ``train`` with arguments to the end; return what `subprocess.run` would."""
    with Started(program, *arguments, **keywords) as process:
        said = process.communicate(timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, *said)


synth, train = functools.partial(finished, "synth"), functools.partial(finished, "train")


@contextlib.contextmanager
def _one_thread():
    """Let the process that all are forked from start with one thread: with fewer cores than threads they would wait."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _run(arguments, folder, environment, preexec_fn, files):
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), stream)
    if preexec_fn is not None:
        preexec_fn()
    sys.argv = arguments
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    tempfile.tempdir = None  # of this environment
    multiprocessing.current_process()._config["daemon"] = False  # or it could start no processes
    if arguments[0] == "train":
        importlib.import_module("tests.made.brief").be_brief()
    try:
        importlib.import_module(_MODULES.get(arguments[0], arguments[0])).main()
    finally:
        atexit._run_exitfuncs()  # which a forked process leaves out
