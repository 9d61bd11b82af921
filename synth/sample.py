"""A sample: the tuple (composite, normal, texture, mask, alpha), and the tumour that tells it from its normal."""

from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice, slice]  # part of the cube (z, y, x), half open, within it


@dataclass(frozen=True)
class Tumour:
    """All that tells a sample from its normal: what lies in a box around the tumour, in the network's units.

    Attributes
    ----------
    box : tuple of slice
        Where (z, y, x).
    composite, texture : ndarray of float16, shape of `box`
    mask : ndarray of uint8, shape of `box`
    alpha : float
        Exact in float32.
    """

    box: Box
    composite: np.ndarray
    texture: np.ndarray
    mask: np.ndarray
    alpha: float


@dataclass(frozen=True)
class Sample:
    """One artificial tumour in a normal scan, in the network's units.

    Attributes
    ----------
    composite, normal, texture : ndarray of float32, shape (z, y, x)
        What the network sees, and the two layers it must find. ``texture`` is 0 outside the mask.
    mask : ndarray of uint8, shape (z, y, x)
        1 inside the tumour.
    alpha : float
        Blending strength in [0, 1]. Inside the mask ``composite = normal + alpha * (texture - normal)``
        (Eq. 5) rounded to float16; outside it equals ``normal`` exactly.
    """

    composite: np.ndarray
    normal: np.ndarray
    texture: np.ndarray
    mask: np.ndarray
    alpha: float
