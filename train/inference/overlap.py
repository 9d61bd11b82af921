"""Many scans through one network: the next are read and the last are written while it runs.

A scan takes three steps. The network runs in the thread that asks, on one scan at a time and in their order; before
and after it, threads read, prepare, bring back and write, in libraries that let go of Python's lock. No more scans are
under way than that takes, and fewer where they are large. Results come in the order of the scans, whichever is done
first.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from scans.errors import UserError
from scans.one_scan import one_scan
from train.network.hardware import available_cores

_MOST_THREADS = 8  # a brain takes each a seventh of a second: together they ready fifty a second
_VOXELS = 2**28  # of all scans under way: about 4 GB with what is made of them; one is read ahead of any size

_Item = TypeVar("_Item")
_Ready = TypeVar("_Ready")
_Found = TypeVar("_Found")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Done(Generic[_Result]):
    """In place of what is ready for the network: a result that needs none."""

    result: _Result


@dataclass(frozen=True)
class ThreeSteps(Generic[_Item, _Ready, _Found, _Result]):
    """What is done with each scan. Whatever a step raises over a scan is that scan's problem, see `one_scan`.

    Attributes
    ----------
    before, after : callable
        Run in any thread, of several scans at a time.
    network : callable
        Run in the thread that asks.
    failed : callable
        Makes a result of a problem, in the thread that asks.
    name : callable
        What a user would call the scan.
    voxels : callable
        How large it is.
    """

    before: Callable[[_Item], _Ready | Done[_Result]]
    network: Callable[[_Item, _Ready], _Found]
    after: Callable[[_Item, _Ready, _Found], _Result]
    failed: Callable[[_Item, UserError], _Result]
    name: Callable[[_Item], str]
    voxels: Callable[[_Ready], int]


def overlapped(
    items: Sequence[_Item],
    steps: ThreeSteps[_Item, _Ready, _Found, _Result],
    *,
    started: Callable[[Sequence[_Item]], None] = lambda items: None,
    here: bool = False,
) -> Generator[_Result, None, None]:
    """Yield the result of each scan, in their order.

    Parameters
    ----------
    items : sequence
    steps : ThreeSteps
    started : callable
        Told of scans before anything is done with them, in the thread that asks.
    here : bool
        Take the first step in the thread that asks too: where a tool is run on a scan, which a stop by the user must
        end, and which takes all there is of a machine.

    Yields
    ------
    object
        What ``after``, ``before`` or ``failed`` returned.
    """
    threads, largest = max(2, min(available_cores(), _MOST_THREADS)), 0
    most = 2  # scans under way; of the first nobody knows how large they are
    coming = deque(items)
    reading: deque[tuple[_Item, Future[_Ready | Done[_Result] | UserError]]] = deque()
    writing: deque[tuple[_Item, Future[_Result | UserError]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="scan")
    try:
        while coming or reading or writing:
            room = most - len(reading) - len(writing)
            room = min(room, 1 - len(reading)) if here else room
            if admitted := [coming.popleft() for _ in range(min(len(coming), room))]:
                started(admitted)
                reading.extend((item, _submit(None if here else pool, steps, steps.before, item)) for item in admitted)
            if reading:
                item, first = reading.popleft()
                ready = first.result()
                if not isinstance(ready, UserError | Done):
                    largest = max(largest, steps.voxels(ready))
                    most = max(2, min(threads + 2, _VOXELS // max(1, largest)))
                writing.append((item, _rest(pool, steps, item, ready)))
            while writing and (writing[0][1].done() or not reading):
                item, last = writing.popleft()
                result = last.result()
                yield steps.failed(item, result) if isinstance(result, UserError) else result
                if coming:
                    break
    finally:
        pool.shutdown(cancel_futures=True)


def _rest(pool: ThreadPoolExecutor, steps: Any, item: Any, ready: Any) -> Future[Any]:
    """Run the network on what is ready, and hand on what it found."""
    if isinstance(ready, UserError):
        return _known(ready)
    if isinstance(ready, Done):
        return _known(ready.result)
    found = _attempt(steps, steps.network, item, ready)
    if isinstance(found, UserError):
        return _known(found)
    return _submit(pool, steps, steps.after, item, ready, found)


def _submit(pool: ThreadPoolExecutor | None, steps: Any, step: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Take a step in a thread, or without a pool at once."""
    if pool is None:
        return _known(_attempt(steps, step, *arguments))
    return pool.submit(_attempt, steps, step, *arguments)


def _attempt(steps: Any, step: Callable[..., Any], item: Any, *arguments: Any) -> Any:
    """Take a step; return what comes of it, or the scan's problem."""
    try:
        with one_scan(steps.name(item)):
            return step(item, *arguments)
    except UserError as error:
        return error


def _known(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
