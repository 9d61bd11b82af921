"""Rotation, scaling and a light warp of a sample, all its layers by one grid.

Lengths are shares of the cube's side, so that cubes of 48 and of 128 voxels are changed alike. A grid is an affine map,
and a displacement that is drawn on few points and interpolated between them.
"""

import numpy as np
import torch
from torch.nn import functional

from train.data.batch import placed
from train.data.random_bits import Draws

MOVED = 0.5  # probability; else the sample stays as the corpus has it, without a second interpolation
ROTATION = np.pi / 12  # about each axis, at most; Liu et al., Brain-ID, 2024 (nnU-Net's 30 degrees: none lies so)
SCALE = (0.8, 1.2)  # Billot et al., SynthSeg, 2023, and Liu et al., Brain-ID, 2024
WARP = (0.0, 0.03)  # largest displacement; ours: 4 mm of 128, a tenth of the way between its points, so nothing folds
POINTS = 5  # of the displacement along an axis


def moved(
    images: torch.Tensor, tumour: torch.Tensor, organ: torch.Tensor, draws: Draws
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Move a sample's layers, or leave them where they are.

    Parameters
    ----------
    images : Tensor of float32, shape (L, C, z, y, x)
        Layers without holes: interpolated linearly, 0 beyond the cube.
    tumour, organ : Tensor of bool, shape (1, z, y, x)
        The tumour lies in the organ. What is interpolated to half or more is inside.
    draws : Draws
        As many numbers are taken whether it is moved or not.

    Returns
    -------
    images, tumour, organ : Tensor
        New ones, or those given.
    """
    chance, turns, scale, warp = draws.uniform(), draws.uniforms(3), draws.uniform(), draws.uniform()
    knots = draws.uniforms(3, POINTS, POINTS, POINTS)
    if chance >= MOVED:
        return images, tumour, organ
    zoom = 1 / (SCALE[0] + (SCALE[1] - SCALE[0]) * scale)  # step between the voxels that are looked at
    matrix = zoom * _rotation(*((2 * turns - 1) * ROTATION))
    # From -1 to 1 a cube is 2 wide.
    displacement = 2 * (WARP[0] + (WARP[1] - WARP[0]) * warp) * (2 * knots - 1)
    side = images.shape[-1]
    grid = _grid(matrix, placed(displacement, images.device), side)
    stacked = torch.cat([images.flatten(0, 1), tumour.to(images), organ.to(images)])[None]
    found = functional.grid_sample(stacked, grid, padding_mode="zeros", align_corners=False)[0]
    shares = found[-2:, None] >= 0.5
    return found[:-2].view_as(images), shares[0] & shares[1], shares[1]


def _grid(matrix: np.ndarray, displacement: torch.Tensor, side: int) -> torch.Tensor:
    """Return where each voxel looks, shape (1, z, y, x, 3), the x of a place first, as `grid_sample` asks.

    Parameters
    ----------
    matrix : ndarray, shape (3, 3)
        Of (x, y, z).
    displacement : Tensor, shape (3, POINTS, POINTS, POINTS)
        Of (x, y, z), on points from edge to edge of the cube.
    side : int
    """
    warp = functional.interpolate(displacement[None], size=(side,) * 3, mode="trilinear", align_corners=True)[0]
    along = (2 * torch.arange(side, device=displacement.device, dtype=displacement.dtype) + 1) / side - 1
    x, y, z = along, along[:, None], along[:, None, None]
    rows = [warp[row] + (float(a) * x + float(b) * y + float(c) * z) for row, (a, b, c) in enumerate(matrix)]
    return torch.stack(rows, dim=-1)[None]


def _rotation(x: float, y: float, z: float) -> np.ndarray:
    """Return a rotation of (x, y, z) about each axis in turn, angles in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
