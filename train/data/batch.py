"""A batch: samples side by side on one device."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from scans import memory
from synth.corpus import Sample


class HasComposite(Protocol):
    """A batch: at least what the network sees, shape (N, channels, z, y, x)."""

    @property
    def composite(self) -> torch.Tensor:
        """The network's input."""

    def to(self, device: torch.device) -> "HasComposite":
        """Move to a device."""


@dataclass(frozen=True)
class Batch:
    """Samples side by side.

    Attributes
    ----------
    composite, normal, texture : Tensor of float32, shape (N, C, z, y, x)
        In the network's units, for C modalities. ``texture`` is 0 outside the mask.
    mask : Tensor of uint8, shape (N, 1, z, y, x)
    alpha : Tensor of float32, shape (N,)
    """

    composite: torch.Tensor
    normal: torch.Tensor
    texture: torch.Tensor
    mask: torch.Tensor
    alpha: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Move to a device, layers as float32; from pinned memory the copy does not wait."""
        composite, normal, texture = (
            layer.to(device, non_blocking=True).float() for layer in (self.composite, self.normal, self.texture)
        )
        mask, alpha = (small.to(device, non_blocking=True) for small in (self.mask, self.alpha))
        return Batch(composite, normal, texture, mask, alpha)

    def standardised(self) -> "Batch":
        """Express each sample in the units its composite would have as a scan of its own.

        A real scan is normalised by a mean and a deviation that include its tumour; a composite by those of its
        normal. The same affine map on composite, normal and texture leaves Eq. 5 as it is.
        """
        roi = (self.normal != 0) | (self.composite != 0)
        space = (2, 3, 4)
        count = roi.sum(space, keepdim=True).clamp(min=1)
        inside = torch.where(roi, self.composite, 0.0).double()
        mean = inside.sum(space, keepdim=True) / count
        deviation = (torch.where(roi, inside - mean, 0.0).square().sum(space, keepdim=True) / count).sqrt()
        varies = deviation > 1e-6
        shift = torch.where(varies, mean, 0.0).float()
        scale = torch.where(varies, 1 / deviation.clamp(min=1e-6), 1.0).float()

        def seen(volume: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
            return torch.where(where, (volume - shift) * scale, 0.0)

        tumour = self.mask != 0
        return Batch(
            seen(self.composite, roi), seen(self.normal, roi), seen(self.texture, tumour), self.mask, self.alpha
        )


def empty_batch(count: int, channels: int, size: int, dtype: torch.dtype, pinned: bool) -> Batch:
    """Return a batch on the CPU without content, to be written over; `dtype` is that of its three layers."""

    def empty(dtype: torch.dtype, channels: int) -> torch.Tensor:
        shape = (count, channels, size, size, size)
        return torch.empty(shape, dtype=dtype, pin_memory=True) if pinned else empty_tensor(shape, dtype)

    composite, normal, texture = (empty(dtype, channels) for _ in range(3))
    return Batch(composite, normal, texture, empty(torch.uint8, 1), torch.empty(count, pin_memory=pinned))


def empty_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor on the CPU without content, in large pages: whole scans are written faster there.

    NumPy asks Linux for such pages, torch does not.
    """
    return torch.from_numpy(memory.empty(shape, torch.empty(0, dtype=dtype).numpy().dtype))


def placed(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return a few drawn numbers on a device, float32, without waiting for what a GPU is still at."""
    return torch.from_numpy(values.astype(np.float32)).to(device, non_blocking=True)


def places(batch: Batch) -> list[Sample]:
    """Return the memory of a CPU batch as samples to be written over: (z, y, x) for one modality, else (C, z, y, x)."""
    single = batch.composite.shape[1] == 1

    def of(layer: torch.Tensor, number: int) -> np.ndarray:
        array: np.ndarray = layer[number].numpy()
        return array[0] if single else array

    return [
        Sample(of(batch.composite, n), of(batch.normal, n), of(batch.texture, n), batch.mask[n, 0].numpy(), 0.0)
        for n in range(len(batch.alpha))
    ]
