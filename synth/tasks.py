"""Tasks: one function over many keys, here or on a cluster, a bounded number of them in flight.

A key ends with its result or with a :class:`Failure`, and the others go on. The window follows the workers that
are there now, so that neither the client nor the scheduler ever knows of more than a few tasks a worker.
"""

import contextlib
import itertools
import queue
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from scans.errors import CatalogError, UserError

if TYPE_CHECKING:
    from distributed import Client, Future


K = TypeVar("K")
R = TypeVar("R")

_AHEAD = 4  # tasks in flight for each thread of a worker: one that runs, the others so that it never waits
_TRIES = 2  # of a task that fails
_LOOK_S = 2.0  # between two looks at who is there
_PATIENCE_S = 10.0  # without a worker, before that is said


@dataclass(frozen=True)
class Failure:
    """Why a key has no result.

    Attributes
    ----------
    reason : str
        In one sentence.
    error : Exception
        What the task raised, or what happened to its worker.
    """

    reason: str
    error: BaseException


def run_tasks(
    client: "Client | None",
    work: Callable[[K], R],
    keys: Iterable[K],
    name: str = "task",
    say: Callable[[str], None] = lambda sentence: None,
) -> Generator[tuple[K, R | Failure], None, None]:
    """Run a function over keys; yield each key with what came of it, as it ends.

    A task that fails is tried once more. One whose worker dies goes to another; those that saw several workers die
    are tried again at the end, one at a time, so that only the one that kills its worker is left out.

    Parameters
    ----------
    client : Client, optional
        From :func:`synth.cluster.open_cluster`; None works here, in this process.
    work : callable
        Of one key. Pickled with each task, so bind little to it. May run twice for a key.
    keys : iterable
    name : str
        Of the tasks, on the dashboard.
    say : callable
        Called with a sentence when the workers are all gone, or back.

    Yields
    ------
    tuple of (key, result or Failure)

    Raises
    ------
    CatalogError
        If the scheduler goes away.
    """
    if client is None:
        yield from ((key, _try_here(work, key)) for key in keys)
        return
    from distributed import KilledWorker

    suspects = []
    for key, result in _stream(client, work, keys, name, say):
        if isinstance(result, Failure) and isinstance(result.error, KilledWorker):
            suspects.append(key)
        else:
            yield key, result
    yield from _stream(client, work, suspects, name, say, alone=True)


def _try_here(work: Callable[[K], R], key: K) -> R | Failure:
    for _ in range(_TRIES):
        try:
            return work(key)
        except Exception as error:  # whatever it is, the other keys go on
            failure = Failure(_reason(error), error)
    return failure


def _stream(
    client: "Client",
    work: Callable[[K], R],
    keys: Iterable[K],
    name: str,
    say: Callable[[str], None],
    alone: bool = False,
) -> Iterator[tuple[K, R | Failure]]:
    waiting = iter(keys)
    run = uuid.uuid4().hex[:8]  # a shared scheduler may still know an earlier run's tasks
    crew = _Crew(client, say)
    flying: dict[Any, tuple[K, Future]] = {}  # by the future's key
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    numbers = itertools.count()
    try:
        while True:
            window = 1 if alone else _AHEAD * crew.threads
            if len(flying) <= window * 3 // 4:  # in batches: a message for many tasks costs little more than for one
                batch = list(itertools.islice(waiting, window - len(flying)))
                names = [f"{name}-{next(numbers)}-{run}" for _ in batch]
                futures = client.map(work, batch, key=names, pure=False, retries=_TRIES - 1) if batch else []
                for key, future in zip(batch, futures, strict=True):
                    flying[future.key] = key, future
                    future.add_done_callback(ended.put)
                del futures
            if not flying:
                return
            done = _drain(ended, _LOOK_S)
            crew.look()
            for future, result in _outcomes(client, done):
                yield flying.pop(future.key)[0], result
                del future  # the last reference: the scheduler forgets the task
            done.clear()
    except (OSError, CancelledError) as error:  # distributed's CommClosedError is an OSError
        raise CatalogError(
            f"the scheduler at {crew.address} is gone; what is finished is kept: "
            "start one and run the same command again"
        ) from error
    finally:
        if flying and client.status == "running":
            with contextlib.suppress(Exception):  # on the way out, and the scheduler drops them without the client
                client.cancel([future for _, future in flying.values()])


def _drain(ended: "queue.SimpleQueue[Future]", seconds: float) -> "list[Future]":
    """Return all futures that have ended; wait for one if there is none."""
    done = []
    with contextlib.suppress(queue.Empty):
        done.append(ended.get(timeout=seconds))
        while True:
            done.append(ended.get_nowait())
    return done


def _outcomes(client: "Client", done: "list[Future]") -> Iterator[tuple["Future", Any]]:
    """Fetch the results of futures that have ended, all in one message."""
    # A result that was lost with its worker since is made again, and waited for.
    results = client.gather({future.key: future for future in done if future.status != "error"}, errors="skip")
    for future in done:
        if future.status == "error":
            error = future.exception()
            yield future, Failure(_reason(error), error)
        elif future.status == "cancelled":  # and not by this run
            raise ConnectionError(future.key)
        else:
            yield future, results[future.key]


class _Crew:
    """The workers that are there: how many threads they have, and a word when the last goes or the first comes."""

    def __init__(self, client: "Client", say: Callable[[str], None]) -> None:
        self.address = client.scheduler.address
        self._client, self._say = client, say
        self._seen = self._looked = time.monotonic()
        self._count, self._silent = 0, True
        self.threads = 1
        self._refresh()

    def look(self) -> None:
        """Count the workers, at most every few seconds."""
        if time.monotonic() - self._looked >= _LOOK_S:
            self._refresh()

    def _refresh(self) -> None:
        if self._client.status != "running":
            raise ConnectionError(self.address)
        threads = self._client.nthreads()
        now = self._looked = time.monotonic()
        self._count, self.threads = len(threads), max(sum(threads.values()), 1)
        if self._count:
            if not self._silent:
                self._say(f"{self._count} worker{'s are' if self._count > 1 else ' is'} there")
            self._seen, self._silent = now, True
        elif self._silent and now - self._seen > _PATIENCE_S:
            self._say("no worker is there; waiting for one (jobs may still be queued, Ctrl-C stops)")
            self._silent = False


def _reason(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if type(error).__name__ == "KilledWorker":  # by name: nothing here needs Dask when there is no cluster
        return "its worker died each time (killed, or out of memory); give workers more memory, or start fewer"
    return f"{type(error).__name__}: {error}"
