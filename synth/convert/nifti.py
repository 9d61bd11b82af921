"""Export: samples as NIfTI scans, for any viewer, or to be evaluated like a real case."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from scans.errors import StoreError
from scans.image.frame import Frame
from scans.image.grid import Grid
from scans.image.volume import Volume, write_volume
from synth.corpus import Corpus

_QUEUED = 16  # samples handed to a thread ahead of the rest: a corpus may hold millions


def export_nifti(
    corpus: Corpus,
    indices: Sequence[int],
    folder: Path,
    layers: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Path]:
    """Write the composites of some samples, their masks and the outline of the organ.

    Parameters
    ----------
    corpus : Corpus
    indices : sequence of int
    folder : Path
        Gets ``sample000012_image.nii.gz`` (the network's units, 0 outside the organ), ``_mask`` and ``_roi``
        of each, on the network's grid in the space of the normal's scan.
    layers : bool
        Write ``_normal`` and ``_texture`` too, the two layers that the composite is blended from.
    progress : callable
        Called with 1 as each sample is done.

    Returns
    -------
    list of Path
        The images.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def write(index: int) -> None:
        sample = corpus[index]
        # The organ is what the normal covers: a voxel of tissue is 0 only by an accident of rounding.
        volumes = {
            "image": sample.composite,
            "mask": sample.mask,
            "roi": (sample.normal != 0).astype(np.uint8),
        }
        if layers:
            volumes |= {"normal": sample.normal, "texture": sample.texture}
        grid = grid_of(corpus, index)
        for name, array in volumes.items():
            write_volume(Volume.on(grid, array), folder / f"sample{index:06d}_{name}.nii.gz")

    each_in_threads(write, indices, lambda: progress(1))
    return [folder / f"sample{index:06d}_image.nii.gz" for index in indices]


def grid_of(corpus: Corpus, index: int) -> Grid:
    """Return where the voxels of a sample lie: the network's cube in the space of its normal's scan.

    Raises
    ------
    StoreError
        If the corpus does not say.
    """
    source = corpus.sources[corpus.normal[index]]
    try:
        return Frame.from_json(source["frame"]).network
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"source {source['name']} of the corpus has no frame, which tells where its voxels lie; "
            "make the corpus again from sources made by synth prepare"
        ) from error


def each_in_threads(work: Callable[[int], None], indices: Sequence[int], progress: Callable[[], None]) -> None:
    """Do `work` for each index, in one thread a core: reading and compressing both let go of Python's lock.

    Parameters
    ----------
    work : callable
    indices : sequence of int
    progress : callable
        Called in this thread as each is done, in their order.

    Raises
    ------
    Exception
        The first that `work` raised; what had begun is finished, the rest is not begun.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ahead = _QUEUED * threads
    with ThreadPoolExecutor(threads, thread_name_prefix="export") as pool:
        for first in range(0, len(indices), ahead):
            for _ in pool.map(work, indices[first : first + ahead]):
                progress()
