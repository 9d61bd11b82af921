"""Networks of nnU-Net's kinds, small, and plans as nnU-Net 2.8 writes them."""

import json

import torch

from train.architectures.planner import planned
from train.architectures.plans import configuration_of
from train.network.unet import UNet
from train.settings import Network


def small(architecture, size=16, spacing_mm=(1, 1, 1), width=4, norm="instance", **changed):
    """Return settings with a topology."""
    return planned(Network(architecture=architecture, width=width, norm=norm, **changed), size, spacing_mm)


def network_of(settings, seed=0):
    """Return a network whose weights are all unlike, those too that begin at 0 or 1, and that is not trained."""
    torch.manual_seed(seed)
    network = UNet(settings)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def write_plan(path, settings, size=16, order=(0, 1, 2), channels=1, **changed):
    """Write a plan of a network, with other arguments of its class where they are `changed`."""
    topology = settings.topology.model_copy(update={"axes": order})
    configuration = configuration_of(settings, topology, size)
    del configuration["inherits_from"]
    configuration["architecture"]["arch_kwargs"] |= changed
    plans = {
        "plans_name": "nnUNetPlans",
        "transpose_forward": list(order),
        "configurations": {"3d_fullres": configuration, "larger": {"inherits_from": "3d_fullres", "batch_size": 4}},
        "foreground_intensity_properties_per_channel": {str(number): {} for number in range(channels)},
    }
    path.write_text(json.dumps(plans), encoding="utf-8")
    return path
