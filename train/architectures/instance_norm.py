"""InstanceNorm at BatchNorm's speed: each scan of a batch by its own statistics, in the layout that it comes in.

Torch's own copies a batch that is channels last to the plain layout and back (pytorch issue 59168), and the
convolutions are slower there. But what InstanceNorm does with a scan is what BatchNorm does with a batch of that scan
alone. So on a CPU torch's BatchNorm kernels run scan by scan, each writing into its part of the batch. Where a compiler
looks on, the same is written as sums, which it fuses with what stands around them.
"""

from typing import Any, ClassVar, Literal

import torch
from torch import nn

_SPACE = (2, 3, 4)  # of (N, C, z, y, x)


class InstanceNorm(nn.InstanceNorm3d):
    """``torch.nn.InstanceNorm3d`` with weights, without running statistics; the same names, values to rounding.

    Attributes
    ----------
    on_gpu : {"torch", "scans", "sums"}
        How it runs there, not compiled or compiled: as torch's own, scan by scan, or as sums. A layout other than
        torch's plain one pays with the last two alone; which is fastest, ``benchmarks/gpu_step.py`` measures.
    """

    on_gpu: ClassVar[Literal["torch", "scans", "sums"]] = "torch"

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, affine=affine)

    def forward(self, scans: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, z, y, x), of which each scan has two voxels at least."""
        how = self.on_gpu if scans.is_cuda else "sums" if torch.compiler.is_compiling() else "scans"
        if how == "torch" or scans.shape[2:].numel() < 2:  # which torch refuses
            return super().forward(scans)
        if how == "sums":
            return by_sums(scans, self.weight, self.bias, self.eps)
        found: torch.Tensor = _ScanByScan.apply(scans, self.weight, self.bias, self.eps)
        return found


def by_sums(scans: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """Return InstanceNorm as means, in float32 whatever the precision: fast where it is compiled, slow where not.

    Parameters
    ----------
    scans : Tensor, shape (N, C, z, y, x)
    weight, bias : Tensor, shape (C,)
    eps : float
    """
    values = scans.float()
    variance, mean = torch.var_mean(values, _SPACE, correction=0, keepdim=True)
    scale = torch.rsqrt(variance + eps) * weight.view(1, -1, 1, 1, 1)
    return ((values - mean) * scale + bias.view(1, -1, 1, 1, 1)).to(scans.dtype)


class _ScanByScan(torch.autograd.Function):
    """BatchNorm's kernels on each scan alone, without a copy of the batch."""

    @staticmethod
    def forward(ctx: Any, scans: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        """Normalise (N, C, z, y, x)."""
        normed = torch.empty_like(scans)
        kind = torch.float64 if scans.dtype == torch.float64 else torch.float32
        means, deviations = scans.new_empty((2, *scans.shape[:2]), dtype=kind)  # (N, C); deviations inverted
        for one, out, mean, deviation in zip(scans.split(1), normed.split(1), means, deviations, strict=True):
            torch.ops.aten.native_batch_norm.out(
                one, weight, bias, None, None, True, 0.0, eps, out=out, save_mean=mean, save_invstd=deviation
            )
        ctx.save_for_backward(scans, weight, means, deviations)
        ctx.eps = eps
        return normed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Return the gradients of scans, weight and bias."""
        scans, weight, means, deviations = ctx.saved_tensors
        last = scans.is_contiguous(memory_format=torch.channels_last_3d)
        layout = torch.channels_last_3d if last else torch.contiguous_format
        gradient, found = gradients[0].contiguous(memory_format=layout), torch.empty_like(scans)
        each = zip(gradient.split(1), scans.split(1), found.split(1), means, deviations, strict=True)
        of_weights = []
        for above, one, out, mean, deviation in each:
            of_one, *of_both = torch.ops.aten.native_batch_norm_backward(
                above, one, weight, None, None, mean, deviation, True, ctx.eps, [True, True, True]
            )
            out.copy_(of_one)
            of_weights.append(torch.stack(of_both))
        of_weight, of_bias = torch.stack(of_weights).sum(0)
        return found, of_weight, of_bias, None
