"""What the proxy tasks share: examples made of normal volumes, for ``train.stages.loop``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from synth.corpus import Corpus
from train.data.corpora import Corpora
from train.data.feed import ahead
from train.data.random_bits import Draws
from train.data.split import Split
from train.network.hardware import Hardware
from train.network.ranks import ALONE, Ranks
from train.proxies.normals import Normals, NormalScan
from train.run.pictures import Views
from train.settings import Network, Pretrain

PICTURED = 4  # examples in a validation picture
Example = tuple[np.ndarray, np.ndarray]  # what the network is shown, and what it must answer


@dataclass(frozen=True)
class Pairs:
    """Examples side by side.

    Attributes
    ----------
    composite : Tensor of float32, shape (N, ...)
        What the network is shown.
    wanted : Tensor, shape (N, ...)
        What it must answer.
    """

    composite: torch.Tensor
    wanted: torch.Tensor

    def to(self, device: torch.device) -> "Pairs":
        """Move to a device."""
        return Pairs(self.composite.to(device, non_blocking=True), self.wanted.to(device, non_blocking=True))


class Proxy(ABC):
    """A proxy task: a question about a normal volume whose answer is known without annotations."""

    def side(self, size: int) -> int:
        """Return the side in voxels of what the encoder is shown, for cubes of `size`; refuse what is too small."""
        return size

    @abstractmethod
    def network(self, settings: Network, sources: int) -> nn.Module:
        """Return a network with random weights, for a corpus of as many sources."""

    @abstractmethod
    def example(self, scan: NormalScan, draws: Draws) -> Example:
        """Make an example of a scan."""

    @abstractmethod
    def terms(self, output: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss terms by name, and their sum as ``total``."""

    def score(self, output: torch.Tensor, wanted: torch.Tensor) -> dict[str, float]:
        """Return what else is told of a validation, each with a mean over the batch; high is good."""
        return {}

    def row(self, name: str, shown: np.ndarray, output: np.ndarray) -> Views | None:
        """Return a row of the validation picture, if there is anything to see."""
        return None


class ProxyTask:
    """The task of pretraining on normal volumes, for ``train.stages.loop``.

    Parameters
    ----------
    proxy : Proxy
    corpus : Corpus or Corpora
    split : Split
    settings : Pretrain
    ranks : Ranks
        The processes that share each step's examples.
    """

    def __init__(
        self, proxy: Proxy, corpus: Corpus | Corpora, split: Split, settings: Pretrain, ranks: Ranks = ALONE
    ) -> None:
        self.proxy, self.corpus, self.split, self.settings, self.ranks = proxy, corpus, split, settings, ranks
        self.normals = Normals(corpus, split, settings.schedule.seed)

    def batches(self, steps: range) -> Iterator[Pairs]:
        """Yield the batch of each step."""
        return self._read([partial(self._training, place) for place in self._places(step)] for step in steps)

    def recipe(self, step: int) -> list[dict[str, Any]]:
        """Return the source of each example of a step, and the stream that all its choices are drawn from."""
        names = self.normals.names
        return [
            {"proxy": self.settings.proxy, "source": names[self.normals.source_at(place)], "place": place}
            for place in self._places(step)
        ]

    def loss(self, output: torch.Tensor, batch: Pairs) -> dict[str, torch.Tensor]:
        """Return the loss terms of the proxy."""
        return self.proxy.terms(output.float(), batch.wanted)

    def validate(self, network: nn.Module, machine: Hardware) -> dict[str, float]:
        """Return the mean loss and score of the same examples of held-out sources each time."""
        sums: dict[str, float] = {}
        count = self.settings.validation_samples
        for batch in self._held_out(range(count)):
            output, batch = _answered(network, machine, batch)
            found = {n: float(term) for n, term in self.proxy.terms(output, batch.wanted).items()}
            found["loss"] = found.pop("total")
            for name, value in (found | self.proxy.score(output, batch.wanted)).items():
                sums[name] = sums.get(name, 0.0) + value * len(output) / count
        return {**sums, "score": sums["accuracy"] if "accuracy" in sums else -sums["loss"]}

    def views(self, network: nn.Module, machine: Hardware) -> dict[str, list[Views]]:
        """Return examples of held-out sources, to be drawn."""
        rows = []
        for number in range(min(PICTURED, self.settings.validation_samples)):
            (batch,) = self._held_out([number])
            shown = batch.composite[0].numpy()
            output, _ = _answered(network, machine, batch)
            name = self.normals.names[self.normals.held_out(number)[0]]
            rows.append(self.proxy.row(name, shown, output[0].cpu().numpy()))
        seen = [row for row in rows if row is not None]
        return {"validation": seen} if seen else {}

    def _places(self, step: int) -> range:
        return self.ranks.share(self.settings.schedule.batch, step)

    def _training(self, place: int) -> Example:
        return self.proxy.example(self._scan(place), self.normals.draws_at(place))

    def _scan(self, place: int) -> NormalScan:
        return self.normals.scan(self.normals.source_at(place))

    def _validation(self, number: int) -> Example:
        position, draws = self.normals.held_out(number)
        return self.proxy.example(self.normals.scan(position), draws)

    def _held_out(self, numbers: Sequence[int]) -> Iterator[Pairs]:
        size = self.settings.schedule.batch
        parts = [numbers[first : first + size] for first in range(0, len(numbers), size)]
        return self._read([partial(self._validation, number) for number in part] for part in parts)

    def _read(self, wanted: Iterable[list[Callable[[], Example]]]) -> Iterator[Pairs]:
        for examples in ahead(wanted, self.settings.schedule.loader_threads):
            shown, answers = (torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True))
            yield Pairs(shown, answers)


def _answered(network: nn.Module, machine: Hardware, batch: Pairs) -> tuple[torch.Tensor, Pairs]:
    batch = batch.to(machine.device)
    with torch.no_grad(), machine.autocast():
        output = network(batch.composite)
    return output.float(), batch
