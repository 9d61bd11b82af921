"""Compose: from a recipe to a tumour, and to the sample that it makes of its normal (Eqs. 3 and 5)."""

import math
from typing import TYPE_CHECKING

import numpy as np

from scans.catalog.synthesis import Synthesis
from scans.image.box import Box, clip, from_within, sides_of, tight_box, within
from synth.tumour import placement
from synth.tumour.blend import FULL, INSIDE, lay, paste
from synth.tumour.blur import Blur, blur_radius, gaussian_blur, rows_of
from synth.tumour.placement import elastic_control, tissue_of
from synth.tumour.recipe import Recipe
from synth.tumour.sample import Layer, Sample, Tumour, empty_sample
from synth.tumour.texture import linear_transform, warp

if TYPE_CHECKING:
    from synth.tumour.source import Source


def make_sample(
    recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis, out: Sample | None = None
) -> Sample:
    """Make the sample that a recipe describes.

    Parameters
    ----------
    recipe : Recipe
    normal, donor : Source
        The sources it names.
    settings : Synthesis
        The settings it was drawn with.
    out : Sample, optional
        An earlier sample of this size, whose arrays are written over: fresh memory costs more than the sample.

    Returns
    -------
    Sample
        Every number is exact in float16, so that Eq. 5 holds on what is stored.
    """
    if out is None:
        out = empty_sample(normal.roi.shape[0])
    return paste(normal.normal.voxels, make_tumour(recipe, normal, donor, settings), out)


def make_tumour(recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis) -> Tumour:
    """Make the part of a sample that differs from its normal; parameters as of `make_layer`."""
    layer = make_layer(recipe, normal, donor, settings)
    return lay(layer, normal.normal, recipe.alpha, settings.texture_target)


def make_layer(recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis) -> Layer:
    """Make a tumour's form and tissue, before the normal's ROI cuts them; parameters as of `make_sample`.

    Returns
    -------
    Layer
        Its box is the smallest that holds the form and, with ``mask.soft_mm``, the soft edge around it.
    """
    placed = placement.of(recipe, normal, donor, settings)
    assert placed is not None  # no recipe is drawn with a larger form
    box, voxels = placed.voxels_at(recipe.centre)
    weight = voxels
    if settings.mask.soft_mm:
        box, voxels, weight = _soften(box, voxels, settings.mask.soft_mm, normal)
    tight = tight_box(weight)
    if weight[tight].shape != weight.shape:
        voxels, weight = voxels[tight], weight[tight]
        box = from_within(tight, box)

    touched = weight != 0
    edge = weight[touched] if settings.mask.soft_mm else None
    if donor.lends_tumour:
        return Layer(box, touched, tissue_of(donor, box, recipe.centre)[touched], edge)
    tau = make_texture(recipe, normal, donor, settings, box, touched, voxels * normal.roi[box])
    return Layer(box, touched, normal.to_network(tau), edge)


def _soften(box: Box, mask: np.ndarray, soft_mm: float, normal: "Source") -> tuple[Box, np.ndarray, np.ndarray]:
    """Blur a mask's edge for the blend: the wider box, the mask in it, and its edge as a layer keeps it."""
    sigma_vox = [soft_mm / side for side in normal.spacing_mm]
    wide = clip(box, [blur_radius(sigma) for sigma in sigma_vox], normal.roi.shape[0])
    binary = np.zeros(sides_of(wide), np.uint8)
    binary[within(box, wide)] = mask
    soft = gaussian_blur(binary.astype(np.float32), (sigma_vox[0], sigma_vox[1], sigma_vox[2]))
    edge = np.rint(np.clip(soft, 0, 1) * FULL).astype(np.uint8) + INSIDE * binary
    return wide, binary, edge


def make_texture(
    recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis, box: Box, form: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Make tau(donor) at a form's voxels: elastic deformation, blur, linear transform.

    Parameters
    ----------
    recipe : Recipe
    normal, donor : Source
    settings : Synthesis
    box : tuple of slice
        Part of the normal's cube (z, y, x).
    form : ndarray of bool, shape of `box`
        The n voxels that the tumour, or its soft edge, can touch.
    mask : ndarray of uint8, shape of `box`
        The tumour, within the form; read only with ``linear.reference=mask``.

    Returns
    -------
    ndarray of float32, shape (n,)
        Raw intensities of the normal's scale, in C order.
    """
    z, y, x = (recipe.sigma_mm / side if settings.blur.enabled else 0.0 for side in normal.spacing_mm)
    blur = Blur((z, y, x), box, normal.roi.shape[0], rows_of(form))
    control_vox = None
    if settings.elastic.enabled:
        control_mm = elastic_control(settings.elastic, recipe.elastic_seed)
        control_vox = control_mm / np.reshape(normal.spacing_mm, (3, 1, 1, 1))
    lent = donor.lent if settings.donor.outside == "mirror" else np.where(donor.foreground, donor.lent, np.float32(0))
    whole = blur(warp(lent, blur.wide, recipe.shift, control_vox, blur.rows))
    texture = whole[form]
    if not settings.linear.enabled:
        return texture
    if settings.linear.reference == "mask":
        inside = whole[mask.astype(bool)].tolist()
        mean = math.fsum(inside) / len(inside)  # exact, so that no library's order of summation matters
        return linear_transform(texture, recipe.ratio, normal.mean, mean) if mean else texture
    return linear_transform(texture, recipe.ratio, normal.mean, donor.mean)
