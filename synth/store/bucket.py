"""A store behind a URL that fsspec understands: S3 and what speaks like it, Google Cloud, Azure, memory, and more.

Objects appear whole, so nothing here is renamed or locked: two writers of one shard write the same bytes.
"""

import contextlib
import errno
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager as ContextManager
from pathlib import Path
from typing import Any

import fsspec

from scans.errors import StoreError
from synth.store.base import Growing, Store, check_key, check_part, too_large

_AT_ONCE = 32  # requests under way
_PART = 2**24  # bytes of a file in memory at once, while it is summed up
_SPOOL = "layered-tumors."  # then the process that keeps it
_CREDENTIALS = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true if it is public"
_SERVER = "check the network, or set AWS_ENDPOINT_URL to the address of a server of your own"
_one_at_a_time = threading.Lock()  # for file systems that are no more than an object shared by all threads


class Bucket(Store):
    """A store behind a URL.

    Parameters
    ----------
    where : str
        E.g. ``s3://bucket/corpus.zarr``. Credentials and servers are taken from the environment.

    Raises
    ------
    StoreError
        If the URL's protocol is unknown, or needs a package that is not installed.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        protocol = where.partition("://")[0].rpartition("::")[2]
        self._s3 = protocol in ("s3", "s3a")
        try:  # listings are not remembered: others write there too
            self._files, root = fsspec.url_to_fs(where, use_listings_cache=False)
        except ImportError as error:
            what = "install layered-tumors[s3]" if self._s3 else str(error).rstrip(".")
            raise StoreError(f"{where}: the package for {protocol}:// is missing; {what}") from error
        except ValueError as error:
            raise StoreError(f"{where}: {error}; give a folder, or a URL such as s3://bucket/corpus.zarr") from error
        self._root = str(root).rstrip("/")
        if "file" in self._files.protocol or not (self._root or "memory" in self._files.protocol):
            raise StoreError(f"{where} names no bucket; give a folder, or a URL such as s3://bucket/corpus.zarr")
        self._turn: ContextManager[Any] = contextlib.nullcontext() if self._files.async_impl else _one_at_a_time

    def read(self, key: str, most: int | None = None) -> bytes:
        if most is None:
            return self._ask(self._files.cat_file, self._path(key))
        content = self.read_part(key, 0, most + 1)
        if len(content) > most:
            raise too_large(self.where, key, most)
        return content

    def read_part(self, key: str, start: int, length: int) -> bytes:
        check_part(self.where, key, start, length)
        try:
            if length:
                return self._ask(self._files.cat_file, self._path(key), start=start, end=start + length)
        except StoreError as error:  # some servers refuse what begins at the end
            if "range" not in str(error) or self.size(key) > start:
                raise
        if self.size(key) < 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.where}/{key}")
        return b""

    def read_many(self, keys: Iterable[str], most: int | None = None) -> dict[str, bytes]:
        def read(key: str) -> tuple[str, bytes | None]:
            try:
                return key, self.read(key, most)
            except FileNotFoundError:
                return key, None

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return {key: content for key, content in pool.map(read, keys) if content is not None}

    def size(self, key: str) -> int:
        try:
            found = self._ask(self._files.info, self._path(key))
        except FileNotFoundError:
            return -1
        return int(found["size"]) if found["type"] == "file" else -1

    def sizes(self, prefix: str = "") -> dict[str, int]:
        try:
            found = self._ask(self._files.find, self._path(prefix) if prefix else self._root, detail=True)
        except FileNotFoundError:
            return {}
        keys = ((name.removeprefix(self._root).lstrip("/"), entry) for name, entry in sorted(found.items()))
        return {key: int(entry["size"]) for key, entry in keys if key and not key.endswith("/")}  # "/": a web console's

    def sha256(self, key: str) -> str:
        digest, start = hashlib.sha256(), 0
        while True:
            part = self.read_part(key, start, _PART)
            digest.update(part)
            start += len(part)
            if len(part) < _PART:
                return digest.hexdigest()

    def write(self, key: str, content: bytes) -> None:
        self._ask(self._files.pipe_file, self._path(key), bytes(content))

    def create(self, key: str) -> Growing:
        path = self._path(key)
        return _Upload(lambda spool: self._ask(self._files.put_file, str(spool), path))

    def flush(self, folders: Iterable[str]) -> None:
        pass

    def remove(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._ask(self._files.rm_file, self._path(key))

    def only_writer(self, shared: bool = False) -> ContextManager[None]:
        return contextlib.nullcontext()

    def lay_out(self, files: Iterable[tuple[str, bytes]]) -> bool:
        for key, content in files:
            self.write(key, content)
        return True

    def is_empty(self) -> bool:
        try:
            return all(name == f"{self._root}/" for name in self._ask(self._files.ls, self._root, detail=False))
        except FileNotFoundError:
            return True

    def sweep(self) -> None:
        """Remove what killed processes of this machine were about to send."""
        for file in Path(tempfile.gettempdir()).glob(f"{_SPOOL}*"):
            with contextlib.suppress(ValueError, OSError):
                process = int(file.name.removeprefix(_SPOOL).partition(".")[0])
                try:
                    os.kill(process, 0)  # asks only whether it is there
                except ProcessLookupError:
                    file.unlink()

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}/{key}"

    def _ask(self, method: Callable[..., Any], path: str, *content: object, **keywords: object) -> Any:
        """Call a method of the file system; say in a sentence what the server has against it."""
        try:
            with self._turn:
                return method(path, *content, **keywords)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise StoreError(f"{self.where}: there is no such bucket; make it, or check its name") from error
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        except Exception as error:  # each cloud's package has errors of its own
            raise StoreError(f"{self.where}: {self._sentence(error)}") from error

    def _sentence(self, error: Exception) -> str:
        """Return what went wrong and what to do; by names, as the packages behind may not be installed."""
        names = [kind.__name__ for kind in type(error).__mro__]
        said = " ".join(str(error).split())[:300].rstrip(".") or names[0]
        if isinstance(error, PermissionError):
            return f"permission denied ({said}); ask for the right to it, or use other credentials"
        if any("Credentials" in name for name in names):
            return f"no credentials ({said}); {_CREDENTIALS if self._s3 else 'log in to the cloud that holds it'}"
        if isinstance(error, ConnectionError | TimeoutError) or any("Connect" in name for name in names):
            return f"the server does not answer ({said}); {_SERVER if self._s3 else 'check the network and the URL'}"
        return f"the server refuses ({said}); check the URL, and whether one can do this there"


class _Upload(Growing):
    """A file kept on the local disk, in the folder that TMPDIR names, and sent when it is whole."""

    def __init__(self, send: Callable[[Path], object]) -> None:
        descriptor, name = tempfile.mkstemp(prefix=f"{_SPOOL}{os.getpid()}.")
        os.close(descriptor)
        super().__init__(Path(name))
        self._send = send

    def _publish(self) -> None:
        self._send(self._temporary)


def _code(error: BaseException | None) -> str | None:
    """Return what S3 calls an error, or what led to it."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response.get("Error", {}).get("Code")
        error = error.__cause__
    return None
