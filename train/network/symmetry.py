"""The mirrored hemisphere: a scan's image in its mid-sagittal plane, shown to the network beside the scan.

A faint tumour is found by comparing the two sides of a brain. The plane is found without annotation: the one in which
the scan is most like its mirror image, by their correlation. Candidates stand around the middle of the volume, coarse
ones first; the middle itself, a plain flip, stays where no other is better.

A plane is ``v[2] + a v[0] + b v[1] = c``, v in voxels from the middle of the volume, the mirrored axis last: two slopes
(tangents of small rotations) and a shift.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

AXES = {"z": 2, "y": 3, "x": 4}  # of (N, C, z, y, x)

# Chosen on the scans of docs/results.md, by how alike their healthy voxels became.
_SIDE = 24  # voxels along the longest side of the volume that planes are judged on
_POINTS = 12  # along each side of it, where they are judged
_BRIGHT = 1.0  # deviations from the mean beyond which tissue counts as no more: a tumour must not choose the plane
_OUTSIDE = -4.0  # deviations that everything outside the organ counts as: its outline helps to choose
_SLOPE = 0.09  # first step, about 5 degrees
_SHIFT = 0.04  # first step, in sides of the volume
_FIRST = ((3, 0, 2), (0, 3, 1))  # steps to either side: one slope with the shift, then the other
_HALVINGS = 4  # of the steps; each time all neighbours are tried: 0.3 degrees and 0.1 of 48 voxels at the end
_GAIN = 1e-4  # in correlation, that a plane must bring over the middle


def seen(scan: torch.Tensor, modalities: int, axis: str | None) -> torch.Tensor:
    """Return what a network sees of scans: their mirror images beside them, or with `axis` None the scans alone.

    Parameters
    ----------
    scan : Tensor, shape (N, C, z, y, x)
        Whole scans. Parts of them come with those of their mirror images, (N, 2 C, z, y, x), and are left as they are.
    modalities : int
        C.
    axis : {"x", "y", "z"} or None
        As of `mirrored`.
    """
    if axis is None or scan.shape[1] != modalities:
        return scan
    return torch.cat([scan, mirrored(scan, axis)], dim=1)


class Sight(nn.Module):
    """What a network sees of scans, see `seen`, as a part of it that has no weights."""

    def __init__(self, modalities: int, axis: str | None) -> None:
        super().__init__()
        self.modalities, self.axis = modalities, axis

    def forward(self, scan: torch.Tensor) -> torch.Tensor:
        """Map (N, C, z, y, x) to the input of the first convolution."""
        return seen(scan, self.modalities, self.axis)


@torch.no_grad()
def mirrored(scan: torch.Tensor, axis: str = "x") -> torch.Tensor:
    """Return each scan's mirror image in the plane that it is most symmetric about.

    Costs 166 correlations at 12 × 12 × 6 points, and one resampling of the scan, which takes as long at 48³.

    Parameters
    ----------
    scan : Tensor, shape (N, C, z, y, x)
        In network units, 0 outside the organ. The modalities of a scan share their plane.
    axis : {"x", "y", "z"}
        The axis from left to right.

    Returns
    -------
    Tensor, same shape and type
        A function of each scan alone, without gradients; exactly 0 outside the mirrored organ.
    """
    dim = AXES[axis]
    with torch.autocast(scan.device.type, enabled=False):
        images = [_image(one, find_plane(one)) for one in scan.detach().float().movedim(dim, -1)]
        return torch.stack(images).movedim(-1, dim).to(scan.dtype)


def find_plane(scan: torch.Tensor) -> torch.Tensor:
    """Return the two slopes and the shift, (3,), of the mid-sagittal plane of a scan (C, z, y, x).

    Not more than 19 degrees and 0.15 of a side from the middle; exactly 0 where nothing is better than the middle.
    """
    volume, shape = _reduced(scan), scan.shape[1:]
    step = _on_device((_SLOPE, _SLOPE, _SHIFT * shape[-1]), scan)
    middle = scan.new_zeros(3)
    best = middle
    for reach in (*_FIRST, *[(1, 1, 1)] * _HALVINGS):
        if reach not in _FIRST:
            step = step / 2
        planes = best + step * _neighbours(reach, scan)
        best = planes.index_select(0, correlations(volume, planes, shape).argmax()[None])[0]  # waits for no GPU
    at_middle, at_best = correlations(volume, torch.stack([middle, best]), shape)
    return torch.where(at_best > at_middle + _GAIN, best, middle)


def _reduced(scan: torch.Tensor) -> torch.Tensor:
    """Return what planes are judged on, (1, 1, z, y, x): tissue of all modalities, smooth, and 0 outside the organ."""
    z, y, x = (max(1, round(side * _SIDE / max(scan.shape[1:]))) for side in scan.shape[1:])
    tissue = scan.mean(0, keepdim=True).clamp(-_BRIGHT, _BRIGHT) - _OUTSIDE
    tissue = torch.where((scan != 0).any(0), tissue, 0.0)
    return functional.avg_pool3d(functional.adaptive_avg_pool3d(tissue, (z, y, x))[None], 3, stride=1, padding=1)


def _neighbours(reach: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Return every combination of whole numbers from -reach to reach, (K, 3)."""
    return torch.cartesian_prod(*(torch.arange(-r, r + 1, dtype=like.dtype, device=like.device) for r in reach))


def correlations(volume: torch.Tensor, planes: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return the correlation of half a volume with its mirror image in each of K planes, (K,).

    The other half holds the same pairs of voxels, but for those close to the middle.

    Parameters
    ----------
    volume : Tensor, shape (1, 1, z, y, x)
    planes : Tensor, shape (K, 3)
        In voxels of a volume of `shape`, which `volume` is a smaller picture of.
    """
    same = torch.eye(3, 4, dtype=planes.dtype, device=planes.device)
    affines = torch.cat([same[None], _reflections(planes, shape)])
    half = affines.clone()
    half[:, :, 3] -= affines[:, :, 0] / 2
    half[:, :, 0] /= 2
    points = functional.affine_grid(half, [len(half), 1, _POINTS, _POINTS, _POINTS // 2], align_corners=False)
    values = functional.grid_sample(volume.expand(len(affines), -1, -1, -1, -1), points, align_corners=False).flatten(1)
    values = values - values.mean(1, keepdim=True)
    spread = values.square().sum(1).sqrt()
    return ((values[1:] * values[0]).sum(1) / (spread[1:] * spread[0]).clamp(min=1e-9)).nan_to_num(-1.0)


def _reflections(planes: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return reflections in planes (K, 3) as ``affine_grid`` wants them, (K, 3, 4): x first, sides from -1 to 1."""
    normal = functional.pad(planes[:, :2], (0, 1), value=1.0)
    length = normal.square().sum(1)[:, None, None]
    same = torch.eye(3, dtype=planes.dtype, device=planes.device)
    turn = same - 2 * normal[:, :, None] * normal[:, None] / length
    move = 2 * planes[:, 2, None, None] * normal[:, :, None] / length
    half = _on_device([side / 2 for side in shape], planes)
    return torch.cat([turn * half / half[:, None], move / half[:, None]], dim=2).flip(1)[:, :, [2, 1, 0, 3]]


def _on_device(numbers: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """Return numbers as a tensor, each written there: to copy them to a GPU would wait for it."""
    return torch.stack([like.new_full((), number) for number in numbers])


def _image(scan: torch.Tensor, plane: torch.Tensor) -> torch.Tensor:
    """Return the mirror image of a scan (C, z, y, x) in a plane: in that of the middle the flip, bit for bit."""
    organ = (scan != 0).any(0, keepdim=True).to(scan)
    points = functional.affine_grid(_reflections(plane[None], scan.shape[1:]), [1, 1, *scan.shape[1:]], False)
    *values, share = functional.grid_sample(torch.cat([scan, organ])[None], points, align_corners=False)[0]
    image = torch.where(share >= 0.5, torch.stack(values) / share.clamp(min=0.5), 0.0)
    return torch.where((plane == 0).all(), scan.flip(-1), image)
