"""Patch by patch: what a network finds in parts of a scan, half of each overlapping the next, blended into one."""

from collections.abc import Callable

import numpy as np
import torch

from scans.image.box import tight_box

_OVERLAP = 0.5  # of a patch with the next


def slide_over(
    find: Callable[[torch.Tensor], torch.Tensor], scan: torch.Tensor, side: int, layers: int, device: torch.device
) -> np.ndarray:
    """Find layers patch by patch, blended by Gaussian weights; a patch that is 0 everywhere has layers of 0.

    Parameters
    ----------
    find : callable
        Takes a patch (1, C, side, side, side) on `device`, returns its layers.
    scan : Tensor, shape (1, C, z, y, x)
        On the CPU.
    side : int
    layers : int
        How many are found.
    device : torch.device

    Returns
    -------
    ndarray of float32, shape (layers, z, y, x)
    """
    from monai.inferers import sliding_window_inference

    def found(patch: torch.Tensor) -> torch.Tensor:
        if not patch.any():  # nothing of the ROI
            return patch.new_zeros((len(patch), layers, *patch.shape[2:]))
        return find(patch)

    with torch.inference_mode():
        output = sliding_window_inference(
            scan,
            roi_size=(side,) * 3,
            sw_batch_size=1,
            predictor=found,
            overlap=_OVERLAP,
            mode="gaussian",
            padding_mode="constant",
            cval=0.0,
            sw_device=device,
            device="cpu",
        )
    return np.asarray(output[0])


def slide_over_organ(
    find: Callable[[torch.Tensor], torch.Tensor], scan: np.ndarray, side: int, layers: int, device: torch.device
) -> np.ndarray:
    """Find layers patch by patch in the box of what is not 0 in a scan (C, z, y, x); they are 0 around it."""
    z, y, x = tight_box((scan != 0).any(axis=0)) if scan.any() else (slice(0, side),) * 3
    output = np.zeros((layers, *scan.shape[1:]), np.float32)
    part = torch.from_numpy(np.ascontiguousarray(scan[:, z, y, x], dtype=np.float32))[None]
    output[:, z, y, x] = slide_over(find, part, side, layers, device)
    return output
