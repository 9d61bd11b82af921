"""Blend: lay a tumour over a normal scan (Eq. 5). Needs NumPy alone: the corpus reader composes with it too."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from synth.tumour.sample import Layer, Normal, Sample, Tumour

# Arrays of one number: a plain number costs each call of NumPy as much as 8,000 values do.
SIGN_AND_NUMBER = np.array(0x8FFFE000 - 2**32, np.int32)
_SHIFT = np.array(13, np.int32)
UNIT = np.array(2.0**112, np.float32)
# The bits of a number without its sign; the least and the most that become normal float16; to a half's exponent, and
# what rounds the 13 bits that fall away, up to a tie.
_NUMBER, _LEAST, _MOST = np.array(0x7FFFFFFF, np.int32), 0x38800000, 0x477FF000
_TO_HALF = np.array(0xFFF - (112 << 23), np.int32)
_ONE, _TOP, _SIGN = np.array(1, np.int32), np.array(16, np.int32), np.array(-0x8000, np.int32)
_PART, _STEPS = 2**17, 2**15  # values: of a scan that is copied, and of a tumour that many steps go over
INSIDE, FULL = 128, 127  # in a layer's edge: the bit of the mask, and the value of a weight of 1


def blend(normal: np.ndarray, texture: np.ndarray, weight: np.ndarray | np.float32) -> np.ndarray:
    """Blend two layers: ``(1 - w) normal + w texture`` with ``w = alpha * mask`` (Eq. 5).

    Computed in float32 as ``normal + w * (texture - normal)``, one rounding per operation, then rounded to
    float16: the one arithmetic whose bits a corpus promises.

    Parameters
    ----------
    normal, texture : ndarray of float16
        Finite.
    weight : float32, or ndarray of float32

    Returns
    -------
    ndarray of float16
        Equal to `normal` where `weight` is 0.
    """
    blended: np.ndarray = np.empty(normal.shape, np.float16)
    lower, upper, flat = normal.reshape(-1), texture.reshape(-1), blended.reshape(-1)
    weights = np.broadcast_to(weight, normal.shape).reshape(-1) if np.ndim(weight) else None
    numbers = np.empty((2, min(flat.size, _STEPS)), np.float32)
    scratch = np.empty(numbers.shape, np.int32)
    for part in _parts(flat.size, _STEPS):
        below, mixed = numbers[:, : len(flat[part])]
        write(lower[part], below)
        write(upper[part], mixed)
        mixed -= below
        mixed *= weight if weights is None else weights[part]
        mixed += below
        _round(mixed, flat[part], scratch)
    return blended


def lay(layer: Layer, normal: Normal, alpha: float, target: str = "texture") -> Tumour:
    """Lay a tumour over a normal: what the ROI leaves of it, blended.

    Parameters
    ----------
    layer : Layer
    normal : Normal
    alpha : float
    target : {"texture", "composite"}
        What the tumour's texture is: its own, or the composite inside the mask (``texture_target``).

    Returns
    -------
    Tumour
        In the layer's box.
    """
    composite = normal.voxels[layer.box].copy()
    visible, blended, own, inside = _seen(layer, normal.roi, composite, alpha, target)
    composite[visible] = blended
    texture, mask = np.zeros(visible.shape, np.float16), visible.view(np.uint8)
    texture[visible] = own
    if inside is not None:
        mask = np.zeros(visible.shape, np.uint8)
        mask[visible] = inside
    return Tumour(layer.box, composite, texture, mask, float(np.float32(alpha)))


def lay_over(layer: Layer, normal: Normal, alpha: float, target: str, out: Sample) -> None:
    """Lay a tumour over a sample that is its normal so far, see `write_normal`: what `lay` returns, pasted.

    Parameters
    ----------
    layer, normal, alpha, target
        As of `lay`.
    out : Sample
        Written where the tumour is seen, and nowhere else.
    """
    below = np.ascontiguousarray(normal.voxels[layer.box])
    visible, blended, own, inside = _seen(layer, normal.roi, below, alpha, target)
    is_wide = out.texture.dtype != np.float16
    out.composite[layer.box][visible] = widen(blended) if is_wide else blended
    out.texture[layer.box][visible] = widen(own) if is_wide else own
    if inside is None:
        out.mask[layer.box] = visible
    else:
        out.mask[layer.box][visible] = inside


def _seen(
    layer: Layer, roi: np.ndarray, below: np.ndarray, alpha: float, target: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return what a ROI leaves of a layer over the voxels of its box, which are contiguous: they are found faster.

    First where it is, bool, shape of the box; then of each such voxel the composite, the texture and, where the edge is
    soft, whether the mask is 1.
    """
    visible = layer.form & roi[layer.box]
    tissue, edge, strength = layer.tissue, layer.edge, np.float32(alpha)
    if np.count_nonzero(visible) < len(tissue):
        kept = visible[layer.form]
        tissue, edge = tissue[kept], None if edge is None else edge[kept]
    if edge is None:
        blended = blend(below[visible], tissue, strength)
        return visible, blended, tissue if target == "texture" else blended, None
    weight = strength * ((edge & FULL).astype(np.float32) / np.float32(FULL))
    blended, inside = blend(below[visible], tissue, weight), edge >= INSIDE
    return visible, blended, np.where(inside, tissue if target == "texture" else blended, np.float16(0)), inside


def paste(normal: np.ndarray, tumour: Tumour, out: Sample) -> Sample:
    """Write a whole sample: a tumour over its normal.

    Parameters
    ----------
    normal : ndarray of float16 or float32, shape (z, y, x)
    tumour : Tumour
    out : Sample
        Its arrays are written over: fresh memory costs more than the sample.

    Returns
    -------
    Sample
        Of `out`'s arrays.
    """
    write_normal(normal, out)
    write(tumour.composite, out.composite[tumour.box])
    write(tumour.texture, out.texture[tumour.box])
    out.mask[tumour.box] = tumour.mask
    return replace(out, alpha=tumour.alpha)


def write_normal(normal: np.ndarray, out: Sample) -> None:
    """Write a sample without a tumour: over all that its arrays hold, alpha apart."""
    write_twice(normal, out.normal, out.composite)
    out.texture.fill(0)
    out.mask.fill(0)


def write(values: np.ndarray, out: np.ndarray) -> None:
    """Copy finite float16 values into an array of float16 or float32 of the same shape.

    NumPy takes four times as long to widen: it converts one by one, here the bits are moved where float32 has them,
    and a multiplication by 2**112 mends the exponent, subnormal numbers included.
    """
    if (values.dtype, out.dtype) != (np.float16, np.float32):
        np.copyto(out, values)
        return
    if not out.flags.c_contiguous:
        planes = max(1, _PART // 2 * len(values) // max(1, values.size))
        for part in _parts(len(values), planes):
            np.copyto(out[part], widen(values[part]))
        return
    halves, numbers = values.reshape(-1).view(np.int16), out.reshape(-1)
    for part in _parts(out.size, _PART):
        own = numbers[part]
        bits = own.view(np.int32)
        np.copyto(bits, halves[part])  # carries the sign along
        np.left_shift(bits, _SHIFT, bits)
        np.bitwise_and(bits, SIGN_AND_NUMBER, bits)
        np.multiply(own, UNIT, own)


def write_twice(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Copy finite float16 values into two arrays of the same shape and type, see `write`."""
    if not (first.flags.c_contiguous and second.flags.c_contiguous):
        write(values, first)
        np.copyto(second, first)
        return
    flat, one, other = values.reshape(-1), first.reshape(-1), second.reshape(-1)
    # What is widened is copied while it is in the core's cache; what is not, goes faster as a whole.
    for part in _parts(flat.size, _PART if one.dtype != flat.dtype else flat.size):
        write(flat[part], one[part])
        np.copyto(other[part], one[part])


def _parts(count: int, length: int) -> Iterator[slice]:
    """Split so many values into parts that the core's cache holds, several times over."""
    return (slice(first, first + length) for first in range(0, count, length))


def widen(values: np.ndarray) -> np.ndarray:
    """Return finite values as float32, see `write`."""
    out = np.empty(values.shape, np.float32)
    write(values, out)
    return out


def narrow(numbers: np.ndarray) -> np.ndarray:
    """Return float32 numbers rounded to float16, ties to even: NumPy's bits in half of its time.

    It rounds one by one; here whole numbers are rounded, of all at once. Where one is too small or too large for that,
    or none (of a damaged corpus, whose NaN and infinity `synth verify` names), NumPy does it.
    """
    rounded: np.ndarray = np.empty(numbers.shape, np.float16)
    given, flat = numbers.reshape(-1), rounded.reshape(-1)
    scratch = np.empty((2, min(flat.size, _STEPS)), np.int32)
    for part in _parts(flat.size, _STEPS):
        _round(given[part], flat[part], scratch)
    return rounded


def _round(numbers: np.ndarray, out: np.ndarray, scratch: np.ndarray) -> None:
    """Do what `narrow` does, with two rows of memory at hand that are as long or longer."""
    bits, (size, other) = numbers.view(np.int32), scratch[:, : len(numbers)]
    np.bitwise_and(bits, _NUMBER, size)
    least, most = int(size.min()), int(size.max())
    if most >= _MOST:
        with np.errstate(over="ignore"):
            out[...] = numbers
        return
    np.right_shift(size, _SHIFT, other)
    np.bitwise_and(other, _ONE, other)
    np.add(size, other, size)
    np.add(size, _TO_HALF, size)
    np.right_shift(size, _SHIFT, size)
    np.right_shift(bits, _TOP, other)
    np.bitwise_and(other, _SIGN, other)
    np.bitwise_or(size, other, size)
    np.copyto(out.view(np.int16), size, casting="unsafe")
    if least < _LEAST:
        small = np.flatnonzero((bits & _NUMBER) < _LEAST)
        out[small] = numbers[small]


def layer_of(tumour: Tumour) -> Layer:
    """Return the layer that gives a tumour with a hard edge back, as far as its normal's ROI left it."""
    inside = tumour.mask > 0
    return Layer(tumour.box, inside, tumour.texture[inside])
