"""A sample: the tuple (composite, normal, texture, mask, alpha)."""

from dataclasses import dataclass

import numpy as np


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
