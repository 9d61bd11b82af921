"""The sliding window: patches of the network's cube over a whole region of interest, blended by Gaussian weights.

A window changes what the network sees. ``native`` keeps the scan's own voxels: finer detail, but at another scale
than the training's wherever the two spacings differ, and a network knows a tumour at the scale it was shown.
``trained`` keeps the training's voxels and so its scale: where the organ fits into the cube it gives the same as
the cube, and where it does not it reaches what the cube cuts off.
"""

from collections.abc import Sequence

import numpy as np
import torch

from scans.image.frame import widen
from scans.image.preparation import Prepared, reframe
from scans.image.volume import Volume
from train.segmentation.inference import Decomposed, Model, find_layers, network_input

_OVERLAP = 0.5  # of a patch with the next


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
        As of `train.segmentation.inference.find_layers`.

    Returns
    -------
    Decomposed
        In the grid of `prepared`.
    """
    from monai.inferers import sliding_window_inference

    scan = network_input(model, prepared)
    layers = 2 * len(scan) + len(model.classes)

    def found(patch: torch.Tensor) -> torch.Tensor:
        if not patch[:, : len(scan)].any():  # nothing of the ROI
            return patch.new_zeros((len(patch), layers, *patch.shape[2:]))
        return find_layers(model, patch, flips)

    with torch.inference_mode():
        output = sliding_window_inference(
            model.seen(torch.from_numpy(scan)[None]),  # of the whole scan: a patch does not have both sides
            roi_size=(model.record.size,) * 3,
            sw_batch_size=1,
            predictor=found,
            overlap=_OVERLAP,
            mode="gaussian",
            padding_mode="constant",
            cval=0.0,
            sw_device=model.machine.device,
            device="cpu",
        )
    return Decomposed.of(scan, np.asarray(output[0]))
