"""The ``synth`` command: parses, calls, prints."""

from scans.terminal import run
from synth.cli import gather, hub, look, make, measure, mend, share
from synth.cli.application import app

__all__ = ["app", "gather", "hub", "look", "main", "make", "measure", "mend", "share"]


def main() -> None:
    """Run the command line."""
    run(app, "stopped; run the same command again to go on where it was")
