"""Composition on the device: normals stay there, and of a sample only the box around its tumour travels.

A tumour comes blended from the corpus (Eq. 5, `synth.tumour.blend`), so that a sample laid together on a GPU has the
very bits of one read on a CPU. Batches use the same memory again, in which only the boxes of the last tumours are
cleared.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from synth.corpus import Box, Corpus, Normal, Recombine, Tumour
from train.data.batch import Batch, empty_tensor
from train.data.corpora import Recombined
from train.data.feed import ahead

MOST_BYTES = 4 << 30  # of normals kept on the device: 1024 at 128³


@dataclass(frozen=True)
class Crop:
    """A tumour on its way: `synth.tumour.sample.Tumour` as tensors, and the position of its normal."""

    position: int
    box: Box
    composite: torch.Tensor
    texture: torch.Tensor
    mask: torch.Tensor
    alpha: float


class CropFeed:
    """Batches laid together on a device from tumours and normals, each written over when the next one is asked for.

    Parameters
    ----------
    tumour : callable
        Returns the position of a sample's normal and its tumour.
    source : callable
        Returns a normal by its position: `synth.corpus.Corpus.source`.
    size, batch : int
        Shape of a batch.
    threads : int
    device : torch.device
    most_bytes : int
        Of normals kept on a GPU; those used last are.
    """

    def __init__(
        self,
        tumour: Callable[[int], tuple[int, Tumour]],
        source: Callable[[int], Normal],
        size: int,
        batch: int,
        threads: int,
        device: torch.device,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._tumour, self._source, self._threads = tumour, source, threads
        self._device, self._gpu = device, device.type == "cuda"
        shape = (batch, 1, size, size, size)

        def empty(dtype: torch.dtype) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, device=device) if self._gpu else empty_tensor(shape, dtype)

        self._composite, self._normal, self._texture = (empty(torch.float32) for _ in range(3))
        self._mask = empty(torch.uint8)
        self._texture.zero_()
        self._mask.zero_()
        self._filled: list[Box | None] = [None] * batch  # where texture and mask are not 0
        self._kept: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._most = max(1, most_bytes // (2 * size**3))

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Yield the batch of each list of sample numbers, none longer than the feed's batch."""
        for crops in ahead(([partial(self._crop, i) for i in numbers] for numbers in wanted), self._threads):
            yield self._compose(crops)

    def _crop(self, index: int) -> Crop:
        position, tumour = self._tumour(index)
        composite, texture, mask = (
            torch.from_numpy(np.ascontiguousarray(part)) for part in (tumour.composite, tumour.texture, tumour.mask)
        )
        if self._gpu:
            composite, texture, mask = composite.pin_memory(), texture.pin_memory(), mask.pin_memory()
        return Crop(position, tumour.box, composite, texture, mask, tumour.alpha)

    def _compose(self, crops: Sequence[Crop]) -> Batch:
        for place, crop in enumerate(crops):
            composite, normal, texture, mask = (
                layer[place, 0] for layer in (self._composite, self._normal, self._texture, self._mask)
            )
            if (filled := self._filled[place]) is not None:
                texture[filled] = 0
                mask[filled] = 0
            normal.copy_(self._source_on_device(crop.position))
            composite.copy_(normal)
            composite[crop.box] = crop.composite.to(self._device, non_blocking=True)
            texture[crop.box] = crop.texture.to(self._device, non_blocking=True)
            mask[crop.box] = crop.mask.to(self._device, non_blocking=True)
            self._filled[place] = crop.box
        alpha = torch.tensor([crop.alpha for crop in crops], pin_memory=self._gpu)
        count = len(crops)
        return Batch(
            self._composite[:count],
            self._normal[:count],
            self._texture[:count],
            self._mask[:count],
            alpha.to(self._device, non_blocking=True),
        )

    def _source_on_device(self, position: int) -> torch.Tensor:
        if not self._gpu:
            return torch.from_numpy(self._source(position).voxels)
        if position in self._kept:
            self._kept.move_to_end(position)
            return self._kept[position]
        if len(self._kept) >= self._most:
            self._kept.popitem(last=False)
        voxels = torch.from_numpy(self._source(position).voxels).pin_memory()
        self._kept[position] = voxels.to(self._device, non_blocking=True)
        return self._kept[position]


def tumours_of(corpus: Corpus, stream: Recombine | Recombined | None = None) -> Callable[[int], tuple[int, Tumour]]:
    """Return a function that gives the position of a sample's normal, and its tumour."""
    if isinstance(stream, Recombine):
        return stream.tumour
    return lambda number: (int(corpus.normal[number]), corpus.tumour(number))
