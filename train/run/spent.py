"""How a training ended, and where its time went: steps, waiting for samples, validating, writing; and what to change.

One clock runs on, and each moment is of one kind, so the parts add up to the whole. It is read, never acted on: nothing
that is hashed or compared depends on it.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from scans.durations import duration
from train.network.hardware import available_cores
from train.settings import Schedule

Kind = Literal["starting", "waiting", "steps", "validating", "writing"]
WORDS: dict[Kind, str] = {
    "steps": "computing steps",
    "waiting": "waiting for samples",
    "validating": "validating",
    "writing": "writing",
    "starting": "starting",
}
WARM = 3  # steps: caches fill, kernels are chosen, and their samples were read while nobody waited
_MUCH: dict[Kind, float] = {"waiting": 0.1, "writing": 0.1, "validating": 0.25}  # shares; more holds a training up


class Spent:
    """A clock over the parts of a training.

    Parameters
    ----------
    device : torch.device
        On a GPU steps run on while the next samples are asked for; what a step takes of that time is no waiting.
    clock : callable
        Returns seconds.

    Attributes
    ----------
    seconds : dict of str to float
        By kind.
    steps : int
        Behind the first `WARM`, which count as starting: those that ``steps`` and ``waiting`` are of.
    validations : int
    """

    def __init__(self, device: torch.device | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[Kind, float] = dict.fromkeys(WORDS, 0.0)
        self.steps = self.validations = 0
        self._gpu = device is not None and device.type == "cuda"
        self._clock, self._since = clock, clock()
        self._kind: Kind = "starting"
        self._taken = 0
        self._done: Any = None  # the end of the last step, as a GPU comes to it
        self._gaps: deque[tuple[Any, Any, float]] = deque()

    @property
    def a_step(self) -> float:
        """Seconds that a step takes, the wait for its samples included; NaN if there were too few to tell."""
        return (self.seconds["steps"] + self.seconds["waiting"]) / self.steps if self.steps else float("nan")

    def on(self, kind: Kind) -> None:
        """Count the time from now on as of a kind."""
        now = self._clock()
        passed, before = now - self._since, self._kind
        self.seconds[before] += passed
        self.validations += kind == "validating" != before
        if self._taken < WARM and kind in ("waiting", "steps"):
            kind = "starting"
        self._kind, self._since = kind, now
        if self._gpu:
            self._settle()
            if before == "waiting" and kind == "steps" and self._done is not None:
                self._gaps.append((self._done, _now_on_gpu(), passed))

    def stepped(self) -> None:
        """Note the end of a step and all that came with it: from now on the next one's samples are waited for."""
        self._taken += 1
        self.steps += self._taken > WARM
        self.on("waiting")
        if self._gpu:
            self._done = _now_on_gpu()

    def told(self, stage: str, schedule: Schedule) -> str:
        """Say in a line where the time went, what held the training up, and what to change.

        Parameters
        ----------
        stage : str
            ``pretrain``, ``adapt`` or ``finetune``.
        schedule : Schedule
            Of the training.
        """
        self.on(self._kind)
        whole = max(sum(self.seconds.values()), 1e-9)
        shares = {kind: self.seconds[kind] / whole for kind in WORDS}
        listed = sorted(((share, WORDS[kind]) for kind, share in shares.items() if share >= 0.005), reverse=True)
        parts = ", ".join(f"{share:.0%} {words}" for share, words in listed)
        a_step = f"; {self.a_step:.3g} s a step" if self.steps else ""
        return f"{duration(whole)}: {parts}{a_step}; {self._advice(shares, stage, schedule)}"

    def _advice(self, shares: dict[Kind, float], stage: str, schedule: Schedule) -> str:
        over = {kind: shares[kind] / much for kind, much in _MUCH.items() if shares[kind] > much}
        worst: Kind = max(over, key=lambda kind: over[kind], default="steps")
        if worst == "waiting":
            return f"the bottleneck is samples: {_on_samples(stage, schedule.loader_threads, available_cores())}"
        if worst == "validating":
            fewer = " or fewer --validation-samples" if stage == "pretrain" else ""
            more = f"take a larger --checkpoint-every (now {schedule.checkpoint_every}){fewer}"
            return f"the bottleneck is validating: {more}"
        if worst == "writing":
            more = f"take a larger --checkpoint-every (now {schedule.checkpoint_every})"
            return f"the bottleneck is writing: {more} or an --out on a faster disk"
        if shares["starting"] > shares["steps"]:
            return "most of it was starting, which a longer training does not do again"
        if self._gpu:
            return (
                "the bottleneck is the GPU: more of them share the steps (torchrun), a larger --batch fills one better"
            )
        return "the bottleneck is the processor: a GPU is many times as fast, a smaller --batch takes shorter steps"

    def _settle(self) -> None:
        """Count as of the steps what a GPU was busy for while samples were waited for; only what it has come to."""
        while self._gaps and self._gaps[0][1].query():
            done, began, waited = self._gaps.popleft()
            busy = max(0.0, waited - done.elapsed_time(began) / 1000)  # milliseconds
            self.seconds["waiting"] -= busy
            self.seconds["steps"] += busy


def _on_samples(stage: str, threads: int, cores: int) -> str:
    """Say what makes samples come faster."""
    if stage == "finetune":
        return "--augment mirror or none takes less of the processor"
    if threads < cores:
        return f"more --loader-threads (now {threads}, of {cores} cores), and --cache for a corpus behind a URL"
    return f"all {cores} cores read; a faster disk, --cache for a corpus behind a URL, or --variation light take less"


def _now_on_gpu() -> Any:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes
    ----------
    step : int
        Steps taken in all.
    best : dict
        Step and scores of the validation that ``best.safetensors`` is of; empty if there was none yet.
    signal : int
        0, or the number of the signal that stopped it early.
    left_out : int
        Cases of a dataset that could not be used.
    finished : bool
        Whether all steps were taken: neither stopped nor a rehearsal.
    spent : Spent
        Where the time went.
    """

    step: int
    best: dict[str, Any]
    signal: int = 0
    left_out: int = 0
    finished: bool = True
    spent: Spent = field(default_factory=Spent, compare=False)
