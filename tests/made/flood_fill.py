"""The parts of a mask, found voxel by voxel: slow and obvious."""

from itertools import product

import numpy as np


def slow_parts(mask):
    """Flood fill across faces, edges and corners; sets of voxels (z, y, x), in scan order of their first ones."""
    left, parts = {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}, []
    while left:
        part, todo = set(), [min(left)]
        left.remove(todo[0])
        while todo:
            z, y, x = todo.pop()
            part.add((z, y, x))
            near = {(z + a, y + b, x + c) for a, b, c in product((-1, 0, 1), repeat=3)} & left
            left -= near
            todo += near
        parts.append(part)
    return parts
