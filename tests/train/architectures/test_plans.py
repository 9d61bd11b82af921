import json

import pytest

from tests.made.nnunet_plans import small, write_plan
from train.architectures.plans import read_plan
from train.settings import SettingsError


@pytest.mark.parametrize("architecture", ["plainconv", "resenc"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_plan_is_read_as_the_network_that_it_was_written_for(tmp_path, architecture, norm):
    settings = small(architecture, 32, (1, 3, 1), norm=norm)
    plan = read_plan(write_plan(tmp_path / "plans.json", settings, channels=2))
    assert plan.network()["topology"] == settings.topology.model_copy(update={"axes": (0, 1, 2)}).model_dump()
    assert (plan.architecture, plan.norm, plan.channels) == (architecture, norm, 2)
    assert plan.network()["width"] == settings.width


def test_axes_that_nnunet_turns_are_turned_back(tmp_path):
    settings = small("plainconv", 32, (4, 1, 1))
    path = write_plan(tmp_path / "plans.json", settings, order=(2, 0, 1))
    written = json.loads(path.read_text(encoding="utf-8"))["configurations"]["3d_fullres"]["architecture"]
    assert written["arch_kwargs"]["strides"][1] == [2, 1, 2]  # x first, then z, whose voxels are long
    plan = read_plan(path)
    assert plan.topology.strides == settings.topology.strides
    assert plan.topology.axes == (2, 0, 1)


def test_a_configuration_has_what_it_inherits(tmp_path):
    path = write_plan(tmp_path / "plans.json", small("resenc"))
    assert read_plan(path, "larger").topology == read_plan(path).topology


def test_what_cannot_be_built_is_refused_and_named(tmp_path):
    settings = small("plainconv")
    for changed, said in (
        ({"conv_op": "torch.nn.modules.conv.Conv2d"}, "conv_op"),
        ({"dropout_op": "torch.nn.Dropout3d"}, "dropout_op"),
        ({"nonlin": "torch.nn.ReLU"}, "nonlin"),
        ({"norm_op_kwargs": {"eps": 1e-3, "affine": True}}, "norm_op_kwargs"),
        ({"strides": [[2, 2, 2]] * 3}, "the first stage must keep the voxels"),
        ({"n_conv_per_stage": [2]}, "3 stages need 3 blocks"),
        ({"kernel_sizes": [[2, 2, 2]] * 3}, "kernel_sizes"),
        ({"features_per_stage": [10**9] * 3}, "features_per_stage"),
    ):
        path = write_plan(tmp_path / "plans.json", settings, **changed)
        with pytest.raises(SettingsError, match=said) as caught:
            read_plan(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"configurations": [], "transpose_forward": [0, 1, 2]}', "[" * 100_000,
     '{"configurations": {}, "transpose_forward": [0, 0, 2]}', '{"configurations": {}, "transpose_forward": "ab"}'],
)  # fmt: skip
def test_what_is_no_plan_is_refused_in_a_sentence(tmp_path, text):
    path = tmp_path / "plans.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="no plan of nnU-Net"):
        read_plan(path)


def test_a_configuration_that_is_not_there_or_inherits_from_itself_is_named(tmp_path):
    path = write_plan(tmp_path / "plans.json", small("plainconv"))
    with pytest.raises(SettingsError, match="no configuration '3d_lowres'; there are '3d_fullres', 'larger'"):
        read_plan(path, "3d_lowres")
    circle = {"transpose_forward": [0, 1, 2], "configurations": {"3d_fullres": {"inherits_from": "3d_fullres"}}}
    path.write_text(json.dumps(circle), encoding="utf-8")
    with pytest.raises(SettingsError, match="no configuration '3d_fullres'"):
        read_plan(path)
    path.write_text(json.dumps({**circle, "configurations": {"3d_fullres": {}}}), encoding="utf-8")
    with pytest.raises(SettingsError, match="plan the dataset again"):
        read_plan(path)
