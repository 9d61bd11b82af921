"""The moving average of a network's weights, which is the network to use: one step's noise does not decide it.

At a constant rate, or on few normals, the weights of one step find tumours and those of a hundred steps later do not,
while their average hardly moves (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018; measured in
``docs/presets.md``).
"""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """An exponential moving average of weights and running statistics.

    Parameters
    ----------
    network : Module
        What is trained, with the weights that the average begins at.
    decay : float
        Share of the average that a step leaves, in [0, 1). Early on less is left, ``(1 + step) / (10 + step)``, so
        that random weights are soon forgotten.

    Attributes
    ----------
    network : Module
        Of the same kind, with the averaged weights; in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval()
        self._ours, self._theirs = _numbers(self.network), _numbers(network)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps, from 1; one fused operation, and no GPU is waited for."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._ours, self._theirs, step)


def _numbers(network: nn.Module) -> list[torch.Tensor]:
    """Return what can be averaged; BatchNorm also counts its batches, which nothing reads."""
    return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
