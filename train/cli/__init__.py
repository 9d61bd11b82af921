"""The ``train`` command: parses, calls, prints."""

import os

from scans.terminal import out, run
from train.cli import learn, look, plan, share, use
from train.cli.application import app

__all__ = ["app", "learn", "look", "main", "plan", "share", "use"]


def main() -> None:
    """Run the command line; of several processes that train together the first alone prints what is not an error."""
    out.quiet = os.environ.get("RANK", "0") != "0"
    run(app, "stopped")
