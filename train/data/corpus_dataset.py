"""A corpus as a PyTorch dataset, for anyone's DataLoader."""

import os
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from synth.corpus import Corpus
from train.settings import SettingsError

VOLUMES = ("composite", "normal", "texture", "mask")


class CorpusDataset(Dataset):
    """Samples by number, as dictionaries of tensors that PyTorch collates by itself.

    Works in any number of worker processes, forked or spawned: each opens the corpus once. Several threads may read
    at a time. Of what was read, nothing is kept but what the corpus itself keeps.

    Parameters
    ----------
    corpus : str, Path or Corpus
        A path or a URL, or a corpus already opened.
    indices : sequence of int, optional
        Only these samples of the corpus, in this order, e.g. ``split_by_source(...).training``; all if not given.
    transform : callable, optional
        Applied to each item before it is returned. Spawned workers need one that can be pickled.

    Raises
    ------
    StoreError
        If there is no finished corpus.
    SettingsError
        If the corpus has no such sample as one of `indices`.

    Examples
    --------
    >>> loader = DataLoader(CorpusDataset("corpus.zarr"), batch_size=2, shuffle=True, num_workers=4)  # doctest: +SKIP
    >>> next(iter(loader))["composite"].shape                                                         # doctest: +SKIP
    torch.Size([2, 1, 128, 128, 128])
    """

    def __init__(
        self,
        corpus: str | Path | Corpus,
        indices: Sequence[int] | np.ndarray | None = None,
        transform: Callable[[dict[str, torch.Tensor]], Any] | None = None,
    ) -> None:
        self.transform = transform
        self._given = corpus
        opened = corpus if isinstance(corpus, Corpus) else Corpus(corpus)
        self._opened: tuple[int, Corpus] | None = (os.getpid(), opened)
        # An array: numbers in a list would be copied into every forked worker as they are touched.
        self._indices = None if indices is None else _checked(indices, len(opened))
        self._length = len(opened) if self._indices is None else len(self._indices)

    @property
    def corpus(self) -> Corpus:
        """The corpus, opened in this process."""
        opened = self._opened
        # One that came by fork shares its parent's connections and lacks its threads. Two threads that get here at
        # once open it twice, and one of the two is dropped.
        if opened is None or opened[0] != os.getpid():
            again = copy(self._given) if isinstance(self._given, Corpus) else Corpus(self._given)
            opened = self._opened = (os.getpid(), again)
        return opened[1]

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._length

    def __getitem__(self, index: int) -> Any:
        """Return an item.

        Parameters
        ----------
        index : int
            Position in this dataset; negative counts from the end.

        Returns
        -------
        dict of Tensor
            ``composite``, ``normal``, ``texture`` and ``mask``, float32 (1, z, y, x) in the network's units;
            ``alpha``, float32, a scalar; ``index``, int64, the sample's number in the corpus.
            With a transform, what it makes of that.

        Raises
        ------
        IndexError
            If there is no such position.
        """
        position = range(self._length)[index]
        number = position if self._indices is None else int(self._indices[position])
        sample = self.corpus[number]
        # Memory of its own, that a transform may write to.
        item = {
            name: torch.from_numpy(np.require(getattr(sample, name), np.float32, ["C", "O", "W"])[None])
            for name in VOLUMES
        }
        item["alpha"] = torch.tensor(sample.alpha, dtype=torch.float32)
        item["index"] = torch.tensor(number, dtype=torch.int64)
        return item if self.transform is None else self.transform(item)

    def __iter__(self) -> Iterator[Any]:
        """Yield the items in order."""
        return (self[position] for position in range(self._length))

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to another process, which opens the corpus itself."""
        return {**self.__dict__, "_opened": None}


def _checked(indices: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Return `indices` as positions from 0 to `count` - 1, int64."""
    numbers = np.asarray(indices)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise SettingsError("indices: give a list of whole numbers, one for each sample")
    numbers = numbers.astype(np.int64)
    outside = numbers[(numbers < -count) | (numbers >= count)]
    if outside.size:
        raise SettingsError(f"indices: the corpus has samples 0 to {count - 1}, not {outside[0]}")
    return np.where(numbers < 0, numbers + count, numbers)
