"""BatchNorm's statistics, taken anew before a network is used: the mean over many batches, instead of the last few.

In training each batch is normalised by itself; afterwards by running means, of which the last ten batches of two scans
make up most. They say more of those scans than of the weights, so that one checkpoint finds tumours and the next does
not (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021; measured in ``docs/defaults.md``).
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from train.data.batch import HasComposite
from train.network.hardware import Hardware

BATCHES = 16  # of two, measured; 32 are no better


def has_running_statistics(network: nn.Module) -> bool:
    """Whether any layer normalises by what it saw in training."""
    return bool(_statistics(network))


def renew(network: nn.Module, batches: Iterable[HasComposite], hardware: Hardware) -> None:
    """Replace running means and variances by the mean of those of some batches; weights stay as they are.

    Where the new ones are not finite the old ones stay: the weights have diverged, which the next step will tell, and
    keep to be looked at.

    Parameters
    ----------
    network : Module
    batches : iterable of HasComposite
    hardware : Hardware
    """
    before = [statistic.clone() for statistic in _statistics(network)]
    with hardware.autocast():
        update_bn((batch.to(hardware.device).composite for batch in batches), network)
    if not all(bool(statistic.isfinite().all()) for statistic in _statistics(network)):
        for statistic, old in zip(_statistics(network), before, strict=True):
            statistic.copy_(old)


def _statistics(network: nn.Module) -> list[torch.Tensor]:
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    return [kept for norm in norms for kept in (norm.running_mean, norm.running_var) if kept is not None]


NORMS = {  # what a network does at test time; method, settled 8
    "batch": "BatchNorm with the mean statistics of 16 training batches",
    "instance": "InstanceNorm, each scan by its own statistics",
}
