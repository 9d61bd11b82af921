"""Random field: a form bounded by a level of smoothed white noise that falls off from its centre.

The field is ``roughness * g(v) - |v| / radius`` at an offset v, where g is a Gaussian random field of mean 0 and
variance 1. Its form is the part above the highest level at which the centre's face-connected component has the wanted
number of voxels. Such a surface has knobs, bays and overhangs; a radial function, as of `synth.tumour.shape`, has no
overhang.
"""

import functools
import math

import numpy as np
from numba import njit

from scans.image.box import tight_box
from synth.tumour.blur import blur_radius, gaussian_blur
from synth.tumour.philox import Stream
from synth.tumour.placement import VoxelForm

LEAST_GRAIN = 0.2  # a Gaussian of less than about one node cannot be sampled
_NODES = 6  # of the field's grid, along one radius; between them it is linear
_REACH = 2  # radii from the centre to the grid's faces
_LEVELS, _LOWEST, _STEPS = 6144, -6.0, 512.0  # a level is 1/512 of a radius, that is a twentieth of a voxel or so
_MOST_FORMS = 4  # that a process keeps: a sample asks for its form twice, to place it and to fill it


@functools.lru_cache(maxsize=_MOST_FORMS)
def field_form(
    count: int, roughness: float, grain: float, noise_seed: int, spacing_mm: tuple[float, float, float]
) -> VoxelForm:
    """Cut the form of a random field into voxels.

    Parameters
    ----------
    count : int
        Voxels of the form, 1 or more.
    roughness : float
        Standard deviation of the noise, in radii: 0 gives a ball.
    grain : float
        Standard deviation of the Gaussian that smooths the noise, in radii; `LEAST_GRAIN` or more.
    noise_seed : int
        0 to 2**64 - 1.
    spacing_mm : tuple of float
        Voxel sides (z, y, x).

    Returns
    -------
    VoxelForm
        Exactly `count` voxels, one of them the centre, in one face-connected piece.

    Notes
    -----
    Voxels join one by one, the highest neighbour first, from queues by level: the cost is that of the form's voxels and
    their neighbours, not of a box around them, and no component is looked for. Tested against labelling.
    """
    # nine digits hide the last bit of the cube root, which differs between machines
    radius = float(f"{(3.0 * count * math.prod(spacing_mm) / (4.0 * math.pi)) ** (1.0 / 3.0):.9g}")
    half = [int(_REACH * radius / side) for side in spacing_mm]
    taken = _grow(
        noise_field(grain, noise_seed), roughness, radius, np.asarray(spacing_mm, np.float64),
        (half[0], half[1], half[2]), count,
    )  # fmt: skip
    z, y, x = tight_box(taken)
    voxels = np.ascontiguousarray(taken[z, y, x])
    voxels.flags.writeable = False  # shared by all who ask
    return VoxelForm(None, voxels, (z.start - half[0], y.start - half[1], x.start - half[2]), count)


def noise_field(grain: float, noise_seed: int) -> np.ndarray:
    """Return g at the nodes of its grid: float32, shape (25, 25, 25), two radii to either side of the centre."""
    side, sigma = 2 * _REACH * _NODES + 1, grain * _NODES
    margin = blur_radius(sigma)
    wide, inner = side + 2 * margin, slice(margin, margin + side)
    white = (Stream(noise_seed, 0).units(wide**3) - 0.5).astype(np.float32).reshape(wide, wide, wide)
    # White noise of variance 1/12, times the sum of the squared weights, which is 1/(2 sigma sqrt(pi)) an axis.
    deviation = math.sqrt(1.0 / 12.0 / (2.0 * sigma * math.sqrt(math.pi)) ** 3)
    return gaussian_blur(white, (sigma, sigma, sigma), (inner, inner, inner)) * np.float32(1.0 / deviation)


@njit(cache=True)
def _level(
    field: np.ndarray, roughness: float, radius: float, spacing: np.ndarray, half: tuple[int, int, int],
    place: tuple[int, int, int],
) -> int:  # fmt: skip
    """Return the level at a voxel, 0 to ``_LEVELS - 1``; the centre is at `half`."""
    nodes = field.shape[0]
    k, j, i = place[0] - half[0], place[1] - half[1], place[2] - half[2]
    z, y, x = k * spacing[0] / radius, j * spacing[1] / radius, i * spacing[2] / radius
    a, b, c = (z + _REACH) * _NODES, (y + _REACH) * _NODES, (x + _REACH) * _NODES
    k, j, i = min(int(a), nodes - 2), min(int(b), nodes - 2), min(int(c), nodes - 2)
    a, b, c = a - k, b - j, c - i
    near = field[k, j, i] + c * (field[k, j, i + 1] - field[k, j, i])
    far = field[k, j + 1, i] + c * (field[k, j + 1, i + 1] - field[k, j + 1, i])
    below = near + b * (far - near)
    near = field[k + 1, j, i] + c * (field[k + 1, j, i + 1] - field[k + 1, j, i])
    far = field[k + 1, j + 1, i] + c * (field[k + 1, j + 1, i + 1] - field[k + 1, j + 1, i])
    noise = below + a * (near + b * (far - near) - below)
    height = roughness * noise - math.sqrt(z * z + y * y + x * x)
    return min(max(int((height - _LOWEST) * _STEPS), 0), _LEVELS - 1)


@njit(cache=True)
def _grow(
    field: np.ndarray,
    roughness: float,
    radius: float,
    spacing: np.ndarray,
    half: tuple[int, int, int],
    count: int,
) -> np.ndarray:
    """Let `count` voxels join, the highest first: uint8, shape ``2 * half + 1``."""
    depth, height, width = 2 * half[0] + 1, 2 * half[1] + 1, 2 * half[2] + 1
    seen, taken = np.zeros((depth, height, width), np.uint8), np.zeros((depth, height, width), np.uint8)
    # A queue a level: the last that came, and for each the one before it. No voxel is queued twice.
    last = np.empty(_LEVELS, np.int32)
    for level in range(_LEVELS):
        last[level] = -1
    places, before = np.empty(7 * count + 1, np.int32), np.empty(7 * count + 1, np.int32)
    places[0], before[0], queued = (half[0] * height + half[1]) * width + half[2], -1, 1
    seen[half[0], half[1], half[2]] = 1
    top = _level(field, roughness, radius, spacing, half, half)
    last[top] = 0
    for _ in range(count):
        while top >= 0 and last[top] < 0:
            top -= 1
        if top < 0:
            break  # the grid is full
        entry = last[top]
        last[top] = before[entry]
        place = places[entry]
        k, j, i = place // (height * width), place // width % height, place % width
        taken[k, j, i] = 1
        for axis in range(3):
            for step in (-1, 1):
                z, y, x = k + step * (axis == 0), j + step * (axis == 1), i + step * (axis == 2)
                if not (0 <= z < depth and 0 <= y < height and 0 <= x < width) or seen[z, y, x]:
                    continue
                seen[z, y, x] = 1
                level = _level(field, roughness, radius, spacing, half, (z, y, x))
                places[queued], before[queued], last[level] = (z * height + y) * width + x, last[level], queued
                top = max(top, level)
                queued += 1
    return taken
