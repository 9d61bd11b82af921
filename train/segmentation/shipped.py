"""The network that comes with the software: where it lies. ``docs/network.md`` says of what it was made, and how."""

from collections.abc import Callable
from pathlib import Path

from scans.errors import CheckpointError
from train.network.checkpoint_place import checkpoint_at

FLAIR = Path(__file__).parents[1] / "shipped" / "flair.safetensors"


def checkpoint_or_shipped(
    given: str | Path | None, revision: str | None = None, say: Callable[[str], None] = lambda sentence: None
) -> Path:
    """Return a checkpoint that was given, or the one that comes with the software; parameters as of `checkpoint_at`.

    Raises
    ------
    CheckpointError
        If none was given, and the installation lacks its own or a revision was.
    HubError
        As of `checkpoint_at`.
    """
    if given is not None:
        return checkpoint_at(given, revision, say)
    if revision is not None:
        raise CheckpointError(f"--revision {revision}: give --checkpoint hf://org/name too, or leave it out")
    if not FLAIR.is_file():
        raise CheckpointError(
            f"{FLAIR}: the network that comes with the software is not there; install it again, or give --checkpoint"
        )
    return FLAIR
