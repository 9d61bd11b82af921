"""Real tumours: cut from annotated scans by their masks, to be laid over normals as they are (Table V)."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scans.image.box import Box, tight_box
from synth.tumour.texture import warp

if TYPE_CHECKING:
    from synth.tumour.source import Source


_MOST_CUTS = 256  # that a process keeps: a tumour of 100 ml at 128 voxels is 0.1 MB, and a third of a second to cut


@dataclass(frozen=True, eq=False)
class Real:
    """A tumour with its place in the scan that it was cut from.

    Attributes
    ----------
    voxels : ndarray of uint8, shape (z, y, x)
        In the smallest box that holds it.
    start : tuple of int
        First voxel of that box (z, y, x), counted from the centre.
    centre : tuple of int
        Voxel (z, y, x) of the scan's cube: the mean of its voxels, rounded.
    """

    voxels: np.ndarray
    start: tuple[int, int, int]
    centre: tuple[int, int, int]


@functools.lru_cache(maxsize=_MOST_CUTS)
def cut_out(donor: "Source") -> Real:
    """Cut the tumour out of a source that lends one."""
    tumour = donor.foreground & ~donor.roi
    places = np.nonzero(tumour)
    count = len(places[0])
    z, y, x = ((2 * int(axis.sum()) + count) // (2 * count) for axis in places)  # whole numbers: the same everywhere
    box = tight_box(tumour)
    voxels = np.ascontiguousarray(tumour[box]).astype(np.uint8)
    voxels.flags.writeable = False  # shared by all who ask
    start = (box[0].start - z, box[1].start - y, box[2].start - x)
    return Real(voxels, start, (z, y, x))


def tissue_of(donor: "Source", box: Box, centre: tuple[int, int, int]) -> np.ndarray:
    """Return the donor's tissue over a box, its tumour's centre moved to a voxel of the normal.

    Parameters
    ----------
    donor : Source
    box : tuple of slice
        Of the normal's cube (z, y, x).
    centre : tuple of int

    Returns
    -------
    ndarray of float16, shape of `box`
        In the network's units by the donor's own statistics: its contrast to its own healthy tissue is kept, which is
        all that two scans without a common scale have in common. Past the donor's organ goes on what it would lend.
    """
    z, y, x = (own - new for own, new in zip(cut_out(donor).centre, centre, strict=True))
    raw = np.where(donor.foreground, donor.intensity, donor.lent)
    return donor.to_network(warp(raw, box, (z, y, x), None))
