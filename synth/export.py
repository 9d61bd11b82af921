"""Export: samples as NIfTI scans, for any viewer, or to be evaluated like a real case."""

from pathlib import Path

import numpy as np

from scans.preparation import Frame
from scans.volume import Volume, write_volume
from synth.corpus import Corpus


def export_nifti(corpus: Corpus, indices: list[int], folder: Path) -> list[Path]:
    """Write the composites of some samples, their masks and the outline of the organ.

    Parameters
    ----------
    corpus : Corpus
    indices : list of int
    folder : Path
        Gets ``sample000012_image.nii.gz`` (the network's units, 0 outside the organ), ``_mask`` and ``_roi``
        of each, on the network's grid in the space of the normal's scan.

    Returns
    -------
    list of Path
        The images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for index in indices:
        sample = corpus[index]
        grid = Frame.from_json(corpus.sources[corpus.normal[index]]["frame"]).network
        # The organ is what the normal covers: a voxel of tissue is 0 only by an accident of rounding.
        volumes = {
            "image": sample.composite,
            "mask": sample.mask,
            "roi": (sample.normal != 0).astype(np.uint8),
        }
        for name, array in volumes.items():
            write_volume(Volume.on(grid, array), folder / f"sample{index:06d}_{name}.nii.gz")
        images.append(folder / f"sample{index:06d}_image.nii.gz")
    return images
