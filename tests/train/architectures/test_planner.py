"""The rule that nnU-Net's planner follows, against what nnU-Net 2.8.1 itself planned for the same cubes."""

import pytest

from tests.made.nnunet_plans import small
from train.architectures.planner import axes_of, stages
from train.settings import Network

ALIKE = (2, 2, 2)
FULL = (3, 3, 3)
PLANNED_BY_NNUNET = [
    (32, (1, 1, 1), [ALIKE] * 3, [FULL] * 4),
    (48, (1, 1, 1), [ALIKE] * 3, [FULL] * 4),
    (128, (1, 1, 1), [ALIKE] * 5, [FULL] * 6),
    (48, (1, 3, 1), [(2, 1, 2), ALIKE, ALIKE, (1, 2, 1)], [(3, 1, 3), *[FULL] * 4]),
    (64, (5, 0.8, 0.8), [(1, 2, 2), (1, 2, 2), ALIKE, ALIKE, (2, 1, 1)], [(1, 3, 3), (1, 3, 3), *[FULL] * 4]),
]


@pytest.mark.parametrize(("size", "spacing_mm", "strides", "kernels"), PLANNED_BY_NNUNET)
def test_stages_are_those_that_nnunet_plans(size, spacing_mm, strides, kernels):
    assert stages(size, spacing_mm) == ([(1, 1, 1), *strides], kernels)


@pytest.mark.parametrize("size", range(16, 200, 8))
def test_the_strides_divide_every_cube(size):
    for spacing_mm in ((1, 1, 1), (3, 1, 1), (1, 1.5, 4)):
        for along in zip(*stages(size, spacing_mm)[0], strict=True):
            left = size
            for stride in along:
                assert left % stride == 0
                left //= stride
            assert left >= 4


def test_features_double_up_to_320_and_blocks_are_nnunets():
    plain, residual = (small(name, 128, width=32).topology for name in ("plainconv", "resenc"))
    assert plain.features == residual.features == (32, 64, 128, 256, 320, 320)
    assert (plain.blocks, plain.up_blocks) == ((2,) * 6, (2,) * 5)
    assert (residual.blocks, residual.up_blocks) == ((1, 3, 4, 6, 6, 6), (1,) * 5)


def test_the_axis_with_the_longest_voxels_comes_first():
    assert [axes_of(spacing) for spacing in ((1, 1, 1), (1, 3, 1), (1, 1, 2))] == [(0, 1, 2), (1, 0, 2), (2, 0, 1)]


def test_of_the_papers_network_a_record_says_what_it_always_said():
    assert list(Network().model_dump()) == ["width", "norm", "in_channels", "classes", "mirror", "mask_bias"]
