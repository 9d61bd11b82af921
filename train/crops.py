"""Composition on the device: normals stay there, and of a sample only the box around its tumour travels.

A tumour comes blended from the corpus (Eq. 5, `synth.blend`), so that a sample laid together on a GPU has the very
bits of one read on a CPU.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from synth.corpus import Normal, Tumour
from train.batch import Batch
from train.feed import ahead

MOST_BYTES = 4 << 30  # of normals kept on the device: 1024 at 128³


@dataclass(frozen=True)
class Crop:
    """A tumour on its way: ``layers`` float16 (2, z, y, x), composite and texture; ``mask`` uint8 (z, y, x)."""

    position: int
    box: tuple[slice, slice, slice]
    layers: torch.Tensor
    mask: torch.Tensor
    alpha: float


class CropFeed:
    """Batches laid together on a device from tumours and normals.

    Parameters
    ----------
    tumour : callable
        Returns the position of a sample's normal and its tumour.
    source : callable
        Returns a normal by its position: `synth.corpus.Corpus.source`.
    size : int
    threads : int
    device : torch.device
    most_bytes : int
        Of normals kept on the device; those used last are.
    """

    def __init__(
        self,
        tumour: Callable[[int], tuple[int, Tumour]],
        source: Callable[[int], Normal],
        size: int,
        threads: int,
        device: torch.device,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._tumour, self._source, self._threads = tumour, source, threads
        self._size, self._device, self._pinned = size, device, device.type == "cuda"
        self._normals: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._most = max(1, most_bytes // (2 * size**3))

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Yield the batch of each list of sample numbers."""
        for crops in ahead(([partial(self._crop, i) for i in numbers] for numbers in wanted), self._threads):
            yield self._compose(crops)

    def _crop(self, index: int) -> Crop:
        position, tumour = self._tumour(index)
        layers = torch.from_numpy(np.stack([tumour.composite, tumour.texture]))
        mask = torch.from_numpy(np.ascontiguousarray(tumour.mask))
        if self._pinned:
            layers, mask = layers.pin_memory(), mask.pin_memory()
        return Crop(position, tumour.box, layers, mask, tumour.alpha)

    def _compose(self, crops: Sequence[Crop]) -> Batch:
        shape = (len(crops), 1, self._size, self._size, self._size)
        normal = torch.empty(shape, device=self._device)
        texture = torch.zeros(shape, device=self._device)
        mask = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        for number, crop in enumerate(crops):
            normal[number, 0].copy_(self._normal(crop.position))
        composite = normal.clone()
        for number, crop in enumerate(crops):
            layers = crop.layers.to(self._device, non_blocking=True)
            composite[number, 0][crop.box] = layers[0].float()
            texture[number, 0][crop.box] = layers[1].float()
            mask[number, 0][crop.box] = crop.mask.to(self._device, non_blocking=True)
        alpha = torch.tensor([crop.alpha for crop in crops], pin_memory=self._pinned)
        return Batch(composite, normal, texture, mask, alpha.to(self._device, non_blocking=True))

    def _normal(self, position: int) -> torch.Tensor:
        if position in self._normals:
            self._normals.move_to_end(position)
            return self._normals[position]
        voxels = torch.from_numpy(self._source(position).voxels)
        voxels = voxels.pin_memory() if self._pinned else voxels
        if len(self._normals) >= self._most:
            self._normals.popitem(last=False)
        self._normals[position] = voxels.to(self._device, non_blocking=True)
        return self._normals[position]
