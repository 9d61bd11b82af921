"""The comparison of an ONNX graph with torch: on noise, and on an organ with a bright ball in it."""

from collections.abc import Sequence

import numpy as np
import torch

from scans.errors import CheckpointError
from scans.image.normalisation import Statistics, normalise
from scans.image.statistics import own_statistics
from train.architectures.choice import side_step
from train.network.channels import Channel
from train.network.symmetry import seen
from train.network.unet import UNet
from train.share.onnx_graph import OUTPUTS, Named

TOLERANCE = 1e-4  # of the largest output, or of 1: sums of float32 in another order differ by a tenth of that
_LARGEST = 48  # voxels along a side of the organ


def noise(modalities: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two scans of noise in network units, and their ROI (2, 1, ...): all but a corner.

    The scans are (2, C, 2 step, 3 step, 4 step), `step` voxels being what a side must be a multiple of.
    """
    shape = (2, modalities, 2 * step, 3 * step, 4 * step)
    scan = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    roi = np.ones((2, 1, *scan.shape[2:]), np.float32)
    roi[:, :, :4, :4, :4] = 0
    return np.where(roi > 0, scan, np.float32(0)), roi


def organ(modalities: int, size: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an organ with a bright ball in it, (1, C, side, side, side) in network units, and its ROI."""
    side = max(2 * step, min(size, _LARGEST) // step * step)
    z, y, x = np.indices((side,) * 3) / (side - 1) * 2 - 1
    roi = z**2 + (y / 0.9) ** 2 + (x / 0.8) ** 2 < 0.9
    tissue = np.random.default_rng(1).normal(scale=0.5, size=(1, modalities, side, side, side))
    ball = (z - 0.2) ** 2 + (y + 0.3) ** 2 + (x - 0.1) ** 2 < 0.1
    return np.where(roi, tissue + 4 * ball, 0).astype(np.float32), roi[None, None].astype(np.float32)


def compare(content: bytes, network: UNet, channels: Sequence[Channel], size: int, raw: bool) -> float:
    """Run a graph in onnxruntime and the network in torch.

    Parameters
    ----------
    content : bytes
        The graph.
    network : UNet
        On the CPU, in evaluation mode.
    channels : sequence of Channel
    size : int
        Side of the network's cube.
    raw : bool
        Whether the graph normalises; torch then gets what ``scans.image.normalisation`` makes of the same intensities.

    Returns
    -------
    float
        Their largest absolute difference in any output.

    Raises
    ------
    CheckpointError
        If that is more than `TOLERANCE`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    step = side_step(network.settings)
    for scan, roi in (noise(len(channels), step), organ(len(channels), size, step)):
        scan = seen(torch.from_numpy(scan), network.settings.in_channels, network.settings.mirror).numpy()
        inputs = {"scan": scan}
        if raw:
            inputs = {"intensity": _raw(scan, channels), "roi": roi}
            pairs = zip(inputs["intensity"], roi[:, 0] > 0, strict=True)
            scan = np.stack([_normalised(intensity, inside, channels) for intensity, inside in pairs])
        with torch.inference_mode():
            expected = [output.numpy() for output in Named(network)(torch.from_numpy(scan))]
        for name, ours, theirs in zip(OUTPUTS, expected, session.run(list(OUTPUTS), inputs), strict=True):
            difference, most = float(np.abs(theirs - ours).max()), TOLERANCE * max(1.0, float(np.abs(ours).max()))
            if not difference <= most:  # nor if it is not a number
                raise CheckpointError(
                    f"the ONNX graph's {name} differs from torch's by {difference:.2g}, more than {most:.2g}, "
                    "so nothing was written; export without ONNX"
                )
            worst = max(worst, difference)
    return worst


def _raw(scan: np.ndarray, channels: Sequence[Channel]) -> np.ndarray:
    """Turn network units (N, C, z, y, x) into intensities such as a scanner might give."""
    units = [channel.statistics or Statistics(100.0, 20.0) for channel in channels]
    zeros = [channel.region.normalisation.raw_zero or 0.0 for channel in channels]
    volumes = [
        scan[:, c] * unit.std + unit.mean + zero for c, (unit, zero) in enumerate(zip(units, zeros, strict=True))
    ]
    return np.stack(volumes, axis=1).astype(np.float32)


def _normalised(intensity: np.ndarray, roi: np.ndarray, channels: Sequence[Channel]) -> np.ndarray:
    """Bring intensities (C, z, y, x) to network units by the road that scans take."""
    result = []
    for values, channel in zip(intensity, channels, strict=True):
        zero = channel.region.normalisation.raw_zero
        above = values if zero is None else np.maximum(values - np.float32(zero), 0)
        result.append(normalise(above, roi, channel.statistics or own_statistics(above[roi], channel.region)))
    return np.stack(result)
