"""Normalisation: from raw intensities to the network's units. Needs NumPy alone."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_DIGITS = 9  # of a statistic: sums differ in the last bits between machines


@dataclass(frozen=True)
class Statistics:
    """Normalisation of a scan: inside the ROI ``(clip(intensity, low, high) - mean) / std``, 0 outside.

    Attributes
    ----------
    mean, std : float
    low, high : float or None
        None: no clipping.
    """

    mean: float
    std: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the four numbers by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Statistics":
        """Return the statistics that `to_json` wrote."""
        return cls(**content)

    @classmethod
    def of(cls, values: np.ndarray, low: float | None = None, high: float | None = None) -> "Statistics":
        """Return the statistics of intensities (any shape), clipped to [low, high] first."""
        clipped = np.clip(values.astype(np.float64), low, high)
        return cls(rounded(clipped.mean()), rounded(clipped.std()), low, high)


def scale(intensity: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Bring raw intensities to the network's units, wherever they lie.

    Parameters
    ----------
    intensity : ndarray of float32
    statistics : Statistics

    Returns
    -------
    ndarray of float32, same shape
    """
    if statistics.low is not None or statistics.high is not None:
        intensity = np.clip(intensity, statistics.low, statistics.high)
    scaled = intensity - np.float32(statistics.mean)
    scaled /= np.float32(statistics.std)
    return scaled.astype(np.float32, copy=False)


def unscale(values: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Bring the network's units back to raw intensities; the inverse of `scale` within the clipping.

    Parameters
    ----------
    values : ndarray of float32
    statistics : Statistics

    Returns
    -------
    ndarray of float32, same shape
    """
    return (values * np.float32(statistics.std) + np.float32(statistics.mean)).astype(np.float32, copy=False)


def normalise(intensity: np.ndarray, roi: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Bring a prepared scan to the network's units.

    Parameters
    ----------
    intensity : ndarray of float32
    roi : ndarray of bool, same shape
    statistics : Statistics

    Returns
    -------
    ndarray of float32, same shape
        0 outside the ROI.
    """
    return np.where(roi, scale(intensity, statistics), np.float32(0))


def rounded(number: float) -> float:
    """Return a statistic as it is kept, the same on every machine."""
    return float(f"{number:.{_DIGITS}g}")
