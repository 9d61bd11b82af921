"""Kernels compiled once for all testers: with cold caches each of them, and each process it starts, would compile all.

Who needs kernels waits for the first tester that does; a tester whose tests need none goes on meanwhile.
"""

import fcntl
import os
from pathlib import Path

from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.generators.mixture import parse_mixture
from synth.sources.reader import SourceStore
from tests.made.sources import make_store

SMALL = {"layers": (), "compound": ("shape.volume_mm3=[400,4000]",), "smooth": ("volume_mm3=[400,4000]",)}


def compile_once(folder: Path) -> None:
    """Make a few samples by each generator, if no tester of this run has; a tester that is alone compiles as it goes.

    Parameters
    ----------
    folder : Path
        Of this run, the same for all testers.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    with (folder / "kernels.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "kernels").exists():
            return
        sources = make_store(folder / "kernels-sources.zarr", 2)
        store = SourceStore(sources)
        for name, settings in SMALL.items():
            plan = make_manifest(store, 3, 0, parse_mixture(store.region, [name], settings))
            assert not generate(plan, sources, folder / f"kernels-{name}.zarr", workers=0).failed
        (folder / "kernels").touch()
