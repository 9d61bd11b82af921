"""BatchNorm's statistics, taken anew before a network is used: the mean over many batches, instead of the last few.

In training each batch is normalised by itself; afterwards by running means, of which the last ten batches of two scans
make up most. They say more of those scans than of the weights, so that one checkpoint finds tumours and the next does
not (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021; measured in ``train/README.md``).
"""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from train.batch import Scan
from train.hardware import Hardware

BATCHES = 16  # of two, measured; 32 are no better


def has_running_statistics(network: nn.Module) -> bool:
    """Whether any layer normalises by what it saw in training."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def renew(network: nn.Module, batches: Iterable[Scan], hardware: Hardware) -> None:
    """Replace running means and variances by the mean of those of some batches; weights stay as they are.

    Parameters
    ----------
    network : Module
    batches : iterable of Scan
    hardware : Hardware
    """
    with hardware.autocast():
        update_bn((batch.to(hardware.device).composite for batch in batches), network)
