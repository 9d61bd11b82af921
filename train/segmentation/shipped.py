"""The network that comes with the software: where it lies. ``docs/network.md`` says of what it was made, and how."""

from pathlib import Path

from scans.errors import CheckpointError

FLAIR = Path(__file__).parents[1] / "shipped" / "flair.safetensors"


def checkpoint_or_shipped(given: Path | None) -> Path:
    """Return a checkpoint that was given, or the one that comes with the software.

    Raises
    ------
    CheckpointError
        If none was given, and the installation lacks its own.
    """
    if given is not None:
        return given
    if not FLAIR.is_file():
        raise CheckpointError(
            f"{FLAIR}: the network that comes with the software is not there; install it again, or give --checkpoint"
        )
    return FLAIR
