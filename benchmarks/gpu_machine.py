"""All that wants a machine with a GPU, one after the other in eight minutes: for one that is lent for little longer.

    python -m benchmarks.gpu_machine --out benchmarks/results/gpu [--sources sources.zarr] [--scans folder] [--rehearse]

1. The training step, way by way (`benchmarks.gpu_step`), five minutes.
2. Synthesis by 1, 2, 4 ... workers up to the machine's cores (`benchmarks.synthesis`), with `--sources`.
3. Segmenting many scans (`benchmarks.segmenting`), with `--scans`.

Each part is a process of its own that leaves a page in the folder, what it said in a log, and is ended when its time is
up; the next one runs all the same. `--rehearse` takes a network of no size, to see on any machine that all of it runs.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes
    ----------
    name : str
        Of its page.
    arguments : tuple of str
        Of the module that is run, itself the first.
    seconds : float
        When it is ended.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float


def parts(sources: Path | None, scans: Path | None, seconds: float, rehearsed: bool) -> list[Part]:
    """Return the parts that there is something for; together they take so many seconds at the most.

    The step ends by itself, after the time that it is given and the compiling of one more way.
    """
    step, made, segmented = 0.6 * seconds, 0.22 * seconds, 0.18 * seconds
    small = ("--width", "2", "--size", "16", "--backend", "aot_eager") if rehearsed else ()
    chosen = [Part("gpu-step", ("gpu_step", "--seconds", f"{0.85 * step:.0f}", *small), step)]
    if sources:
        chosen.append(Part("synthesis", ("synthesis", "--sources", str(sources), "--samples", "32"), made))
    if scans:
        chosen.append(Part("segmenting", ("segmenting", str(scans), "--rounds", "2"), segmented))
    return chosen


def take(part: Part, folder: Path) -> str:
    """Run a part and return how it went, in a sentence."""
    log, began = folder / f"{part.name}.log", time.monotonic()
    module, *rest = part.arguments
    command = [sys.executable, "-m", f"benchmarks.{module}", *rest, "--out", str(folder / f"{part.name}.md")]
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            code = process.wait(part.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its workers too
            return f"{part.name}: ended after {part.seconds:.0f} s; what it said is in {log}"
    went = "done" if code == 0 else f"failed; {log} says why"
    return f"{part.name}: {went}, {time.monotonic() - began:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for part in parts(given.sources, given.scans, given.seconds, given.rehearse):
        print(take(part, given.out), flush=True)
    for name, missing in (("sources", given.sources is None), ("scans", given.scans is None)):
        if missing:
            print(f"left out, for want of --{name}")


if __name__ == "__main__":
    main()
