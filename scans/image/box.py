"""Boxes of voxels (z, y, x): the tight one around a mask, one as six numbers, one within another, turned over."""

from collections.abc import Sequence

import numpy as np

Box = tuple[slice, slice, slice]  # part of the cube (z, y, x), half open, within it


def tight_box(voxels: np.ndarray) -> Box:
    """Return the smallest box (z, y, x) that holds all voxels that are not 0; there is at least one."""
    filled = voxels if voxels.dtype in (np.uint8, bool) else voxels != 0
    filled = np.ascontiguousarray(filled).view(np.uint8)  # whose largest values are found many at once
    shadow = filled.max(axis=0)  # along z, so that y and x need not walk through the whole box again
    planes = filled.reshape(len(filled), -1).max(axis=1)
    z, y, x = (np.flatnonzero(hit) for hit in (planes, shadow.max(axis=1), shadow.max(axis=0)))
    return slice(int(z[0]), int(z[-1]) + 1), slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)


def box_of(ends: np.ndarray) -> Box:
    """Return the box of six ends (z, y, x; first, one past the last)."""
    z0, z1, y0, y1, x0, x1 = (int(end) for end in ends)
    return slice(z0, z1), slice(y0, y1), slice(x0, x1)


def ends_of(box: Box) -> np.ndarray:
    """Return the six ends of a box, int32."""
    return np.array([end for part in box for end in (part.start, part.stop)], np.int32)


def clip(box: Box, by: Sequence[int], size: int | Sequence[int]) -> Box:
    """Return a box that reaches `by` voxels (z, y, x) further on each side, cut to a cube or to sides (z, y, x)."""
    sides = (size,) * 3 if isinstance(size, int) else size
    z, y, x = (slice(max(p.start - n, 0), min(p.stop + n, side)) for p, n, side in zip(box, by, sides, strict=True))
    return z, y, x


def from_within(box: Box, outer: Box) -> Box:
    """Return a box (z, y, x) that is counted from the corner of another, counted as that one is: undoes `within`."""
    z, y, x = (slice(o.start + part.start, o.start + part.stop) for part, o in zip(box, outer, strict=True))
    return z, y, x


def within(box: Box, outer: Sequence[slice]) -> Box:
    """Return a box (z, y, x) counted from the corner of another that holds it."""
    z, y, x = (slice(part.start - o.start, part.stop - o.start) for part, o in zip(box, outer, strict=True))
    return z, y, x


def corner_of(box: Box) -> tuple[int, int, int]:
    """Return the first voxel of a box (z, y, x)."""
    return box[0].start, box[1].start, box[2].start


def sides_of(box: Box) -> tuple[int, int, int]:
    """Return the voxels of a box along each axis (z, y, x)."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start


def overlap(shape: Sequence[int], start: Sequence[int], size: int) -> tuple[Box, Box] | None:
    """Return the part of a box at `start` that lies in the cube, in the cube and in the box; None if none does."""
    cube = [slice(max(s, 0), min(s + n, size)) for s, n in zip(start, shape, strict=True)]
    if any(part.start >= part.stop for part in cube):
        return None
    z, y, x = cube
    return (z, y, x), within((z, y, x), [slice(s, s + n) for s, n in zip(start, shape, strict=True)])


def turn_of(flip: Sequence[bool]) -> Box:
    """Return the index by which an array is seen turned over along axes (z, y, x)."""
    z, y, x = (slice(None, None, -1 if over else 1) for over in flip)
    return z, y, x


def turned(start: Sequence[int], shape: Sequence[int], flip: Sequence[bool], size: int) -> tuple[int, ...]:
    """Return where a box at `start` begins in the cube that is turned over."""
    sides = zip(start, shape, flip, strict=True)
    return tuple(size - n - first if over else first for first, n, over in sides)
