"""What stores are put through."""

import errno
import hashlib
import os
from pathlib import Path

from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[2]
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def summed(content):
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def grow(store, key, *parts):
    writing = store.create(key)
    for part in parts:
        writing.append(part)
    return writing


def operations(store, key):
    """Yield what one can do with a key, each as a function."""
    yield lambda: store.read(key)
    yield lambda: store.read(key, 10)
    yield lambda: store.read_part(key, 0, 1)
    yield lambda: store.read_many([key])
    yield lambda: store.sha256(key)
    yield lambda: store.write(key, b"x")
    yield lambda: store.create(key)


def below(path):
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()}


def disk_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
