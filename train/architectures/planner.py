"""The stages of nnU-Net's networks for a cube, by the rule of nnU-Net's planner (Isensee et al. 2021).

From the finest stage down, the next one halves every axis

* along which at least 8 voxels are left, so that 4 remain, in an even number: the cube is not padded;
* whose voxels are less than twice as long as the shortest among those axes. An axis alone needs 12.

It ends where no axis is left. A stage convolves over 3 voxels along an axis once voxels there have been less than twice
as long as the shortest side of a voxel, and over 1 until then; the coarsest stage over 3 along all.

Features double from stage to stage, up to 320. ``plainconv`` has two convolutions a stage, ``resenc`` 1, 3, 4 and from
then on 6 residual blocks, and one convolution a stage on the way up. nnU-Net puts the axis with the longest voxels
first and keeps the order of the others.
"""

from collections.abc import Sequence

from train.settings import Network, Topology

_LEAST = 4  # voxels along a side of the coarsest stage
_MOST_FEATURES = 320
_RESIDUAL_BLOCKS = (1, 3, 4, 6)  # of the first stages; all further ones have as many as the last


def planned(settings: Network, size: int, spacing_mm: Sequence[float]) -> Network:
    """Return settings with a topology; those that have one, or need none, as they are.

    Parameters
    ----------
    settings : Network
    size : int
        Voxels along each side of the cube.
    spacing_mm : sequence of float
        (z, y, x).
    """
    if settings.architecture == "unet" or settings.topology is not None:
        return settings
    strides, kernels = stages(size, spacing_mm)
    count = len(strides)
    residual = settings.architecture == "resenc"
    topology = Topology(
        features=tuple(min(settings.width * 2**stage, _MOST_FEATURES) for stage in range(count)),
        strides=tuple(strides),
        kernels=tuple(kernels),
        blocks=tuple(_RESIDUAL_BLOCKS[min(stage, 3)] if residual else 2 for stage in range(count)),
        up_blocks=(1 if residual else 2,) * (count - 1),
        axes=axes_of(spacing_mm),
    )
    return settings.model_copy(update={"topology": topology})


def stages(size: int, spacing_mm: Sequence[float]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return strides and kernels of each stage, (z, y, x), the finest first."""
    sides, spacing, kernel = [size] * 3, [float(each) for each in spacing_mm], [1] * 3
    strides: list[tuple[int, ...]] = [(1, 1, 1)]
    kernels: list[tuple[int, ...]] = []
    while halved := _halved(sides, spacing):
        shortest = min(spacing)
        kernel = [3 if along < 2 * shortest else before for along, before in zip(spacing, kernel, strict=True)]
        kernels.append(tuple(kernel))
        stride = tuple(2 if axis in halved else 1 for axis in range(3))
        strides.append(stride)
        sides = [side // by for side, by in zip(sides, stride, strict=True)]
        spacing = [along * by for along, by in zip(spacing, stride, strict=True)]
    return strides, [*kernels, (3, 3, 3)]


def _halved(sides: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """Return the axes that the next stage halves."""
    long = [axis for axis in range(3) if sides[axis] >= 2 * _LEAST and sides[axis] % 2 == 0]
    alike = [axis for axis in long if spacing[axis] < 2 * min(spacing[other] for other in long)]
    return [] if len(alike) == 1 and sides[alike[0]] < 3 * _LEAST else alike


def axes_of(spacing_mm: Sequence[float]) -> tuple[int, int, int]:
    """Return the order in which nnU-Net puts z, y and x: the axis with the longest voxels first."""
    first = max(range(3), key=lambda axis: spacing_mm[axis])
    second, third = (axis for axis in range(3) if axis != first)
    return first, second, third
