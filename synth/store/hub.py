"""A store in a repository of a hub, which is only read, at the commit that its address led to when it was opened."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from typing import Any

from scans.errors import StoreError, UserError
from scans.hub.address import DATASET, hub_address
from scans.hub.client import endpoint, package
from scans.hub.listing import HUBS_OWN, pin
from scans.hub.refusals import NotThereError, asking
from synth.store.base import Growing, check_part
from synth.store.bucket import Bucket


class Hub(Bucket):
    """A store in a dataset of a hub.

    Parameters
    ----------
    where : str
        E.g. ``hf://datasets/org/name``, ``hf://datasets/org/name@v1/corpus.zarr``.

    Attributes
    ----------
    where : str
        With the commit: whoever opens that reads the same, whatever has been pushed meanwhile.

    Raises
    ------
    StoreError
        If it is no address of a dataset, the hub does not have it or does not answer, or its package is missing.
    """

    def __init__(self, where: str) -> None:
        try:
            self._address = pin(hub_address(where, DATASET))
        except UserError as error:
            raise StoreError(str(error)) from error
        self.where = str(self._address)
        self._files: Any = package(where).HfFileSystem(endpoint=endpoint())
        self._root = self.where.removeprefix("hf://")
        self._s3 = False
        self._turn = contextlib.nullcontext()  # at one commit all that it remembers stays true

    def read_part(self, key: str, start: int, length: int) -> bytes:
        check_part(self.where, key, start, length)
        size = self.size(key)
        if size < 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.where}/{key}")
        length = min(length, size - start)
        if length <= 0:
            return b""
        # without its cache of a file, which reads megabytes ahead
        return self._ask(self._files.cat_file, self._path(key), start=start, end=start + length, cache_type="none")

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return {key: size for key, size in super().sizes(prefix).items() if key != HUBS_OWN}

    def write(self, key: str, content: bytes) -> None:
        raise self._only_read()

    def create(self, key: str) -> Growing:
        raise self._only_read()

    def remove(self, key: str) -> None:
        raise self._only_read()

    def lay_out(self, files: Iterable[tuple[str, bytes]]) -> bool:
        raise self._only_read()

    def _only_read(self) -> StoreError:
        return StoreError(f"{self.where}: on a hub a corpus is only read; make it in a folder, then synth push it")

    def _ask(self, method: Callable[..., Any], path: str, *content: object, **keywords: object) -> Any:
        try:
            with asking(self.where):
                return method(path, *content, **keywords)
        except NotThereError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        except UserError as error:
            raise StoreError(str(error)) from error
