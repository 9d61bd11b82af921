"""The sliding window: patches of the network's cube over a whole region of interest, blended by Gaussian weights.

A network of patches sees every scan so, at the scale of its training. For one of whole cubes it is an option, and a
window changes what the network sees. ``native`` keeps the scan's own voxels: finer detail, but at another scale
than the training's wherever the two spacings differ, and a network knows a tumour at the scale it was shown.
``trained`` keeps the training's voxels and so its scale: where the organ fits into the cube it gives the same as
the cube, and where it does not it reaches what the cube cuts off.
"""

from collections.abc import Sequence
from functools import partial

import torch

from scans.image.frame import widen
from scans.image.preparation import Prepared, reframe
from scans.image.volume import Volume
from train.inference.model import Decomposed, Model, find_layers, network_input
from train.inference.patchwise import slide_over


def window_over(volumes: Sequence[Volume], prepared: Sequence[Prepared], native: bool) -> list[Prepared]:
    """Prepare a scan for `slide`: the box around its ROI, in place of the network's cube.

    Intensities keep the normalisation found in the cube, which is the training's.

    Parameters
    ----------
    volumes : sequence of Volume
        One a modality, on one grid.
    prepared : sequence of Prepared
        The same in the network's cube.
    native : bool
        In the scan's own voxels; otherwise in the cube's.

    Returns
    -------
    list of Prepared
        One a modality, of any number of voxels along each side.
    """
    first = prepared[0]
    frame = widen(first.frame, volumes[0].with_array(first.inside), native=native)
    return [reframe(volume, one, frame) for volume, one in zip(volumes, prepared, strict=True)]


def slide(model: Model, prepared: Sequence[Prepared], flips: bool = False) -> Decomposed:
    """Run the network on patches of its cube's sides, half of each overlapping the next.

    What is larger than a patch stays in main memory, on the device is one patch at a time. A scan smaller than a
    patch is surrounded by 0, as everything outside the ROI is.

    Parameters
    ----------
    model : Model
    prepared : sequence of Prepared
        One a modality, of `window_over`.
    flips : bool
        As of `train.inference.model.find_layers`.

    Returns
    -------
    Decomposed
        In the grid of `prepared`.
    """
    scan = network_input(model, prepared)
    output = slide_over(
        partial(find_layers, model, flips=flips),
        model.seen(torch.from_numpy(scan)[None]),  # of the whole scan: a patch does not have both sides
        model.record.side,
        2 * len(scan) + len(model.classes),
        model.machine.device,
    )
    return Decomposed.of(scan, output)
