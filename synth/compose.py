"""Compose: blend a tumour layer into a normal scan (Eq. 5)."""

import math
from typing import TYPE_CHECKING

import numpy as np

from scans.region import Synthesis
from synth.place import Stamp, clip, elastic_control
from synth.recipe import Recipe
from synth.sample import Box, Sample, Tumour
from synth.shape import make_form
from synth.texture import blur_radius, displacement_field, gaussian_blur, linear_transform, warp

if TYPE_CHECKING:
    from synth.sources import Source


def make_sample(recipe: Recipe, normal: "Source", donor: "Source", settings: Synthesis) -> Sample:
    """Make the sample that a recipe describes.

    Parameters
    ----------
    recipe : Recipe
    normal, donor : Source
        The sources it names.
    settings : Synthesis
        The settings it was drawn with.

    Returns
    -------
    Sample
        Every number is exact in float16, so that Eq. 5 holds on what is stored.
    """
    tumour = make_tumour(recipe, normal, donor, settings)
    layer = normal.normal.astype(np.float32)
    composite, texture, mask = layer.copy(), np.zeros_like(layer), np.zeros(layer.shape, np.uint8)
    composite[tumour.box], texture[tumour.box], mask[tumour.box] = tumour.composite, tumour.texture, tumour.mask
    return Sample(composite, layer, texture, mask, tumour.alpha)


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
    stamp = Stamp(form, normal.roi, normal.spacing_mm, settings.elastic, recipe.elastic_seed)
    tight, shape, _ = stamp.place(recipe.centre)
    alpha = np.float32(recipe.alpha)

    # The blend may reach further than the mask, by the width of its soft edge.
    reach = [blur_radius(settings.mask.soft_mm / side) for side in normal.spacing_mm]
    box = clip(tight, reach, normal.roi.shape[0])
    mask = np.zeros([part.stop - part.start for part in box], np.uint8)
    mask[tuple(slice(t.start - b.start, t.stop - b.start) for t, b in zip(tight, box, strict=True))] = shape
    weight = mask.astype(np.float32)
    if settings.mask.soft_mm:
        soft = (settings.mask.soft_mm / side for side in normal.spacing_mm)
        weight = gaussian_blur(weight, tuple(soft)) * normal.roi[box]  # type: ignore[arg-type]

    tau = normal.to_network(make_texture(recipe, normal, donor, settings, box, mask))
    composite = blend(normal.normal[box].astype(np.float32), tau, alpha * weight)
    target = tau if settings.texture_target == "texture" else composite
    return Tumour(box, composite.astype(np.float16), (target * mask).astype(np.float16), mask, float(alpha))


def blend(normal: np.ndarray, texture: np.ndarray, weight: np.ndarray | np.float32) -> np.ndarray:
    """Blend two layers: ``(1 - w) normal + w texture`` with ``w = alpha * mask`` (Eq. 5).

    Computed in float32 as ``normal + w * (texture - normal)``, one rounding per operation, then rounded to
    float16: the one arithmetic whose bits a corpus promises.

    Parameters
    ----------
    normal, texture : ndarray of float32
        Exact in float16.
    weight : float32, or ndarray of float32

    Returns
    -------
    ndarray of float32
        Exact in float16; equal to `normal` where `weight` is 0.
    """
    return (normal + weight * (texture - normal)).astype(np.float16).astype(np.float32)


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
    field = None
    if settings.elastic.enabled:
        field = displacement_field(elastic_control(settings.elastic, recipe.elastic_seed), size, wide)
    lent = donor.lent if settings.donor.outside == "mirror" else np.where(donor.foreground, donor.lent, np.float32(0))
    texture = warp(lent, wide, normal.spacing_mm, recipe.shift, field)
    texture = gaussian_blur(texture, (sigma[0], sigma[1], sigma[2]))
    z, y, x = (slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, wide, strict=True))
    texture = texture[z, y, x]
    if not settings.linear.enabled:
        return texture
    if settings.linear.reference == "mask":
        inside = texture[mask.astype(bool)].tolist()
        mean = math.fsum(inside) / len(inside)  # exact, so that no library's order of summation matters
        return linear_transform(texture, recipe.ratio, normal.mean, mean) if mean else texture
    return linear_transform(texture, recipe.ratio, normal.mean, donor.mean)
