"""Compose: blend a tumour layer into a normal scan (Eq. 5)."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from scans.region import Synthesis
from synth.place import Stamp, clip, cut, elastic_control, within
from synth.recipe import Recipe
from synth.sample import Box, Sample, Tumour
from synth.shape import make_form
from synth.texture import blur_radius, gaussian_blur, linear_transform, warp

if TYPE_CHECKING:
    from synth.sources import Source


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
    return paste(normal, make_tumour(recipe, normal, donor, settings), out)


def paste(normal: "Source", tumour: Tumour, out: Sample | None = None) -> Sample:
    """Lay a tumour over its normal; `out` as of `make_sample`."""
    if out is None:
        shape = normal.roi.shape
        composite, layer, texture = (np.empty(shape, np.float32) for _ in range(3))
        out = Sample(composite, layer, texture, np.empty(shape, np.uint8), 0.0)
    out.normal[:] = out.composite[:] = normal.layer
    out.texture.fill(0)
    out.mask.fill(0)
    out.composite[tumour.box], out.texture[tumour.box] = tumour.composite, tumour.texture
    out.mask[tumour.box] = tumour.mask
    return replace(out, alpha=tumour.alpha)


def make_tumour(recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis) -> Tumour:
    """Make the part of a sample that differs from its normal; parameters as of `make_sample`.

    Returns
    -------
    Tumour
        Its box holds the mask and, with ``mask.soft_mm``, the soft edge around it.
    """
    form = make_form(
        recipe.volume_mm3, recipe.axis_ratio, recipe.rotation, recipe.octaves, settings.shape.amplitude,
        recipe.noise_seed,
    )  # fmt: skip
    stamp = Stamp(cut(form, normal.spacing_mm), normal.roi, normal.spacing_mm, settings.elastic, recipe.elastic_seed)
    box, mask, _ = stamp.place(recipe.centre)
    weight = mask
    if settings.mask.soft_mm:
        box, mask, weight = _soften(box, mask, settings.mask.soft_mm, normal)

    tau = make_texture(recipe, normal, donor, settings, box, mask)
    composite, texture = normal.normal[box].copy(), np.zeros(mask.shape, np.float16)
    touched = np.flatnonzero(weight != 0)  # all below is for the tumour's voxels alone, a third of its box
    layer = normal.to_network(tau.ravel()[touched])
    alpha = np.float32(recipe.alpha)
    blended = blend(composite.ravel()[touched], layer, alpha * weight.ravel()[touched])
    target = layer if settings.texture_target == "texture" else blended
    composite.ravel()[touched] = blended
    texture.ravel()[touched] = np.where(mask.ravel()[touched], target, np.float16(0))
    return Tumour(box, composite, texture, mask, float(alpha))


def _soften(box: Box, mask: np.ndarray, soft_mm: float, normal: "Source") -> tuple[Box, np.ndarray, np.ndarray]:
    """Blur a mask's edge for the blend: the wider box, the mask in it, and its soft twin, 0 outside the ROI."""
    sigma_vox = [soft_mm / side for side in normal.spacing_mm]
    wide = clip(box, [blur_radius(sigma) for sigma in sigma_vox], normal.roi.shape[0])
    binary = np.zeros([part.stop - part.start for part in wide], np.uint8)
    binary[within(box, wide)] = mask
    soft = gaussian_blur(binary.astype(np.float32), (sigma_vox[0], sigma_vox[1], sigma_vox[2])) * normal.roi[wide]
    return wide, binary, soft


def blend(normal: np.ndarray, texture: np.ndarray, weight: np.ndarray | np.float32) -> np.ndarray:
    """Blend two layers: ``(1 - w) normal + w texture`` with ``w = alpha * mask`` (Eq. 5).

    Computed in float32 as ``normal + w * (texture - normal)``, one rounding per operation, then rounded to
    float16: the one arithmetic whose bits a corpus promises.

    Parameters
    ----------
    normal, texture : ndarray of float16
    weight : float32, or ndarray of float32

    Returns
    -------
    ndarray of float16
        Equal to `normal` where `weight` is 0.
    """
    below = normal.astype(np.float32)
    return (below + weight * (texture.astype(np.float32) - below)).astype(np.float16)


def make_texture(
    recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis, box: Box, mask: np.ndarray
) -> np.ndarray:
    """Make tau(donor) over a box: elastic deformation, blur, linear transform.

    Parameters
    ----------
    recipe : Recipe
    normal, donor : Source
    settings : Synthesis
    box : tuple of slice
        Part of the normal's cube (z, y, x).
    mask : ndarray of uint8, shape of `box`
        The tumour; read only with ``linear.reference=mask``.

    Returns
    -------
    ndarray of float32, shape of `box`
        Raw intensities of the normal's scale.
    """
    sigma = [recipe.sigma_mm / side for side in normal.spacing_mm] if settings.blur.enabled else [0.0, 0.0, 0.0]
    size = normal.roi.shape[0]
    wide = clip(box, [blur_radius(s) for s in sigma], size)
    control_vox = None
    if settings.elastic.enabled:
        control_mm = elastic_control(settings.elastic, recipe.elastic_seed)
        control_vox = control_mm / np.reshape(normal.spacing_mm, (3, 1, 1, 1))
    lent = donor.lent if settings.donor.outside == "mirror" else np.where(donor.foreground, donor.lent, np.float32(0))
    texture = warp(lent, wide, recipe.shift, control_vox)
    texture = gaussian_blur(texture, (sigma[0], sigma[1], sigma[2]), within(box, wide))
    if not settings.linear.enabled:
        return texture
    if settings.linear.reference == "mask":
        inside = texture[mask.astype(bool)].tolist()
        mean = math.fsum(inside) / len(inside)  # exact, so that no library's order of summation matters
        return linear_transform(texture, recipe.ratio, normal.mean, mean) if mean else texture
    return linear_transform(texture, recipe.ratio, normal.mean, donor.mean)
