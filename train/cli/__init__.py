"""The ``train`` command: parses, calls, prints."""

from scans.terminal import run
from train.cli import learn, share, use
from train.cli.application import app

__all__ = ["app", "learn", "main", "share", "use"]


def main() -> None:
    """Run the command line."""
    run(app, "stopped")
