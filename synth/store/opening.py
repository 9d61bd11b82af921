"""The store at a path or a URL."""

from pathlib import Path

from scans.hub.address import on_hub
from synth.store.base import Store
from synth.store.folder import Folder


def open_store(where: str | Path) -> Store:
    """Return the store at a path or a URL, whether or not something is there.

    Raises
    ------
    StoreError
        If nothing here understands the URL, or a hub does not have it.

    Examples
    --------
    >>> open_store("s3://bucket/corpus.zarr")               # doctest: +SKIP
    >>> open_store("corpus.zarr").size("zarr.json")         # doctest: +SKIP
    """
    url = str(where)
    if isinstance(where, Path) or url.startswith("file://") or not ("://" in url or "::" in url):
        return Folder(url)
    if on_hub(url):
        from synth.store.hub import Hub

        return Hub(url)
    from synth.store.bucket import Bucket

    return Bucket(url)


def address(where: str | Path) -> str:
    """Return where a store is, for a worker that runs elsewhere."""
    store = open_store(where)
    return str(store.root) if isinstance(store, Folder) else store.where.rstrip("/")
