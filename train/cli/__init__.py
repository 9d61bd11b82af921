"""The ``train`` command: parses, calls, prints."""

from scans.terminal import run
from train.cli import learn, look, use
from train.cli.application import app

__all__ = ["app", "learn", "look", "main", "use"]


def main() -> None:
    """Run the command line."""
    run(app, "stopped")
