"""Shape: a sphere displaced by simplex noise, scaled, rotated, and cut into voxels (Zhang et al. 2021, Sec. III-A).

The paper displaces the vertices of a subdivided icosahedron. Here the same surface is a radial function on
the unit sphere, ``rho(u) = 1 + amplitude * noise(u)``, evaluated exactly in the direction of each voxel: no
mesh, and no resolution of a mesh.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from opensimplex.internals import _init as permutations  # the compiled noise has no public name
from opensimplex.internals import _noise3 as simplex3

_CUBE_SIDE = 16  # directions along a side of each face of the cube that samples the sphere
_SURE = 1e-9  # a partial sum decides only when it is clear of rounding


@dataclass(frozen=True)
class Form:
    """A tumour's surface around its centre, in millimetres.

    Attributes
    ----------
    inverse : ndarray of float64, shape (3, 3)
        Takes an offset from the centre (z, y, x) in mm to the space of the unit sphere.
    half_extent_mm : tuple of float
        Half sides (z, y, x) of a box that holds the form for certain.
    permutation, gradient : ndarray of int64, shape (256,)
        Tables of the noise.
    octaves : int
    amplitude : float
    """

    inverse: np.ndarray
    half_extent_mm: tuple[float, float, float]
    permutation: np.ndarray
    gradient: np.ndarray
    octaves: int
    amplitude: float


def make_form(
    volume_mm3: float,
    axis_ratio: float,
    rotation: tuple[float, float, float, float],
    octaves: int,
    amplitude: float,
    noise_seed: int,
) -> Form:
    """Scale, stretch and rotate a noisy sphere so that it has a given volume.

    Parameters
    ----------
    volume_mm3 : float
        Volume of the finished form; the noise is accounted for.
    axis_ratio : float
        q of the semi-axes (r, r/q, r*q), in (0, 1].
    rotation : tuple of float
        Unit quaternion (w, x, y, z).
    octaves, amplitude, noise_seed
        Of the surface noise.

    Returns
    -------
    Form
    """
    permutation, gradient = permutations(noise_seed)
    mean_cube = _mean_cube(octaves, amplitude, permutation, gradient)
    # volume = 4/3 pi r**3 mean(rho**3), since the semi-axes multiply to r**3; nine digits hide the cube root's last bit
    radius = float(f"{(3.0 * volume_mm3 / (4.0 * math.pi * mean_cube)) ** (1.0 / 3.0):.9g}")
    semi_axes = np.array([radius, radius / axis_ratio, radius * axis_ratio])
    turn = _rotation_matrix(rotation)
    inverse = turn.T / semi_axes[:, None]
    reach = (1.0 + amplitude) * np.sqrt(((turn * semi_axes) ** 2).sum(axis=1))
    return Form(inverse, (float(reach[0]), float(reach[1]), float(reach[2])), permutation, gradient, octaves, amplitude)


def half_box(form: Form, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return half sides (z, y, x), in voxels, of a box around the centre voxel that holds the form for certain."""
    z, y, x = (math.ceil(extent / side) for extent, side in zip(form.half_extent_mm, spacing_mm, strict=True))
    return z, y, x


def rasterise(
    form: Form,
    spacing_mm: tuple[float, float, float],
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
    displacement_mm: np.ndarray | None = None,
) -> np.ndarray:
    """Cut a form into voxels: 1 where the voxel's centre lies inside.

    Parameters
    ----------
    form : Form
    spacing_mm : tuple of float
        Voxel sides (z, y, x).
    start : tuple of int
        First voxel of the box (z, y, x), counted from the form's centre voxel.
    shape : tuple of int
        Voxels of the box (z, y, x).
    displacement_mm : ndarray of float32, shape (3, *shape), optional
        Added to each voxel's position before it is tested, so that the mask is warped.

    Returns
    -------
    ndarray of uint8, shape `shape`

    Notes
    -----
    At most one noise call per voxel and octave. An octave adds at most its own amplitude, so the sum is cut
    short once the rest cannot change the answer: one to two octaves for most voxels, none near the centre.
    """
    field = np.zeros((3, 0, 0, 0), np.float32) if displacement_mm is None else displacement_mm
    return _rasterise(
        form.inverse, np.asarray(spacing_mm, np.float64), start, shape, field,
        form.octaves, form.amplitude, form.permutation, form.gradient,
    )  # fmt: skip


def radial_function(form: Form, directions: np.ndarray) -> np.ndarray:
    """Evaluate ``rho(u) = 1 + amplitude * noise(u)`` on the unit sphere.

    Parameters
    ----------
    form : Form
    directions : ndarray of float64, shape (n, 3)
        Unit vectors in the space of the unit sphere.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    return _radial_function(directions, form.octaves, form.amplitude, form.permutation, form.gradient)


def _rotation_matrix(rotation: tuple[float, float, float, float]) -> np.ndarray:
    w, x, y, z = rotation
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@njit(cache=True)
def _radial_function(
    directions: np.ndarray, octaves: int, amplitude: float, permutation: np.ndarray, gradient: np.ndarray
) -> np.ndarray:
    total = 2.0 - 2.0 ** (1 - octaves)  # 1 + 1/2 + ... : the sum of all octaves' amplitudes
    rho = np.empty(len(directions))
    for i in range(len(directions)):
        frequency, noise = 1.0, 0.0
        for _ in range(octaves):
            a, b, c = directions[i, 0] * frequency, directions[i, 1] * frequency, directions[i, 2] * frequency
            noise += simplex3(a, b, c, permutation, gradient) / frequency
            frequency *= 2.0
        rho[i] = 1.0 + amplitude * noise / total
    return rho


def _mean_cube(octaves: int, amplitude: float, permutation: np.ndarray, gradient: np.ndarray) -> float:
    """Return the mean of rho**3 over the sphere, by midpoints on the faces of a cube (no sine or cosine)."""
    rho = _radial_function(_CUBE_DIRECTIONS, octaves, amplitude, permutation, gradient)
    return math.fsum(_CUBE_WEIGHTS * (rho * rho * rho))


def _cube_sphere() -> tuple[np.ndarray, np.ndarray]:
    middle = (np.arange(_CUBE_SIDE) + 0.5) * (2.0 / _CUBE_SIDE) - 1.0
    u, v = (grid.ravel() for grid in np.meshgrid(middle, middle, indexing="ij"))
    w = np.ones_like(u)
    faces = [np.roll(np.array([sign * w, u, v]), axis, axis=0).T for axis in range(3) for sign in (1.0, -1.0)]
    points = np.concatenate(faces)
    length = np.sqrt((points**2).sum(axis=1))
    weights = 1.0 / (length * length * length)  # solid angle of a cell of the face
    return points / length[:, None], weights / weights.sum()


_CUBE_DIRECTIONS, _CUBE_WEIGHTS = _cube_sphere()


@njit(cache=True)
def _rasterise(
    inverse: np.ndarray,
    spacing: np.ndarray,
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
    displacement: np.ndarray,
    octaves: int,
    amplitude: float,
    permutation: np.ndarray,
    gradient: np.ndarray,
) -> np.ndarray:
    warped = displacement.size > 0
    total = 2.0 - 2.0 ** (1 - octaves)
    mask = np.zeros(shape, np.uint8)
    for k in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            for i in range(mask.shape[2]):
                z, y, x = (start[0] + k) * spacing[0], (start[1] + j) * spacing[1], (start[2] + i) * spacing[2]
                if warped:
                    z += displacement[0, k, j, i]
                    y += displacement[1, k, j, i]
                    x += displacement[2, k, j, i]
                a = inverse[0, 0] * z + inverse[0, 1] * y + inverse[0, 2] * x
                b = inverse[1, 0] * z + inverse[1, 1] * y + inverse[1, 2] * x
                c = inverse[2, 0] * z + inverse[2, 1] * y + inverse[2, 2] * x
                distance = math.sqrt(a * a + b * b + c * c)
                if distance <= 1.0 - amplitude:
                    mask[k, j, i] = 1
                    continue
                if distance > 1.0 + amplitude:
                    continue
                a, b, c = a / distance, b / distance, c / distance
                frequency, noise, left = 1.0, 0.0, total
                for _ in range(octaves):
                    noise += simplex3(a * frequency, b * frequency, c * frequency, permutation, gradient) / frequency
                    left -= 1.0 / frequency
                    frequency *= 2.0
                    rho = 1.0 + amplitude * noise / total
                    if abs(distance - rho) > amplitude * left / total + _SURE:
                        break
                if distance <= rho:
                    mask[k, j, i] = 1
    return mask
