"""Apart: reading by ITK in a process of its own.

A damaged header of MetaImage or DICOM can end the process that reads it, or make it take all memory there is, and
the libraries below ITK print to standard error whatever they like. So they run beside this process, silent, with
memory and time in proportion to the file; where they break down, that file is refused and the next is read by a new
process. It starts with the first such file (half a second) and ends with the process that started it. Threads that read
at the same time have one each.
"""

import atexit
import contextlib
import functools
import importlib
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from scans.errors import ScanError
from scans.one_scan import lacks_memory, why_not_used

_ROOM = 2**26  # bytes a reader may take beside what its file accounts for
_SECONDS = 600  # of computing, for one file
_SERVE = "from scans.formats.apart import serve; serve()"

_Result = TypeVar("_Result")
_lock = threading.Lock()
_idle: list[subprocess.Popen[bytes]] = []  # that nobody asks at the moment
_started_by = 0
_is_there = False  # whether this is the process beside


def apart(function: Callable[[Path], _Result]) -> Callable[[Path], _Result]:
    """Make a function of a module, of a path alone, run in the process beside.

    It may raise ScanError; anything else that happens to it there becomes one.
    """

    @functools.wraps(function)
    def call(path: Path) -> _Result:
        if _is_there:
            return function(path)
        outcome = _ask((function.__module__, function.__name__, path))
        if isinstance(outcome, ScanError):
            raise outcome
        return outcome

    return call


def grant(count: int) -> None:
    """Let the process beside take `count` bytes from now on, and some room; without effect in any other."""
    statm = Path("/proc/self/statm")
    if _is_there and statm.exists():  # elsewhere than on Linux nobody tells what is taken
        pages = int(statm.read_text(encoding="ascii").split()[0])
        taken = pages * resource.getpagesize()
        _limit(resource.RLIMIT_AS, taken + count + _ROOM)


def serve() -> None:
    """Answer what `apart` asks, until there is nobody left to ask; the process beside does nothing else."""
    global _is_there
    _is_there = True
    questions = sys.stdin.buffer
    nowhere = os.open(os.devnull, os.O_RDWR)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
            while True:
                module, name, path = pickle.load(questions)
                pickle.dump(_answer(module, name, path), answers, protocol=5)
                answers.flush()


def _answer(module: str, name: str, path: Path) -> Any:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + _SECONDS)
    try:
        function = getattr(importlib.import_module(module), name)
        grant(0)
        answer = function(path)
    except ScanError as error:
        answer = error
    except Exception as error:
        if lacks_memory(error):  # and the limit is of our own setting
            answer = ScanError(f"{path} asks for more memory than its bytes account for; copy or export it again")
        else:
            answer = ScanError(why_not_used(path, error))
    _limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)  # to send it
    return answer


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    bounds = [bound for bound in (most, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(what, (min(bounds, default=resource.RLIM_INFINITY), hard))


def _ask(question: tuple[str, str, Path]) -> Any:
    other = _process()
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        pickle.dump(question, other.stdin)
        other.stdin.flush()
        answer = pickle.load(other.stdout)
    except (EOFError, OSError, pickle.UnpicklingError):
        _end(other)
        return ScanError(f"{question[-1]} cannot be read (ITK broke down on it); copy or export it again")
    except BaseException:  # interrupted: what it still has to say belongs to no question
        _end(other)
        raise
    with _lock:
        _idle.append(other)
    return answer


def _process() -> subprocess.Popen[bytes]:
    """Return a process that nobody asks, a new one if there is none."""
    global _started_by
    with _lock:
        if _started_by != os.getpid():  # those of a process that this one was forked from belong to it
            _idle.clear()
            _started_by = os.getpid()
        if _idle:
            return _idle.pop()
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **alone, "PYTHONPATH": os.pathsep.join(filter(None, places))},
        start_new_session=True,  # Ctrl-C is for the process that asks
    )


def _end(other: subprocess.Popen[bytes]) -> None:
    other.kill()
    for pipe in (other.stdin, other.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    other.wait()


@atexit.register
def _end_all() -> None:
    while _started_by == os.getpid() and _idle:
        _end(_idle.pop())
