"""Real tumours: cut from annotated scans by their masks, to be laid over normals as they are (Table V)."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scans.catalog.synthesis import Elastic
from scans.image.box import Box, tight_box
from synth.tumour.placement import Placement, VoxelForm
from synth.tumour.texture import warp

if TYPE_CHECKING:
    from synth.tumour.source import Source


_MOST_CUTS = 256  # that a process keeps: a tumour of 100 ml at 128 voxels is 0.1 MB, and a third of a second to cut


@dataclass(frozen=True, eq=False)
class Real:
    """A tumour with its place in the scan that it was cut from.

    Attributes
    ----------
    whole : VoxelForm
        Its voxels around its centre.
    centre : tuple of int
        Voxel (z, y, x) of the scan's cube: the mean of its voxels, rounded.
    """

    whole: VoxelForm
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
    return Real(VoxelForm(None, voxels, start, count), (z, y, x))


def stamp_of(donor: "Source", normal: "Source") -> Placement:
    """Return a donor's tumour, to be tried at centres of a normal, voxel for voxel.

    The two cubes hold the same organ, so a tumour keeps its size beside the organ's, as a donor's texture does.
    """
    return Placement(cut_out(donor).whole, normal.roi, normal.spacing_mm, Elastic(enabled=False), 0)


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
