"""Place: where a form sits in the normal, and what the ROI leaves of it.

Or a real tumour, cut from an annotated scan by its mask, to be laid over normals as it is (Table V).
"""

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scans.catalog.synthesis import Elastic, Synthesis
from scans.image.box import Box, clip, tight_box, within
from synth.tumour.philox import Stream
from synth.tumour.recipe import Recipe
from synth.tumour.sample import Voxels
from synth.tumour.shape import Form, half_box, make_form, rasterise
from synth.tumour.texture import control_displacements, displacement_field, warp

if TYPE_CHECKING:
    from synth.tumour.source import Source


_STILL = Elastic(enabled=False)
_MOST_REACH = 2  # sides of the cube from the centre: no centre keeps enough of a larger form, and it takes memory
_MOST_CUTS = 256  # that a process keeps: a tumour of 100 ml at 128 voxels is 0.1 MB, and a third of a second to cut


@dataclass(frozen=True)
class VoxelForm:
    """A form cut into the voxels of one grid, before the ROI takes its part.

    Attributes
    ----------
    form : Form or None
        None: a real tumour, which is nothing but its voxels.
    voxels : ndarray of uint8, shape (z, y, x)
        No face of this box is empty.
    start : tuple of int
        Its first voxel (z, y, x), counted from the form's centre voxel.
    count : int
        Voxels inside the form.
    """

    form: Form | None
    voxels: np.ndarray
    start: tuple[int, int, int]
    count: int


def cut(form: Form, spacing_mm: tuple[float, float, float]) -> VoxelForm:
    """Cut a form into voxels with sides (z, y, x) of `spacing_mm`."""
    half = half_box(form, spacing_mm)
    start = (-half[0], -half[1], -half[2])
    voxels = rasterise(form, spacing_mm, start, (2 * half[0] + 1, 2 * half[1] + 1, 2 * half[2] + 1))
    # The box above is safe, not tight; what follows costs by the voxel, so it works on a tight one.
    z, y, x = tight_box(voxels)
    tight = np.ascontiguousarray(voxels[z, y, x])
    return VoxelForm(form, tight, (start[0] + z.start, start[1] + y.start, start[2] + x.start), count_of(tight))


def count_of(voxels: np.ndarray) -> int:
    """Count the ones of a mask of uint8."""
    return int(np.count_nonzero(voxels.view(bool)))


class Placement:
    """A form cut into voxels once, to be tried at many centres of one normal.

    Parameters
    ----------
    whole : VoxelForm
        For voxels of `spacing_mm`.
    roi : ndarray of bool, shape (z, y, x)
        Where a tumour may be visible.
    spacing_mm : tuple of float
        Voxel sides (z, y, x).
    elastic : Elastic, optional
        With ``mask`` set, the mask is warped as the donor is; it then depends on where it is placed.
    elastic_seed : int
    """

    def __init__(
        self,
        whole: VoxelForm,
        roi: np.ndarray,
        spacing_mm: tuple[float, float, float],
        elastic: Elastic = _STILL,
        elastic_seed: int = 0,
    ) -> None:
        self._whole, self._roi, self._spacing_mm = whole, roi, spacing_mm
        self._control = elastic_control(elastic, elastic_seed) if elastic.enabled and elastic.mask else None
        self._reach = [math.ceil(elastic.max_displacement_mm / side) for side in spacing_mm]

    @property
    def volume_mm3(self) -> float:
        """Volume of the form's voxels."""
        return self._whole.count * math.prod(self._spacing_mm)

    def find(
        self, places: Stream, centres: Voxels, tries: int, least_kept: float
    ) -> tuple[int, tuple[tuple[int, int, int], float] | None]:
        """Draw centres until the ROI leaves enough of the form there.

        Parameters
        ----------
        places : Stream
        centres : Voxels
            Those to draw from, all as likely.
        tries : int
            Of centres at the most; none of an empty form.
        least_kept : float
            Share of the form's voxels.

        Returns
        -------
        int
            Centres tried.
        tuple of (tuple of int, float), or None
            The centre (z, y, x) and the share kept there; None if no centre left enough.
        """
        for tried in range(1, tries + 1 if self._whole.count else 1):
            centre = centres[places.below(len(centres))]
            kept = self.kept_at(centre)
            if kept >= least_kept:
                return tried, (centre, kept)
        return tries if self._whole.count else 0, None

    def kept_at(self, centre: tuple[int, int, int]) -> float:
        """Return which share of the form's voxels the ROI leaves at a centre voxel (z, y, x)."""
        box, voxels = self.voxels_at(centre)
        return int(np.count_nonzero(voxels.view(bool) & self._roi[box])) / self._whole.count

    def voxels_at(self, centre: tuple[int, int, int]) -> tuple[Box, np.ndarray]:
        """Put the form at a centre voxel, whatever the ROI.

        Parameters
        ----------
        centre : tuple of int
            Centre voxel (z, y, x).

        Returns
        -------
        box : tuple of slice
            Part of the cube that holds the whole form.
        voxels : ndarray of uint8, shape of `box`
        """
        size, whole = self._roi.shape[0], self._whole
        tight = [slice(c + s, c + s + n) for c, s, n in zip(centre, whole.start, whole.voxels.shape, strict=True)]
        if self._control is None:
            box = clip((tight[0], tight[1], tight[2]), [0, 0, 0], size)
            voxels = whole.voxels[within(box, tight)]
        else:
            box = clip((tight[0], tight[1], tight[2]), self._reach, size)
            start = tuple(part.start - middle for part, middle in zip(box, centre, strict=True))
            field = displacement_field(self._control, size, box)
            assert whole.form is not None  # real tumours are not warped
            voxels = rasterise(whole.form, self._spacing_mm, start, field.shape[1:], field)
        return box, voxels


def of(recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis) -> Placement | None:
    """Return what a recipe puts into its normal: the form that it draws, or the tumour that its donor lends.

    The cubes of a normal and a donor hold the same organ, so a real tumour is put there voxel for voxel: it keeps its
    size beside the organ's, as a donor's texture does.

    Parameters
    ----------
    recipe : Recipe
        Its centre is not read.
    normal, donor : Source
        The sources it names.
    settings : Synthesis
        The settings it was drawn with.

    Returns
    -------
    Placement or None
        None for a form that no centre could keep enough of; it is not cut into voxels.
    """
    if donor.lends_tumour:
        real = cut_out(donor)
        lent = VoxelForm(None, real.voxels, real.start, count_of(real.voxels))
        return Placement(lent, normal.roi, normal.spacing_mm)
    whole = _cut(
        recipe.volume_mm3, recipe.axis_ratio, recipe.rotation, recipe.octaves, settings.shape.amplitude,
        recipe.noise_seed, normal.spacing_mm, _MOST_REACH * normal.roi.shape[0],
    )  # fmt: skip
    if whole is None:
        return None
    return Placement(whole, normal.roi, normal.spacing_mm, settings.elastic, recipe.elastic_seed)


@functools.lru_cache(maxsize=2)  # who draws a recipe makes its layer next, and the form is a quarter of that work
def _cut(
    volume_mm3: float, axis_ratio: float, rotation: tuple[float, float, float, float], octaves: int, amplitude: float,
    noise_seed: int, spacing_mm: tuple[float, float, float], most: int,
) -> VoxelForm | None:  # fmt: skip
    """Cut a form into voxels; None if it reaches further than `most` of them."""
    form = make_form(volume_mm3, axis_ratio, rotation, octaves, amplitude, noise_seed)
    if not all(extent / side <= most for extent, side in zip(form.half_extent_mm, spacing_mm, strict=True)):
        return None  # a stranger's recipe may also give what is no number
    whole = cut(form, spacing_mm)
    whole.voxels.flags.writeable = False
    return whole


def elastic_control(elastic: Elastic, seed: int) -> np.ndarray:
    """Return the displacements in mm of the control points, float64, shape (3, n, n, n)."""
    n = elastic.control_points
    units = Stream(seed, 0).units(3 * n**3)
    return control_displacements(units, n, elastic.max_displacement_mm, elastic.locked_borders)


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
